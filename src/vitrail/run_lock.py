"""A killed run does not stop the next one, and no two write the same files.

Snakemake marks its folder as locked in files, which stay when it is killed. Beside them every
Snakemake of this folder holds a lock of the kernel, which goes with the process whatever ends
it, and so does every step that it starts. Who gets the kernel's lock for itself alone knows
that no run is at work, so that Snakemake's own lock is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from vitrail.errors import VitrailError

FOLDER = Path(".snakemake")  # of the folder that Snakemake works in
RUNS, STEPS = FOLDER / "vitrail.runs.lock", FOLDER / "vitrail.steps.lock"
PATIENCE = 60.0  # seconds that the steps of a killed run are given to end

_held: dict[Path, int] = {}  # open files: closing one would give its lock back


def begin(main: bool, dry: bool, results: str = "results") -> None:
    """Hold the folder for this Snakemake, and clear away what a killed one has left.

    Args:
        main: this is the Snakemake that a user started, not one that it started for a job.
        dry: nothing will be written, so that others are not kept waiting.
        results: named in the sentences.

    Raises:
        VitrailError: steps of a killed run do not end.
    """
    if RUNS in _held or (runs := _open(RUNS)) is None:
        return
    _held[RUNS] = runs
    alone = main and _take(runs, fcntl.LOCK_EX)
    if alone:
        if not dry:
            _wait_for_steps(results)
        _forget_lock()
    elif main and not dry and _left_locks():
        print(
            f"vitrail: another run is at work on {Path.cwd()}; where both make the same files, "
            "Snakemake stops here, and the same command goes on when that run has ended",
            file=sys.stderr,
        )
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


def _wait_for_steps(results: str) -> None:
    """Steps of a killed run end by themselves (`vitrail.watch`); see that they have."""
    steps = _open(STEPS)
    if steps is None:
        return
    try:
        if not _take(steps, fcntl.LOCK_EX, 1.0) and _known(steps):
            print("vitrail: waiting for steps of a killed run to end", file=sys.stderr)
            if not _take(steps, fcntl.LOCK_EX, PATIENCE):
                raise VitrailError(
                    f"steps of a run that was killed are still at work on {results}; end them "
                    f"(`fuser {STEPS}` names their processes) and run the same command again"
                )
    finally:
        os.close(steps)


def _known(file: int) -> bool:
    """Whether this file system has locks at all."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


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
