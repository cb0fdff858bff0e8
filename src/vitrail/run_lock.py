"""A killed run does not stop the next one, and no two write the same files.

Snakemake marks its folder as locked in files, which stay when it is killed. Beside them every
Snakemake of this folder holds a lock of the kernel, which goes with the process whatever ends
it, and so does every step that it starts. Who gets the kernel's lock for itself alone knows
that no run is at work, so that Snakemake's own lock is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from vitrail import slurm
from vitrail.errors import VitrailError

FOLDER = Path(".snakemake")  # of the folder that Snakemake works in
RUNS, STEPS = FOLDER / "vitrail.runs.lock", FOLDER / "vitrail.steps.lock"
PATIENCE = 60.0  # seconds that the steps of a killed run are given to end
MOMENT = 10.0  # seconds that a run which was told to end is given

_held: dict[Path, int] = {}  # open files: closing one would give its lock back


def begin(main: bool, dry: bool, results: str = "results") -> None:
    """Hold the folder for this Snakemake, and clear away what a killed one has left.

    Args:
        main: this is the Snakemake that a user started, not one that it started for a job.
        dry: nothing will be written, so that others are not kept waiting.
        results: named in the sentences.

    Raises:
        VitrailError: another run is at work here, or steps of a killed run do not end.
    """
    if not main and slurm.inside():
        hold_step()  # a job that outlives its run must not pass for a run
        return
    if RUNS in _held or (runs := _open(RUNS)) is None:
        return
    _held[RUNS] = runs
    alone = main and _take(runs, fcntl.LOCK_EX)
    if main and not alone and not dry and _known(runs):
        _wait_for_run(runs)
        alone = True
    if main and not dry:
        slurm.end_left_jobs(alone)
    if alone:
        if not dry:
            _wait_for_steps(results)
        _forget_lock()
    if dry:
        os.close(_held.pop(RUNS))
    elif not _take(runs, fcntl.LOCK_SH):
        # Somebody looks for leftovers at this moment, or file locks are not known here.
        _take(runs, fcntl.LOCK_SH, seconds=PATIENCE)


def hold_step() -> None:
    """Let the next run see that this step is still there, however long it takes to end."""
    if STEPS not in _held and (steps := _open(STEPS)) is not None:
        _held[STEPS] = steps
        _take(steps, fcntl.LOCK_SH, seconds=1.0)


def _open(path: Path) -> int | None:
    """The lock's file; None where it cannot be had, as in a folder that is read-only."""
    try:
        path.parent.mkdir(exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def _take(file: int, kind: int, seconds: float = 0.0) -> bool:
    """Whether the lock could be had in that time; never where a file system has none."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        except OSError:  # some network file systems
            return False
        else:
            return True


def _wait_for_run(runs: int) -> None:
    """A run that was told to end, or whose `make` was, needs a moment; one at work is left alone.

    Snakemake itself would only refuse a second run that makes the same files, and would advise
    to remove the lock of the first.
    """
    if _take(runs, fcntl.LOCK_EX, 1.0):
        return
    print("vitrail: another run is here; waiting a moment for it to end", file=sys.stderr)
    if not _take(runs, fcntl.LOCK_EX, MOMENT):
        os.close(_held.pop(RUNS))
        raise VitrailError(
            f"another run is at work on {Path.cwd()} ({_named(RUNS)}); wait for it or end it, then "
            "run the same command again; its lock must not be removed"
        )


def _wait_for_steps(results: str) -> None:
    """Steps of a killed run end by themselves (`vitrail.watch`); see that they have."""
    steps = _open(STEPS)
    if steps is None:
        return
    try:
        if not _take(steps, fcntl.LOCK_EX, 1.0) and _known(steps):
            print("vitrail: waiting for steps of a killed run to end", file=sys.stderr)
            _wake(STEPS)
            if not _take(steps, fcntl.LOCK_EX, PATIENCE):
                raise VitrailError(
                    f"steps of a run that was killed are still at work on {results} "
                    f"({_named(STEPS)}); end them and run the same command again"
                )
    finally:
        os.close(steps)


def _known(file: int) -> bool:
    """Whether this file system has locks at all."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)  # two that wait must not keep each other waiting
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _holders(path: Path) -> list[psutil.Process]:
    """The other processes that have this file open, as far as the system lets us see them."""
    found, name = [], str(path.resolve())
    for process in psutil.process_iter():
        try:
            opened = process.pid != os.getpid() and any(
                file.path == name for file in process.open_files()
            )
        except (psutil.Error, OSError):
            continue
        if opened:
            found.append(process)
    return found


def _named(path: Path) -> str:
    numbers = [str(process.pid) for process in _holders(path)]
    if not numbers:
        return "of another user or on another machine"
    return f"process{'es' * (len(numbers) > 1)} {', '.join(numbers)}"


def _wake(path: Path) -> None:
    """A step that is stopped (Ctrl-Z, SIGSTOP) sees only then that its Snakemake is gone."""
    for process in _holders(path):
        try:
            if process.status() == psutil.STATUS_STOPPED:
                process.send_signal(signal.SIGCONT)
        except psutil.Error:
            continue


def _left_locks() -> list[Path]:
    return sorted((FOLDER / "locks").glob("*.lock"))


def _forget_lock() -> None:
    """Remove the lock files of a Snakemake that was killed."""
    left = _left_locks()
    for path in left:
        path.unlink(missing_ok=True)
    if left:
        print(
            "vitrail: the run before this one was killed; its lock is removed, and what it had "
            "not finished is made anew",
            file=sys.stderr,
        )
