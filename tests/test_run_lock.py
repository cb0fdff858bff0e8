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
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from vitrail import run_lock, watch
from vitrail.errors import VitrailError

ROOT = Path(__file__).parents[1]

# As in workflow/rules/common.smk and the Snakefile.
SNAKEFILE = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "src")!r})
from vitrail.steps import begin_run, set_paths
from vitrail.watch import end_steps_when_told

set_paths(Path({str(ROOT)!r}))
begin_run(workflow.is_main_process, workflow.output_settings.dryrun)

onstart:
    end_steps_when_told()

rule all:
    input: "one.txt", "two.txt"

rule step:
    output: "{{name}}.txt"
    log: "{{name}}.log"
    shell: "python step.py {{output}} > {{log}} 2>&1"
"""

# It writes for ever, in itself and in a process that it has started, until it is let go.
STEP = """
import subprocess, sys, time
from pathlib import Path
from vitrail.errors import run_command

def main():
    out = Path(sys.argv[1])
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    beat = out.with_suffix(".beat")
    while not Path("go").exists():
        beat.write_text(str(time.monotonic()))
        time.sleep(0.02)
    other.kill()
    out.write_text("done")

run_command(main)
"""


class Small:
    """The small workflow in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "step.py").write_text(STEP)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete"]
        process = subprocess.Popen(
            [*command, *arguments], cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def wait_for(self, *names: str) -> None:
        """Until both steps are at work."""
        end = time.monotonic() + 60
        while not all((self.folder / name).exists() for name in names):
            assert time.monotonic() < end, f"{names} are not there"
            time.sleep(0.05)

    def steps(self) -> list[psutil.Process]:
        """The processes at work here, without Snakemake itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and "snakemake" not in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def let_go(self) -> None:
        (self.folder / "go").touch()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path.resolve())
    yield made
    made.let_go()
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def gone(process: psutil.Process) -> bool:
    """Ended; perhaps nobody has taken note of it yet, as in a container without init."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_snakemake_and_its_steps_in_seconds(
    small: Small, number: signal.Signals
) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    os.kill(snakemake.pid, number)  # to Snakemake alone, unlike Ctrl-C
    said, _ = snakemake.communicate(timeout=10)
    assert snakemake.returncode != 0
    assert "Traceback" not in said
    assert small.steps() == []
    small.let_go()
    code, said = small.run()
    assert code == 0, said


def test_a_run_at_work_keeps_its_lock(small: Small) -> None:
    first = small.start()
    small.wait_for("one.beat", "two.beat")
    code, said = small.run()
    assert code != 0
    assert "another run is at work" in said
    assert "LockException" in said
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
        [sys.executable, "step.py", "late.txt"], cwd=small.folder, env=environment, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
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
    monkeypatch.setattr(watch, "_end", lambda: ended.append(True))
    if not kernel_tells:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process.kill()  # and not waited for: it stays a zombie
    watch._wait([psutil.Process(), psutil.Process(process.pid)])
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
        with pytest.raises(VitrailError, match="still at work"):
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
