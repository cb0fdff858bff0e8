"""How much of the work is done, and how long the rest will take: arithmetic alone.

The work of a job is what it is expected to take, in seconds times threads; how fast this machine
does it, today and beside everything else, is measured: seconds that jobs took over the seconds
that were expected of them. Until enough was measured there is no estimate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from vitrail.progress.bars import Bar
from vitrail.progress.notes import FAILED, FINISHED, RUNNING, WAITING, Job, Stand

ENOUGH = 30.0  # seconds of jobs that have to be measured before an estimate is made
RECENT = 120.0  # seconds for which a job that has ended still shows that a cluster had room for it


@dataclass(frozen=True)
class Step:
    """A job, how it stands, and the progress line of its log while it runs."""

    job: Job
    stand: Stand
    bar: Bar | None = None

    @property
    def part(self) -> int | None:
        """Which of the job's runs its bar is about; None when the bar is not one of a run."""
        if self.bar is None:
            return None
        if self.bar.title in self.job.runs:
            return self.job.runs.index(self.bar.title)
        return None

    @property
    def share(self) -> float:
        """The part of the job that is done, in [0, 1]; 0 where it does not tell."""
        if self.stand.state == FINISHED:
            return 1.0
        if self.stand.state != RUNNING or self.bar is None:
            return 0.0
        if (part := self.part) is not None:
            done = sum(self.job.parts[:part]) + self.bar.share * self.job.parts[part]
            return done / sum(self.job.parts)
        # The only bar of its job; others have several, one after the other.
        return self.bar.share if self.job.rule == "pretrain" else 0.0

    def left(self, slowness: float | None, now: float) -> float | None:
        """Seconds that the job still needs; None when it cannot be said yet.

        Args:
            slowness: as in `slowness`.
            now: seconds since the epoch.
        """
        if self.stand.state == FINISHED:
            return 0.0
        whole = self.whole()
        if whole is not None and self.bar is not None and self.bar.left is not None:
            part = self.part
            after = 0.0 if part is None else sum(self.job.parts[part + 1 :])
            here = self.job.expected if part is None else self.job.parts[part]
            return self.bar.left + after * whole / here
        if slowness is None:
            return None
        spent = max(0.0, now - self.stand.started) if self.stand.started else 0.0
        running = self.stand.state == RUNNING
        return max(self.job.expected * slowness - (spent if running else 0.0), 0.0)

    def whole(self) -> float | None:
        """Seconds that the bar's run would take from its first step to its last, as it goes now.

        Not from the time since its start, which a training that goes on has not spent alone.
        """
        bar = self.bar
        if self.stand.state != RUNNING or bar is None or bar.left is None or bar.share >= 1:
            return None
        if self.part is None and self.job.rule != "pretrain":
            return None
        return bar.left / (1 - bar.share)


def without(job: Job, runs: Collection[str]) -> Job:
    """A job that is not expected to spend time on these of its runs."""
    if not runs:
        return job
    parts = tuple(
        0.0 if run in runs else part for run, part in zip(job.runs, job.parts, strict=True)
    )
    less = sum(job.parts) - sum(parts)
    return replace(job, expected=max(0.0, job.expected - less), parts=parts)


def share_done(steps: Mapping[int, Step]) -> float:
    """The part of all work that is done, in [0, 1]."""
    work = sum(step.job.expected * step.job.threads for step in steps.values())
    done = sum(step.job.expected * step.job.threads * step.share for step in steps.values())
    return done / work if work else 0.0


def slowness(steps: Mapping[int, Step]) -> float | None:
    """Seconds that jobs take over those that were expected; None until enough was measured."""
    took = expected = 0.0
    for step in steps.values():
        begun, ended = step.stand.started, step.stand.ended
        if step.stand.state == FINISHED and begun is not None and ended is not None:
            took += ended - begun
            expected += step.job.expected
        elif (whole := step.whole()) is not None and step.bar is not None:
            part = step.part
            took += whole * step.bar.share
            planned = step.job.expected if part is None else step.job.parts[part]
            expected += planned * step.bar.share
    return took / expected if took >= ENOUGH and expected > 0 else None


def held_up(steps: Mapping[int, Step]) -> set[int]:
    """The jobs that cannot be started because one that they wait for has failed."""
    held: dict[int, bool] = {}

    def is_held(number: int) -> bool:
        if number not in held:
            held[number] = any(
                steps[need].stand.state == FAILED or is_held(need)
                for need in steps[number].job.needs
                if need in steps
            )
        return held[number]

    return {n for n, step in steps.items() if step.stand.state == WAITING and is_held(n)}


def slots_of(steps: Mapping[int, Step], asked: int, most: int, now: float) -> int:
    """How many jobs can be at work at once; 0 where a cluster has not started any lately.

    Args:
        steps: of the run.
        asked: how many Snakemake has in the queue or at work at once.
        most: how many have been at work at once so far.
        now: seconds since the epoch.
    """
    if not any(step.stand.queued for step in steps.values()):
        return asked  # whatever was asked for has been given
    stands = [step.stand for step in steps.values()]
    lately = sum(one.state == RUNNING or (one.ended or 0.0) > now - RECENT for one in stands)
    return min(asked, most, lately)


def time_left(steps: Mapping[int, Step], slots: int, now: float) -> float | None:
    """Seconds until the last job ends; None until enough was measured, and without a slot.

    At least what all the work takes with every slot busy, and at least the longest chain of jobs
    that wait for each other.
    """
    if slots < 1:
        return None
    ratio = slowness(steps)
    held = held_up(steps)
    left: dict[int, float] = {}
    for number, step in steps.items():
        if step.stand.state in (FINISHED, FAILED) or number in held:
            continue
        seconds = step.left(ratio, now)
        if seconds is None or ratio is None:
            return None
        left[number] = seconds
    chains: dict[int, float] = {}

    def chain(number: int) -> float:
        if number not in chains:
            before = [chain(need) for need in steps[number].job.needs if need in left]
            chains[number] = left[number] + max(before, default=0.0)
        return chains[number]

    busy = sum(left[number] * min(steps[number].job.threads, slots) for number in left) / slots
    return max([busy, *map(chain, left)])
