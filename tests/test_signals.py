"""Ctrl-C, SIGTERM, and a `make` that is killed: everything ends, with a sentence at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from small_workflow import ROOT, Small, gone, within

GOES_ON = "the same command goes on"
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path.resolve())
    yield made
    made.end()


@BOTH
def test_a_signal_ends_snakemake_and_its_steps_in_seconds(
    small: Small, number: signal.Signals
) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    os.kill(snakemake.pid, number)  # to Snakemake alone, unlike Ctrl-C
    said, _ = snakemake.communicate(timeout=10)
    assert snakemake.returncode != 0
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"vitrail: stopped by {number.name}")
    assert last.endswith(GOES_ON)
    assert small.steps() == []
    small.let_go()
    code, said = small.run()
    assert code == 0, said


@BOTH
def test_a_signal_while_snakemake_reads_the_workflow_is_one_sentence(
    small: Small, number: signal.Signals
) -> None:
    snakemake = small.start("--config", "slow=1")
    small.wait_for("parsing")
    os.kill(snakemake.pid, number)
    said, _ = snakemake.communicate(timeout=10)
    assert snakemake.returncode == 128 + number
    assert said.strip().splitlines()[-1].startswith(f"vitrail: stopped by {number.name}")
    assert "Traceback" not in said


def test_a_second_signal_ends_steps_that_take_no_notice_of_the_first(small: Small) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    steps = small.steps()
    for step in steps:  # then SIGTERM stays pending
        step.suspend()
    os.kill(snakemake.pid, signal.SIGINT)
    time.sleep(1.5)
    assert snakemake.poll() is None
    os.kill(snakemake.pid, signal.SIGINT)
    said, _ = snakemake.communicate(timeout=10)
    assert snakemake.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].endswith(GOES_ON)
    assert within(5, lambda: all(map(gone, steps))), [one for one in steps if not gone(one)]
    small.let_go()
    code, said = small.run()
    assert code == 0, said


def test_a_step_that_lost_its_shell_to_the_first_signal_ends_at_the_second() -> None:
    """Its shell dies of SIGTERM, so that Snakemake no longer counts it among its children."""
    code = """
import signal, subprocess, sys, time
from vitrail import watch
step = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
step += "print(1, flush=True); time.sleep(60)"
words = ["bash", "-c", f"{sys.executable} -c '{step}'; true"]
shell = subprocess.Popen(words, stdout=subprocess.PIPE)
shell.stdout.readline()
watch._kill(signal.SIGTERM)
shell.wait()
watch._kill(signal.SIGKILL)
assert shell.stdout.read() == b""  # the step had it open too
"""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
    assert time.monotonic() - start < 40


def recipe() -> str:
    """What `make report` puts before the word snakemake."""
    found = re.search(r"^SNAKEMAKE := (.*)snakemake ", (ROOT / "Makefile").read_text(), re.M)
    assert found
    return found[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("nested", "number"),
    [(False, signal.SIGKILL), (True, signal.SIGKILL), (False, signal.SIGTERM)],
)
def test_snakemake_ends_with_the_make_that_started_it(
    small: Small, nested: bool, number: signal.Signals
) -> None:
    smoke = re.search(r"^smoke:.*\n\t(.*)report ", (ROOT / "Makefile").read_text(), re.M)
    assert smoke
    (small.folder / "Makefile").write_text(
        f"report:\n\t{recipe()}$(RUN)\nsmoke:\n\t{smoke[1]}report RUN='$(RUN)'\n"
    )
    words = " ".join([*small.COMMAND, "--nocolor"])
    make = small.begin(["make", "smoke" if nested else "report", f"RUN={words}"])
    small.wait_for("one.beat", "two.beat")
    below = psutil.Process(make.pid).children(recursive=True)
    assert len(below) >= 5
    os.kill(make.pid, number)
    # At once, as somebody does who repeats the command.
    small.let_go()
    code, said = small.run()
    assert code == 0, said
    assert all(map(gone, below)), below
    assert GOES_ON in make.communicate(timeout=10)[0]
