"""When jobs of a cluster begin and end; Snakemake says when it submits them, and looks seldom.

A job begins when its log is written anew: each step opens its log first. It has ended when its log
tells what it cost and its first output was made anew, minutes before Snakemake may see it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitrail.cost import told_by
from vitrail.progress.bars import end_of
from vitrail.progress.notes import FINISHED, RUNNING, Job

Note = tuple[str, int, float]  # its kind, the job's number, seconds since the epoch


class Elsewhere:
    """The jobs that were submitted, looked at again and again."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = {job.number: job for job in jobs}
        self._before: dict[int, tuple[int | None, int | None]] = {}  # its log and its output
        self._running: set[int] = set()
        self._seen: dict[int, int | None] = {}

    def submit(self, number: int) -> None:
        """To be called before the job can have begun."""
        job = self._jobs[number]
        self._running.discard(number)
        self._before[number] = (_time_of(job.log), _time_of(job.target))

    def look(self) -> Iterator[Note]:
        """What has happened since the last look: ends first, as a node that is free is given on."""
        for number in sorted(self._running):
            yield from self._over(number)
        for number in sorted(self._before.keys() - self._running):
            yield from self._begun(number)

    def end(self, number: int) -> Iterator[Note]:
        """What is still to be noted of a job that Snakemake takes for finished."""
        if number not in self._before:
            return
        if number not in self._running:
            yield from self._begun(number)
        if number in self._before:
            log = self._jobs[number].log
            fresh = number in self._running and bool(log)
            del self._before[number]
            self._running.discard(number)
            yield FINISHED, number, (_seconds(log) if fresh else None) or time.time()

    def fail(self, number: int) -> None:
        """Snakemake takes the job for failed."""
        self._before.pop(number, None)
        self._running.discard(number)

    def _begun(self, number: int) -> Iterator[Note]:
        log = self._jobs[number].log
        if not log:  # nothing tells
            self._running.add(number)
            yield RUNNING, number, time.time()
            return
        if (changed := _time_of(log)) is None or changed == self._before[number][0]:
            return
        self._running.add(number)
        self._seen.pop(number, None)
        yield RUNNING, number, changed / 1e9 - _took(log)
        yield from self._over(number)

    def _over(self, number: int) -> Iterator[Note]:
        job = self._jobs[number]
        made = _time_of(job.target)
        if not job.log or made is None or made == self._before[number][1]:
            return
        if (changed := _time_of(job.log)) == self._seen.get(number):
            return  # read already
        self._seen[number] = changed
        if changed is not None and _took(job.log):
            del self._before[number]
            self._running.discard(number)
            yield FINISHED, number, changed / 1e9


def _took(log: str) -> float:
    """Seconds that a log's job took by the clock of its machine; 0 until it has ended."""
    path = Path(log)
    try:  # of a long log that still grows, the end alone
        told = told_by(path) if "core-seconds" in end_of(path) else None
    except OSError:
        return 0.0
    return 0.0 if told is None or math.isnan(told.seconds) else told.seconds


def _seconds(path: str) -> float | None:
    changed = _time_of(path)
    return None if changed is None else changed / 1e9


def _time_of(path: str) -> int | None:
    """When a file was written, in ns since the epoch; None where there is none."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return None
