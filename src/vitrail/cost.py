"""What each step costs: core-seconds, told at the end of its log and gathered from there."""

from __future__ import annotations

import gc
import math
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ASKED_FOR = "VITRAIL_COST"  # variable with which the workflow asks its steps to tell
_TOLD = re.compile(r"^vitrail: ([\d.]+) core-seconds$", re.MULTILINE)
_WHEN = re.compile(
    r"^vitrail: ([\d.]+) of them to start; from ([\d.]+) to ([\d.]+) on ([1-9]\d*) threads$",
    re.MULTILINE,
)
_STEPS = re.compile(r"^vitrail: ([\d.]+) core-seconds in its steps$", re.MULTILINE)
_CLUSTER = re.compile(r"^vitrail: its steps were jobs of (.+)$", re.MULTILINE)
# Where the log of a study keeps what Snakemake itself cost, below results/<study>.
SNAKEMAKE = Path("logs", "snakemake.log")
HERE = "local"  # Snakemake's name of the executor that runs jobs on its own machine

_started: list[float] = []  # core-seconds of this process when its work began


class Told(NamedTuple):
    """What a log tells: core-seconds, those to start, and the span by the clock.

    `begun` and `ended` are seconds since 1970; these, `starting` and `threads` are NaN in the
    log of a version that did not tell them.
    """

    core_seconds: float
    starting: float = math.nan
    begun: float = math.nan
    ended: float = math.nan
    threads: float = math.nan

    @property
    def seconds(self) -> float:
        """By the clock."""
        return self.ended - self.begun


def begin() -> None:
    """The process has started: what it used so far went into imports, or into planning."""
    _started[:] = [_own()]


def _own() -> float:
    used = os.times()
    return used.user + used.system


def tell() -> None:
    """Print the core-seconds of this process and of those that it waited for, if asked to.

    Snakemake's `benchmark` would not do: it looks at a process every half minute, and so misses
    most of a short one.
    """
    if not os.environ.get(ASKED_FOR):
        return
    used = os.times()
    # Snakemake tells each step in these variables how many threads it may use.
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    print(
        _lines(_own() + used.children_user + used.children_system, threads),
        file=sys.stderr, flush=True,
    )  # fmt: skip


def end_soon() -> None:
    """Let Python end without looking for garbage in all that was imported.

    A step with torch and timm otherwise takes a core-second more after its work. What is to be
    done at the end of a process is still done; a process of no workflow is left as it is.
    """
    if os.environ.get(ASKED_FOR):
        gc.freeze()


def tell_of_snakemake(folder: Path, cores: int, executor: str = HERE) -> None:
    """Add to the study's log what this Snakemake has cost: itself, and apart all its steps.

    Its own process is left out of what its steps tell. Nothing is said where the folder cannot
    be written: the run is over, and has said so itself.

    Args:
        folder: ``results/<study>``.
        cores: that it had.
        executor: Snakemake's name of what ran its jobs.
    """
    used, log = os.times(), folder / SNAKEMAKE
    told = _lines(_own(), str(cores))
    told += (
        f"\nvitrail: {used.children_user + used.children_system:.2f} core-seconds in its steps\n"
    )
    if executor not in (HERE, "touch"):
        told += f"vitrail: its steps were jobs of {executor}\n"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(told)
    except OSError:
        return


def _lines(seconds: float, threads: str) -> str:
    import psutil

    starting = _started[0] if _started else 0.0
    begun = psutil.Process().create_time()
    count = threads if threads.isdigit() else "1"
    return (
        f"vitrail: {seconds:.2f} core-seconds\n"
        f"vitrail: {starting:.2f} of them to start; from {begun:.2f} to {time.time():.2f} "
        f"on {count} threads"
    )


def told(logs: Iterable[Path]) -> list[Told]:
    """What each of these logs ends with; a log without core-seconds is left out.

    A step of two commands has told twice in its log, which counts together.
    """
    return [one for log in logs for one in [told_by(log)] if one is not None]


def told_by(log: Path) -> Told | None:
    """What a log ends with, or None."""
    text = log.read_text(encoding="utf-8", errors="replace")
    seconds = [float(number) for number in _TOLD.findall(text)]
    if not seconds:
        return None
    found = [tuple(map(float, numbers)) for numbers in _WHEN.findall(text)]
    if len(found) < len(seconds):  # an older version
        return Told(sum(seconds))
    starting, begun, ended, threads = zip(*found, strict=True)
    return Told(sum(seconds), sum(starting), min(begun), max(ended), max(threads))


def spans(log: Path) -> list[tuple[float, float, int]]:
    """When each run of this log began and ended (seconds since 1970), and its threads."""
    found = _WHEN.findall(log.read_text(encoding="utf-8"))
    return [(float(begun), float(ended), int(threads)) for _, begun, ended, threads in found]


def in_steps(log: Path) -> float:
    """Core-seconds of everything that the Snakemakes of this log have started."""
    return sum(map(float, _STEPS.findall(log.read_text(encoding="utf-8"))))


def cluster(log: Path) -> str:
    """What ran the steps of a Snakemake of this log elsewhere, such as slurm; empty if none did."""
    found = _CLUSTER.search(log.read_text(encoding="utf-8"))
    return found[1] if found else ""


def in_one_run(folder: Path) -> bool:
    """Whether a single Snakemake has made all that there is of a study.

    One that was killed has told nothing. But what it has made is older than the next one.

    Args:
        folder: ``results/<study>``.
    """
    runs = spans(folder / SNAKEMAKE)
    logs = (log for log in (folder / "logs").rglob("*.log") if log != folder / SNAKEMAKE)
    # Times are told to a hundredth of a second, and two clocks of the system may differ by more.
    earliest = min((one.begun for one in told(logs) if one.begun == one.begun), default=math.inf)
    return len(runs) == 1 and earliest >= runs[0][0] - 1
