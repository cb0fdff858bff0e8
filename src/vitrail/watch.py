"""A step ends with the Snakemake that started it.

When Snakemake is killed, its jobs would run on and write while the next run starts the same
jobs. So each step watches the process that started it, and a Snakemake that is told to end
(SIGTERM, Ctrl-C) ends its steps in place of waiting for them.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import psutil

SECONDS = 0.2  # between two looks, where the kernel does not tell
STARTED_BY = "VITRAIL_SNAKEMAKE"  # variable that tells a step who started it


def this_process() -> str:
    """What Snakemake tells its steps: its process, and the namespace that counts it."""
    return f"{os.getpid()} {_namespace()}"


def _namespace() -> str:
    """In which a process number is meant; a container may count its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        return ""


def started_by_snakemake() -> bool:
    """Whether this process runs in a step of the workflow."""
    return bool(os.environ.get(STARTED_BY))


def watch() -> None:
    """End this process, and those that it started, as soon as its Snakemake is gone.

    Nothing happens in a step that was not started by Snakemake, as when a printed command is
    copied into a shell.
    """
    told, _, namespace = os.environ.get(STARTED_BY, "").partition(" ")
    if not told or namespace != _namespace():
        return
    above = psutil.Process().parents()
    numbers = [one.pid for one in above]
    if int(told) not in numbers:  # it was killed while this step was starting
        _end()
        return
    # The shell between the two as well: without it Snakemake takes this step for ended.
    chain = above[: numbers.index(int(told)) + 1]
    threading.Thread(target=_wait, args=(chain,), name="watch", daemon=True).start()


def _wait(chain: list[psutil.Process]) -> None:
    """`psutil.Process.wait` would wait for the parent of a dead process to take note of it."""
    try:
        files = [os.pidfd_open(one.pid) for one in chain]
    except (AttributeError, OSError):  # not Linux, an old kernel, or gone already
        while all(map(_at_work, chain)):
            time.sleep(SECONDS)
    else:
        select.select(files, [], [])
    _end()


def _at_work(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end() -> None:
    """At once: the files of a step are whole or not there, so nothing has to be put in order."""
    _kill(signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _kill(number: int) -> None:
    """Send a signal to every process that this one started, and to those that they started."""
    for process in psutil.Process().children(recursive=True):
        try:
            process.send_signal(number)
        except psutil.Error:
            continue  # it has ended


def end_steps_when_told() -> None:
    """Let SIGTERM and SIGINT end the running steps, then Snakemake as after Ctrl-C.

    Left alone, Snakemake waits for the running steps to finish, which may take longer than
    what sends SIGTERM (`docker stop`, systemd, a batch system) waits before it sends SIGKILL.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        _kill(signal.SIGTERM)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
