"""Jobs that an earlier run has left, with a stand-in for squeue and scancel; and what a job knows.

tests/test_slurm.py has a real SLURM.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitrail import slurm, watch
from vitrail.errors import VitrailError

RUN = "vitrail_0a1b2c3d-0000-4000-8000-0123456789ab"
OTHER = "1" + RUN.removeprefix("vitrail_")[1:]
HERE = os.uname().nodename


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets what squeue says; scancel notes its words and empties the queue."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    slurm.NOTE.parent.mkdir()

    def script(name: str, text: str) -> None:
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)

    def say(*jobs: tuple[Any, ...], fails: str = "", host: str = HERE) -> None:
        slurm.NOTE.write_text(host)
        (tmp_path / "queue").write_text("".join("|".join(map(str, job)) + "\n" for job in jobs))
        script("squeue", f"cat {tmp_path}/queue" if not fails else f"echo '{fails}' >&2; exit 1")
        script("scancel", f"echo $* >> {tmp_path}/cancelled; : > {tmp_path}/queue")

    return say


def test_only_jobs_of_this_folder_are_ended(queue: Callable[..., None], tmp_path: Path) -> None:
    queue(
        (1, RUN, tmp_path),
        (2, OTHER, tmp_path),  # without the shipped profile
        (3, RUN, tmp_path / "clone"),
        (4, "jupyter", tmp_path),
    )
    slurm.end_left_jobs(alone=True)
    assert (tmp_path / "cancelled").read_text() == f"--user={os.getuid()} --name={OTHER},{RUN}\n"
    assert not slurm.NOTE.exists()


@pytest.mark.parametrize(("host", "alone"), [("login2", True), (HERE, False)])
def test_jobs_of_a_run_that_may_be_alive_are_named(
    queue: Callable[..., None], tmp_path: Path, host: str, alone: bool
) -> None:
    queue((7, RUN, tmp_path), ("9_4", RUN, tmp_path), host=host)
    with pytest.raises(
        VitrailError, match=rf"jobs 7, 9_4 of.*on {host};.*\(scancel --name={RUN}\)"
    ):
        slurm.end_left_jobs(alone)
    assert not (tmp_path / "cancelled").exists()
    assert slurm.NOTE.exists()


def test_a_slurm_that_does_not_answer_is_not_taken_for_an_empty_queue(
    queue: Callable[..., None],
) -> None:
    queue(fails="slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(VitrailError, match=r"does not answer \(squeue: slurm_load_jobs error"):
        slurm.end_left_jobs(alone=True)
    slurm.NOTE.unlink()
    slurm.end_left_jobs(alone=True)  # a folder that has submitted nothing asks nobody


def test_a_step_on_another_host_looks_for_no_process_of_the_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All hosts name their first process namespace alike, so that the boot is told too."""
    number, namespace, boot = watch.this_process().split(" ")
    monkeypatch.setenv(watch.STARTED_BY, f"{int(number) + 1} {namespace} {boot[::-1]}")
    watch.watch()
    assert capfd.readouterr().err == ""


def test_a_job_has_the_cpus_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that takes all cores would ask for more than its job may have, and be refused."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    assert slurm.cpus() == 0
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert slurm.cpus() == 3


@pytest.mark.parametrize(
    ("says", "warns"),
    [
        ("echo 'MinJobAge               = 60 sec'", True),
        ("echo 'MinJobAge = 299'", True),
        ("echo 'MinJobAge               = 300 sec'", False),
        ("echo 'slurm_load_ctl_conf error' >&2; exit 1", False),
        ("printf 'MinJobAge = \\377'", False),
        ("echo nothing of it", False),
        (None, False),
    ],
)
def test_a_slurm_that_forgets_jobs_too_early_is_named(
    says: str | None,
    warns: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.chdir(tmp_path)
    if says is not None:
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}" if says is None else f"{tmp_path}:/usr/bin:/bin")
    assert slurm.take_note("slurm")
    said = capfd.readouterr().err
    assert ("forgets ended jobs" in said) == warns
    assert said.count("\n") == warns
    assert not slurm.take_note("local")
    assert capfd.readouterr().err == ""


def test_the_executor_looks_as_seldom_as_is_written() -> None:
    """What is asked of MinJobAge is more than its longest pause."""
    executor = pytest.importorskip("snakemake_executor_plugin_slurm")
    found = re.findall(r"max_sleep_time = (\d+)$", inspect.getsource(executor), re.MULTILINE)
    assert found == ["180"]
    assert slurm.REMEMBER > 180
