"""A step ends with the Snakemake that started it, and Snakemake with its `make`.

When Snakemake is killed, its jobs would run on and write while the next run starts the same
jobs. So each step watches the process that started it, Snakemake watches the `make` that
started it, and a Snakemake that is told to end (SIGTERM, Ctrl-C) ends its steps in place of
waiting for them.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import psutil

from vitrail import slurm

SECONDS = 0.2  # between two looks, where the kernel does not tell
STARTED_BY = "VITRAIL_SNAKEMAKE"  # variable that tells a step who started it
MAKE = "VITRAIL_MAKE"  # and one that tells Snakemake which `make` did
GRACE = 10.0  # seconds that Snakemake is given to end in order when its `make` is gone
AGAIN = 0.5  # seconds after which a signal is a second one; `make` and a terminal may both send

_jobs = False  # Snakemake has begun to start jobs
_on_slurm = False  # as jobs of SLURM
_told: list[float] = []  # when this Snakemake was first told to end
_seen: dict[int, psutil.Process] = {}  # what it then told to end


def this_process() -> str:
    """What Snakemake tells its steps: its process, and the namespace that counts it."""
    return f"{os.getpid()} {_namespace()}"


def _namespace() -> str:
    """In which a process number is meant: a container may count its own, as does each host."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{Path('/proc/self/ns/pid').readlink()} {kernel}"
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
        print(
            f"vitrail: the Snakemake that started this step is gone (process {told}), so the step "
            f"ends too; for a command of your own, first unset {STARTED_BY}",
            file=sys.stderr,
            flush=True,
        )
        _end()
        return
    # The shell between the two as well: without it Snakemake takes this step for ended.
    _watch(above[: numbers.index(int(told)) + 1], _end)


def end_with_make() -> None:
    """Tell this Snakemake to end as soon as the `make` that started it is gone.

    Killing `make` alone would leave Snakemake at work unseen, and the next run locked out.
    """
    told = os.environ.pop(MAKE, "")
    if not told.isdigit():
        return
    above = psutil.Process().parents()
    numbers = [one.pid for one in above]
    if int(told) in numbers:
        _watch(above[: numbers.index(int(told)) + 1], _end_in_order)
    else:  # killed while Snakemake was starting
        _end_in_order()


def _watch(chain: list[psutil.Process], end: Callable[[], None]) -> None:
    threading.Thread(target=_wait, args=(chain, end), name="watch", daemon=True).start()


def _wait(chain: list[psutil.Process], end: Callable[[], None]) -> None:
    """`psutil.Process.wait` would wait for the parent of a dead process to take note of it."""
    try:
        files = [os.pidfd_open(one.pid) for one in chain]
    except (AttributeError, OSError):  # not Linux, an old kernel, or gone already
        while all(map(_at_work, chain)):
            time.sleep(SECONDS)
    else:
        select.select(files, [], [])
    end()


def _at_work(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end() -> None:
    """At once: the files of a step are whole or not there, so nothing has to be put in order."""
    _kill(signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _end_in_order() -> None:
    """As if told by SIGTERM; and at once when that comes to nothing."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    _end()


def _kill(number: int) -> None:
    """Send a signal to every process that this one started, and to those that they started.

    A step that heeds no signal may have lost its shell to an earlier one, and with it its place
    among the children; so those that were told before are told again.
    """
    _seen.update((one.pid, one) for one in psutil.Process().children(recursive=True))
    for process in _seen.values():
        try:
            process.send_signal(number)
        except psutil.Error:
            continue  # it has ended


def end_when_told() -> None:
    """Let SIGTERM and SIGINT end this Snakemake with one sentence while it has no job yet."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def end_steps_when_told(on_slurm: bool = False) -> None:
    """Let SIGTERM and SIGINT end the running steps, then Snakemake as after Ctrl-C.

    Left alone, Snakemake waits for the running steps to finish, which may take longer than
    what sends SIGTERM (`docker stop`, systemd, a batch system) waits before it sends SIGKILL.

    Args:
        on_slurm: its steps are jobs of SLURM.
    """
    global _jobs, _on_slurm
    _jobs, _on_slurm = True, on_slurm
    end_when_told()  # again: Snakemake has put a handler of its own in between


def told() -> bool:
    """Whether this Snakemake has been told to end; then its last words are `_say`'s."""
    return bool(_told)


def _stop(number: int, frame: FrameType | None) -> None:
    """The first signal ends the steps and lets Snakemake tidy up; a second one ends all at once."""
    now = time.monotonic()
    if not _jobs or (_told and now - _told[0] > AGAIN):
        _end_as_told(number)
    if _told:
        return
    _told.append(now)
    atexit.register(_say, number)  # the last word, after what Snakemake says of its jobs
    if _on_slurm:
        atexit.register(slurm.cancel_own)
        # Snakemake would wait for its next look at the queue, which may be minutes away.
        hurry = threading.Timer(GRACE, _end_as_told, [number])
        hurry.daemon = True
        hurry.start()
    _kill(signal.SIGTERM)
    raise SystemExit(128 + number)


def _end_as_told(number: int) -> None:
    """At once, with all steps."""
    _kill(signal.SIGKILL)
    if _on_slurm:
        slurm.cancel_own()
    _say(number)
    os._exit(128 + number)


def _say(number: int) -> None:
    """Straight to the file: the signal may have come in the middle of a print."""
    said = (
        f"vitrail: stopped by {signal.Signals(number).name}, not by a mistake of the study; what "
        "is finished is kept, and the same command goes on\n"
    )
    try:
        os.write(2, said.encode())
    except OSError:  # the terminal is gone
        return
