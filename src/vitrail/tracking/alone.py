"""One sync of a question at a time, however many were started.

MLflow has no unique name for a run: two processes that both find a run missing both log it.
So a sync holds a lock of the operating system on a file in the question's folder. The system
lets go of it when the process ends, also by `kill -9`, so nobody ever unlocks by hand.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until nobody else holds the lock file, and hold it for the block.

    The file stays: to delete it would let a third process lock another file of the same name.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder for drafts. Only for who holds the lock: what a killed process left goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
