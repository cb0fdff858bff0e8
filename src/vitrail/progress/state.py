"""How a study stands at this moment, from the files that its run leaves; nothing is written.

Read are the notes of the run, the ends of the logs of its running jobs, and the summaries of runs
and questions that are done, each once. So it is the same from another terminal, and for jobs on
other machines that share the folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitrail.config import STEMS
from vitrail.progress.bars import Log
from vitrail.progress.estimate import (
    Step,
    held_up,
    share_done,
    slots_of,
    slowness,
    time_left,
    without,
)
from vitrail.progress.notes import FAILED, FINISHED, KILLED, RUNNING, WAITING, Noted, Reader
from vitrail.runs import Arm, Plan
from vitrail.settings import run_id, weights_file

# States of an arm beside those of jobs.
NOT_RUN, HELD, MISSING = "not run", "held up", "not made"


@dataclass(frozen=True)
class Working:
    """A job that is running.

    `title` is its arm's label or its message, `doing` what its bar is about when it has several;
    `left` are seconds, None while unknown.
    """

    title: str
    spent: float
    steps: tuple[int, int] | None
    doing: str
    accuracy: float | None
    left: float | None
    log: str


@dataclass(frozen=True)
class ArmState:
    """An arm: how many of its seeds are done, its mean accuracy on the validation split."""

    question: str
    experiment: str
    label: str
    seeds: int
    done: int
    state: str
    accuracy: float | None
    reason: str = ""
    log: str = ""


@dataclass(frozen=True)
class Answered:
    """A question: whether it is answered, its key number, and its figures below the study."""

    stem: str
    answered: bool
    key: str = ""
    key_name: str = ""
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """Everything that is shown. Times are seconds; `left` is None while unknown.

    `ending` is empty while the run goes on, `noted` false where no run has left notes; `queued`
    jobs wait on a cluster.
    """

    study: str
    now: float
    noted: bool
    started: float
    ending: str
    elapsed: float
    share: float
    left: float | None
    jobs: int
    jobs_done: int
    working: tuple[Working, ...]
    failed: tuple[tuple[str, str], ...]
    held: int
    queued: int
    arms: tuple[ArmState, ...]
    questions: tuple[Answered, ...]
    report: bool

    def not_run(self) -> dict[str, list[str]]:
        """The labels of the arms that could not be run, by the reason."""
        reasons: dict[str, list[str]] = {}
        for arm in self.arms:
            if arm.state == NOT_RUN:
                reasons.setdefault(arm.reason, []).append(arm.label)
        return reasons


@dataclass
class Watched:
    """A study that is looked at again and again; what has not changed is not read again."""

    plan: Plan
    results: Path
    notes: Path
    _logs: dict[str, Log] = field(default_factory=dict)
    _read: dict[Path, tuple[int, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reader = Reader(self.notes)
        self.folder = self.results / self.plan.study
        self._labels: dict[str, str] = {}
        self._weights: dict[str, Path] = {}
        for arm in self.plan.arms.values():
            short = arm.question.partition("_")[0].upper()
            for seed in arm.seeds:
                self._labels[run_id(arm.arm_id, seed)] = f"{short} {arm.label}"
                if file := weights_file(arm.settings):
                    self._weights[run_id(arm.arm_id, seed)] = self.folder / file

    def look(self, now: float) -> State:
        """How it stands; `now` in seconds since the epoch."""
        noted = self._reader.look()
        there = noted is not None
        noted = noted or Noted(self.plan.study)
        steps = {number: self._step(noted, number) for number in noted.jobs}
        ending = noted.ending or (KILLED if there and noted.at_work() is False else "")
        if ending:  # what was running then is not any more
            steps = {n: _ended(step) for n, step in steps.items()}
        last = noted.ended or max([self._changed(noted), noted.started])
        until = last if ending else now
        ratio = slowness(steps)
        slots = slots_of(steps, noted.slots, noted.most, now)
        running = [step for step in steps.values() if step.stand.state == RUNNING]
        done = [step for step in steps.values() if step.stand.state == FINISHED]
        failed = [step for step in steps.values() if step.stand.state == FAILED]
        return State(
            study=self.plan.study,
            now=now,
            noted=there,
            started=noted.started,
            ending=ending,
            elapsed=max(0.0, until - noted.started) if there else 0.0,
            share=share_done(steps),
            left=None if ending else time_left(steps, slots, now),
            jobs=len(steps),
            jobs_done=len(done),
            working=tuple(self._working(step, ratio, now) for step in running),
            failed=tuple((self._title(step), step.job.log) for step in failed),
            held=len(held_up(steps)),
            queued=0 if ending else sum(step.stand.queued for step in steps.values()),
            arms=tuple(self._arms(steps)),
            questions=tuple(self._question(stem, steps) for stem in STEMS),
            report=self._made(self.folder / "report" / "report.html", steps),
        )

    def _step(self, noted: Noted, number: int) -> Step:
        job, stand = noted.jobs[number], noted.stands[number]
        job = without(job, [run for run in job.runs if self._lacks_weights(run)])
        if stand.state != RUNNING:
            self._logs.pop(job.log, None)
            return Step(job, stand)
        log = self._logs.setdefault(job.log, Log(Path(job.log)))
        bar = log.bar()
        # The log of an attempt before this one, where the job has not begun to write.
        stale = stand.started is not None and log.changed < stand.started - STALE
        return Step(job, stand, None if stale else bar)

    def _lacks_weights(self, run: str) -> bool:
        """Whether a run will not take place; not known before its weights were looked for."""
        file = self._weights.get(run)
        found = self._json(file) if file else None
        return found is not None and found.get("status") != "available"

    def _changed(self, noted: Noted) -> float:
        """When a killed run has last been seen to do something."""
        try:
            last = self.notes.stat().st_mtime
        except OSError:
            last = 0.0
        return max([last, *(log.changed for log in self._logs.values())])

    def _title(self, step: Step) -> str:
        runs = step.job.runs
        labels = {self._labels.get(run, "") for run in runs}
        if len(labels) == 1 and (label := labels.pop()):
            return label
        return step.job.title.removeprefix("Train ")

    def _working(self, step: Step, ratio: float | None, now: float) -> Working:
        bar, runs = step.bar, step.job.runs
        doing = ""
        if bar is not None and bar.title in runs and len(runs) > 1:
            doing = f"run {runs.index(bar.title) + 1} of {len(runs)}"
        elif bar is not None and bar.title not in runs:
            doing = bar.title
        begun = step.stand.started
        return Working(
            title=self._title(step),
            spent=max(0.0, now - begun) if begun else 0.0,
            steps=(bar.done, bar.total) if bar else None,
            doing=doing,
            accuracy=bar.accuracy if bar else None,
            left=step.left(ratio, now),
            log=step.job.log,
        )

    def _arms(self, steps: dict[int, Step]) -> list[ArmState]:
        """The arms of every experiment, under the names that they have there."""
        held = held_up(steps)
        of_run = {run: step for step in steps.values() for run in step.job.runs}
        known: dict[str, ArmState] = {}
        found = []
        for experiment in self.plan.experiments:
            for member in experiment.members:
                arm = member.arm
                if arm.arm_id not in known:
                    known[arm.arm_id] = self._arm(arm, of_run, held)
                named = replace(known[arm.arm_id], label=member.label, question=experiment.question)
                found.append(replace(named, experiment=experiment.title))
        return found

    def _run_state(self, run: str, step: Step | None, held: set[int]) -> str:
        if step is not None and step.stand.state != FINISHED:
            if step.stand.state == RUNNING and step.part is not None:
                place = step.job.runs.index(run)
                return FINISHED if place < step.part else RUNNING if place == step.part else WAITING
            if step.stand.state == RUNNING and run != step.job.runs[0]:
                return WAITING
            return HELD if step.job.number in held else step.stand.state
        summary = self._summary(run)
        if summary is None:
            return MISSING
        return FINISHED if summary.get("status") == "finished" else NOT_RUN

    def _arm(self, arm: Arm, of_run: dict[str, Step], held: set[int]) -> ArmState:
        runs = [run_id(arm.arm_id, seed) for seed in arm.seeds]
        states = [self._run_state(run, of_run.get(run), held) for run in runs]
        done = [run for run, state in zip(runs, states, strict=True) if state == FINISHED]
        summaries = [self._summary(run) or {} for run in done]
        values = [one["val_accuracy"] for one in summaries if one.get("val_accuracy") is not None]
        order = (FAILED, RUNNING, NOT_RUN, HELD, WAITING, MISSING, FINISHED)
        state = next(name for name in order if name in states)
        if state == WAITING and done and WAITING in states:
            state = RUNNING  # between two of its seeds
        first = of_run.get(runs[0])
        reason = (self._summary(runs[0]) or {}).get("reason", "") if state == NOT_RUN else ""
        return ArmState(
            arm.question, arm.experiment, arm.label, len(runs), len(done), state,
            sum(values) / len(values) if values else None,
            str(reason), first.job.log if first else "",
        )  # fmt: skip

    def _question(self, stem: str, steps: dict[int, Step]) -> Answered:
        if not self._made(self.folder / stem / "opening.json", steps, rule=stem):
            return Answered(stem, False)
        said = self._json(self.folder / stem / "opening.json") or {}
        figures = sorted(path.name for path in (self.folder / stem / "figures").glob("*.svg"))
        return Answered(
            stem, True, str(said.get("key", "")), str(said.get("key_name", "")), tuple(figures)
        )

    def _made(self, path: Path, steps: dict[int, Step], rule: str = "report") -> bool:
        """Whether a file is there and not one that this run makes anew."""
        waiting = any(s.job.rule == rule and s.stand.state != FINISHED for s in steps.values())
        return not waiting and path.exists()

    def _summary(self, run: str) -> dict[str, Any] | None:
        """Of a run; None also where its accuracy is no number."""
        found = self._json(self.folder / "runs" / run / "summary.json")
        if found and not isinstance(found.get("val_accuracy"), int | float | None):
            return None
        return found

    def _json(self, path: Path) -> dict[str, Any] | None:
        """A JSON object; None when it is not there or not whole. Read when it has changed."""
        try:
            changed = path.stat().st_mtime_ns
            known = self._read.get(path)
            if known is None or known[0] != changed:
                content = json.loads(path.read_text(encoding="utf-8"))
                known = self._read[path] = (changed, content if isinstance(content, dict) else None)
        except (OSError, ValueError):
            return None
        found: dict[str, Any] | None = known[1]
        return found


STALE = 120.0  # seconds by which the clocks of two machines may differ


def _ended(step: Step) -> Step:
    """A step of a run that has ended: what was running has to be done again."""
    if step.stand.state != RUNNING:
        return step
    return Step(step.job, replace(step.stand, state=WAITING))
