"""What a killed Snakemake leaves does not stop the next: lock, running steps, signals.

A workflow of one slow step stands for the study; the study itself is killed in
tests/test_faults.py.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from small_workflow import ROOT, Small, gone, within
from stub_project import Project
from vitrail import run_lock, watch
from vitrail.errors import VitrailError


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path.resolve())
    yield made
    made.end()


def test_sigkill_leaves_no_lock_and_no_step(small: Small) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    assert len(small.steps()) >= 4  # both steps and what they started
    os.kill(snakemake.pid, signal.SIGKILL)
    assert within(5, lambda: not small.steps()), small.steps()
    assert list((small.folder / ".snakemake" / "locks").iterdir())
    small.let_go()
    code, said = small.run()
    assert code == 0, said
    assert "its lock is removed" in said
    assert "LockException" not in said
    assert (small.folder / "two.txt").read_text() == "done"
    assert "its lock is removed" not in small.run()[1]


def test_a_step_ends_with_the_shell_that_snakemake_waits_for(small: Small) -> None:
    """Otherwise Snakemake takes it for ended and starts it again while it writes."""
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    shell, other = [one for one in small.steps() if "bash" in one.name()]
    below = shell.children(recursive=True)
    assert len(below) == 2  # the step and what it started
    shell.kill()
    assert within(5, lambda: all(map(gone, below))), below
    assert snakemake.poll() is None
    assert other.is_running()  # Snakemake is there, and so is its other step
    small.let_go()
    snakemake.communicate(timeout=60)
    assert snakemake.returncode != 0


def test_a_run_at_work_keeps_its_lock(small: Small) -> None:
    first = small.start()
    small.wait_for("one.beat", "two.beat")
    code, said = small.run()
    assert code != 0
    last = said.strip().splitlines()[-1]
    assert f"another run is at work on {small.folder} (process {first.pid})" in last
    assert "LockException" not in said
    assert "--unlock" not in said
    # Not even by who asks for it: the other run would be broken.
    assert "another run is at work" in small.run("--unlock")[1]
    # A dry run and a list of the rules are answered, and disturb nothing.
    assert small.run("-n")[0] == 0
    assert small.run("--list")[0] == 0
    assert list((small.folder / ".snakemake" / "locks").iterdir())
    small.let_go()
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said


def test_a_copied_command_is_watched_by_nobody(small: Small) -> None:
    environment = {k: v for k, v in os.environ.items() if k != watch.STARTED_BY}
    environment["PYTHONPATH"] = str(ROOT / "src")
    small.let_go()
    done = subprocess.run(
        [sys.executable, "step.py", "alone.txt"], cwd=small.folder, env=environment, timeout=60
    )
    assert done.returncode == 0
    assert not (small.folder / run_lock.STEPS).exists()


def test_a_step_whose_snakemake_is_gone_does_nothing(small: Small) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    namespace = watch.this_process().partition(" ")[2]
    environment = os.environ | {watch.STARTED_BY: f"{gone} {namespace}"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run(
        [sys.executable, "step.py", "late.txt"], cwd=small.folder, env=environment, timeout=60,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert done.stderr.startswith("vitrail: the Snakemake that started this step is gone")
    assert watch.STARTED_BY in done.stderr
    assert not (small.folder / "late.beat").exists()
    # Counted by another container: nobody here can be meant.
    environment[watch.STARTED_BY] = f"{gone} pid:[1]"
    small.let_go()
    done = subprocess.run(
        [sys.executable, "step.py", "late.txt"], cwd=small.folder, env=environment, timeout=60
    )
    assert done.returncode == 0


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_a_dead_process_counts_as_gone_before_its_parent_takes_note(
    monkeypatch: pytest.MonkeyPatch, kernel_tells: bool
) -> None:
    ended = []
    if not kernel_tells:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process.kill()  # and not waited for: it stays a zombie
    watch._wait([psutil.Process(), psutil.Process(process.pid)], lambda: ended.append(True))
    assert ended
    process.wait()


def test_a_step_that_does_not_end_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_lock, "_held", {})
    monkeypatch.setattr(run_lock, "PATIENCE", 0.2)
    run_lock.FOLDER.mkdir()
    with run_lock.STEPS.open("w") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_SH)
        # Its own process holds it here, and is not named as somebody else.
        with pytest.raises(VitrailError, match=r"still at work on results \(of another user"):
            run_lock.begin(main=True, dry=False)
    assert "waiting for steps" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["no locks", "read-only"])
def test_without_file_locks_snakemakes_own_lock_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """On some network file systems nobody can know who is at work."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_lock, "_held", {})
    left = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    left.parent.mkdir(parents=True)
    left.touch()
    if broken == "no locks":
        monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(run_lock.os, "open", refuse)
    monkeypatch.setattr(run_lock, "PATIENCE", 0.1)
    run_lock.begin(main=True, dry=False)
    assert left.exists()


HOLD = """
import sys, time
from vitrail import run_lock
run_lock.begin(main=True, dry="dry" in sys.argv)
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("dry", [True, False])
def test_a_run_shares_the_folder_and_a_dry_run_gives_it_back(tmp_path: Path, dry: bool) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, *(["dry"] if dry else [])], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with (tmp_path / run_lock.RUNS).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # the Snakemake of a job
            if dry:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        holder.kill()
        holder.communicate()


def test_a_stopped_step_of_a_killed_run_ends_too(small: Small) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    step = next(one for one in small.steps() if "one.txt" in one.cmdline() and one.children())
    step.suspend()
    os.kill(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    assert not within(1, lambda: gone(step))
    small.let_go()
    code, said = small.run()  # which gives up after 60 s, too
    assert code == 0, said
    assert "waiting for steps" in said
    assert gone(step)


@pytest.mark.parametrize("cores", [(), ("--cores", "1")])
def test_unlock_works_where_the_docs_name_it(
    copy_project: Callable[[Path], Path], tmp_path: Path, cores: tuple[str, ...]
) -> None:
    done = Project(copy_project(tmp_path / "project")).snakemake("--unlock", *cores)
    assert done.returncode == 0, done.stdout
    assert "Unlocked working directory" in done.stdout
