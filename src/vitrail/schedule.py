"""How well a study fills its cores: its longest chain of jobs, and the order in which they run.

A job's seconds are those of its log; which job waits for which is asked of Snakemake.
"""

from __future__ import annotations

import csv
import heapq
import io
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitrail.cost import told_by
from vitrail.errors import VitrailError


@dataclass(frozen=True)
class Job:
    """A job of a study.

    Attributes:
        seconds: that it takes by the clock.
        threads: cores that it holds for so long.
        priority: Snakemake starts the highest of those that can be started.
        needs: names of the jobs that it waits for.
    """

    name: str
    rule: str
    seconds: float
    threads: int = 1
    priority: int = 0
    needs: frozenset[str] = frozenset()

    @property
    def work(self) -> float:
        """Core-seconds that it holds, used or not."""
        return self.seconds * self.threads


Jobs = Mapping[str, Job]


def critical_path(jobs: Jobs) -> list[Job]:
    """The chain of jobs, each waiting for the one before, that takes longest."""
    chains: dict[str, tuple[float, list[Job]]] = {}
    for name in _in_order(jobs):
        job = jobs[name]
        seconds, before = max(
            (chains[need] for need in job.needs), key=lambda one: one[0], default=(0.0, [])
        )
        chains[name] = (seconds + job.seconds, [*before, job])
    return max(chains.values(), key=lambda one: one[0], default=(0.0, []))[1]


def _in_order(jobs: Jobs) -> list[str]:
    """The names, each after all that it needs."""
    done: dict[str, None] = {}
    left = dict(jobs)
    while left:
        ready = [name for name, job in left.items() if job.needs <= done.keys()]
        if not ready:
            raise VitrailError(f"jobs wait for each other: {', '.join(sorted(left)[:5])}")
        done.update(dict.fromkeys(ready))
        for name in ready:
            del left[name]
    return list(done)


def least_seconds(jobs: Jobs, cores: int) -> float:
    """No order can be quicker: the critical path, or all work shared out over the cores."""
    path = sum(job.seconds for job in critical_path(jobs))
    return max(path, sum(job.work for job in jobs.values()) / cores)


def by_priority(job: Job) -> float:
    """Snakemake's order; jobs of equal priority in any."""
    return job.priority


def simulated(
    jobs: Jobs, cores: int, order: Callable[[Job], float] = by_priority
) -> tuple[float, list[Job]]:
    """What Snakemake's greedy scheduler makes of an order: seconds, and the jobs as they start.

    Whenever a job ends, all that can be started are looked at, the highest first, and each that
    fits is started; so one that takes all cores waits until they are free together.
    """
    now, free, running, started = 0.0, cores, list[tuple[float, str]](), list[Job]()
    needs = {name: set(job.needs) for name, job in jobs.items()}
    waiting: dict[str, list[str]] = {name: [] for name in jobs}
    for name, job in jobs.items():
        for need in job.needs:
            waiting[need].append(name)
    # Equal ones in the order in which they are given.
    place = {name: at for at, name in enumerate(jobs)}
    ready = {name for name, left in needs.items() if not left}
    while ready or running:
        for name in sorted(ready, key=lambda one: (-order(jobs[one]), place[one])):
            if (threads := min(jobs[name].threads, cores)) <= free:
                free -= threads
                ready.remove(name)
                started.append(jobs[name])
                heapq.heappush(running, (now + jobs[name].seconds, name))
        now, ended = heapq.heappop(running)
        free += min(jobs[ended].threads, cores)
        for name in waiting[ended]:
            needs[name].discard(ended)
            if not needs[name]:
                ready.add(name)
    return now, started


def longest_way(jobs: Jobs) -> Callable[[Job], float]:
    """An order for comparison: first the jobs after which the longest chain still follows."""
    left: dict[str, float] = {}
    followers: dict[str, list[str]] = {name: [] for name in jobs}
    for name, job in jobs.items():
        for need in job.needs:
            followers[need].append(name)
    for name in reversed(_in_order(jobs)):
        after = max((left[one] for one in followers[name]), default=0.0)
        left[name] = jobs[name].seconds + after
    return lambda job: left[job.name]


def ask_snakemake(files: list[Path], root: Path) -> str:
    """What Snakemake knows of a study's jobs: ``snakemake --detailed-summary``.

    Raises:
        VitrailError: Snakemake does not say it.
    """
    command = [sys.executable, "-m", "snakemake", "--detailed-summary", "--nolock"]
    command += ["--configfile", *map(str, files)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-300:]
        raise VitrailError(f"snakemake gives no summary of this study: {reason}")
    return done.stdout


def absent_logs(text: str, place: Callable[[str], Path]) -> list[str]:
    """The logs that are not there, of jobs whose outputs are: what these took is not known.

    Args:
        text: of ``snakemake --detailed-summary``.
        place: where a log is that Snakemake names.
    """
    logs = {row["log-file(s)"] for row in _rows(text) if row["status"] != "missing"}
    return sorted(log for log in logs - {"-"} if not place(log).exists())


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def read_summary(
    text: str, place: Callable[[str], Path], priority: Callable[[str], int]
) -> dict[str, Job]:
    """The jobs whose logs tell how long they took, by their log, and what each waited for.

    A job that has not told (`vitrail.cost`) takes no time here.

    Args:
        text: of ``snakemake --detailed-summary``.
        place: where a log is that Snakemake names.
        priority: of a rule by its name.
    """
    rows = _rows(text)
    made_by = {row["output_file"]: row["log-file(s)"] for row in rows}
    rules = {row["log-file(s)"]: row["rule"] for row in rows if row["log-file(s)"] != "-"}
    needs: dict[str, set[str]] = {log: set() for log in rules}
    for row in rows:
        log = row["log-file(s)"]
        if log in needs:
            found = {made_by.get(name, log) for name in row["input-file(s)"].split(",")}
            needs[log] |= found - {log, "-"}
    jobs = {}
    for log, rule in rules.items():
        told = told_by(place(log)) if place(log).exists() else None
        timed = told is not None and told.seconds == told.seconds  # not NaN
        jobs[log] = Job(
            log,
            rule,
            told.seconds if told and timed else 0.0,
            int(told.threads) if told and timed else 1,
            priority(rule),
            frozenset(needs[log]),
        )
    return jobs
