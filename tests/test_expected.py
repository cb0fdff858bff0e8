"""What jobs are expected to take, held against what those of a default study took."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from recorded import recorded as elsewhere
from vitrail import device, jobs
from vitrail.planning import Planned, plan_study
from vitrail.progress import expected, notes
from vitrail.progress.bars import Bar
from vitrail.progress.estimate import Step, share_done, time_left, without
from vitrail.progress.notes import FINISHED, RUNNING, WAITING, Job, Stand
from vitrail.progress.state import Watched
from vitrail.settings import run_id, weights_file

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("job_seconds.csv")  # by job_seconds.py
CORES = 2


@dataclass(frozen=True)
class Row:
    """A recorded job: seconds by the clock, from the start of the study, and its runs."""

    rule: str
    name: str
    done: bool
    started: float
    seconds: float
    threads: int
    runs: tuple[str, ...]

    @property
    def work(self) -> float:
        return self.seconds * self.threads


@dataclass(eq=False)
class Made:
    """What `jobs_of` asks a job of Snakemake."""

    output: list[str]
    log: list[str]
    threads: int
    rule: SimpleNamespace
    message: None = None


@pytest.fixture(scope="module")
def planned() -> Planned:
    return plan_study({}, ROOT)


@pytest.fixture
def recorded(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Row, Job]]:
    """The jobs that the default study still has, and what is expected of them, as they started."""
    # That processor had no bf16 instructions.
    monkeypatch.setattr(expected, "emulates_bf16", lambda device: True)
    plan = planned.plan
    arms = {name: (one.seeds, [name]) for name, one in plan.arms.items()}
    arms |= {name: (seeds, mine) for name, _, seeds, mine in jobs.training_together(plan)}
    rows, known = [], 0
    with TABLE.open(newline="", encoding="utf-8") as stream:
        for one in csv.DictReader(stream):
            known += 1
            seeds, mine = arms.get(one["name"], ((), []))
            runs = tuple(run_id(arm, seed) for arm in mine for seed in seeds)
            training = one["rule"].startswith("train_")
            if (training and not runs) or (
                one["rule"] == "pretrain" and one["name"] not in plan.pretrainings
            ):
                continue
            begun, took = float(one["started"]), float(one["seconds"])
            row = Row(
                one["rule"], one["name"], one["done"] == "1", begun, took, int(one["threads"]), runs
            )
            rows.append(row)
    assert len(rows) >= 0.9 * known, "the study has changed; record it again (job_seconds.py)"
    made = [
        Made(
            [f"x/runs/{run}/config.json" for run in row.runs] or [f"x/{row.name}/config.json"],
            [f"nowhere/{row.name}.log"],
            row.threads,
            SimpleNamespace(name=row.rule),
        )
        for row in rows
    ]
    dag = SimpleNamespace(
        needrun_jobs=lambda: made, jobid=made.index, dependencies=defaultdict(dict)
    )
    return list(zip(rows, expected.jobs_of(dag, planned), strict=True))


def at(now: float, recorded: list[tuple[Row, Job]]) -> dict[int, Step]:
    """How the jobs stood `now`: a training of several runs takes equally long for each."""
    steps = {}
    for row, job in recorded:
        ended, bar = row.started + row.seconds, None
        # Its weights had been looked for before.
        job = job if row.done or row.started > now else without(job, job.runs)
        if ended <= now:
            stand = Stand(FINISHED, row.started, ended)
        elif row.started <= now:
            stand = Stand(RUNNING, row.started)
            runs = row.runs if row.rule != "pretrain" else ("pretraining",)
            if runs and row.done:
                place, share = divmod((now - row.started) / row.seconds * len(runs), 1)
                left = row.seconds / len(runs) * (1 - share)
                bar = Bar(runs[int(place)], int(1000 * share), 1000, 0.0, left, None)
        else:
            stand = Stand(WAITING)
        steps[job.number] = Step(job, stand, bar)
    return steps


def when(share: float, recorded: list[tuple[Row, Job]]) -> float:
    """When so much of the work was done."""
    whole = sum(row.work for row, _ in recorded)

    def done(now: float) -> float:
        return sum(
            row.threads * min(max(now - row.started, 0.0), row.seconds) for row, _ in recorded
        )

    end = max(row.started + row.seconds for row, _ in recorded)
    return float(next(now for now in np.arange(0.0, end, 1.0) if done(now) >= share * whole))


@pytest.mark.parametrize("share", [0.15, 0.25, 0.5, 0.75])
def test_the_rest_takes_about_as_long_as_was_said(
    share: float, recorded: list[tuple[Row, Job]]
) -> None:
    now = when(share, recorded)
    end = max(row.started + row.seconds for row, _ in recorded)
    steps = at(now, recorded)
    left = time_left(steps, CORES, now)
    assert left is not None
    print(f"\n{now:5.0f} s, {share_done(steps):.0%}: {left / 60:.0f} min, {(end - now) / 60:.0f}")
    assert left == pytest.approx(end - now, rel=0.25)


def test_every_kind_of_job_takes_as_many_times_what_is_expected(
    recorded: list[tuple[Row, Job]],
) -> None:
    took: dict[str, float] = defaultdict(float)
    thought: dict[str, float] = defaultdict(float)
    for row, job in recorded:
        if row.done:
            kind = row.rule if row.rule in expected.RULES else row.rule.partition("__")[0]
            took[kind] += row.seconds
            thought[kind] += job.expected
    ratios = {kind: took[kind] / thought[kind] for kind in took}
    assert {kind: ratio for kind, ratio in ratios.items() if took[kind] > 20} == {
        kind: pytest.approx(1, abs=0.2) for kind in took if took[kind] > 20
    }


def test_arms_keep_their_proportions_on_another_machine(planned: Planned) -> None:
    """A table of core-seconds that the constants do not come from (`training_seconds.py`)."""
    arms = planned.plan.arms
    ratios = [
        seconds / len(arms[arm].seeds) / expected.seconds_of(arms[arm].settings)
        for arm, seconds in elsewhere(planned.plan).items()
    ]
    # Measured: 0.17; of the constants before, 0.28.
    assert np.log(ratios).std() < 0.22


@pytest.mark.parametrize(
    ("told", "emulated"),
    [
        ("flags\t\t: fpu avx2 avx512f\nflags\t\t: fpu avx512_bf16\n", True),
        ("model name\t: x\nflags\t\t: fpu avx512_bf16 sse\n", False),
        ("flags\t\t: amx_bf16 fpu\n", False),
        ("Features\t: fp asimd\n", True),
    ],
)
def test_bf16_is_emulated_where_auto_does_not_take_it(
    told: str, emulated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def instead(path: Path, *arguments: Any, **named: Any) -> str:
        return told if path == Path("/proc/cpuinfo") else read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", instead)
    asked = expected.emulates_bf16.__wrapped__
    assert asked("cpu") is emulated
    assert device.faster_precision(torch.device("cpu")) == ("fp32" if emulated else "bf16")
    assert not asked("cuda")


def test_a_system_that_does_not_tell_is_taken_to_have_bf16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(path: Path, *arguments: Any, **named: Any) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert not expected.emulates_bf16.__wrapped__("cpu")


def test_only_what_asks_for_bf16_by_name_is_emulated(planned: Planned) -> None:
    base = planned.plan.arms[planned.plan.base].settings
    for precision, times in (("bf16", expected.EMULATED), ("auto", 1), ("fp32", 1)):
        settings = {**base, "precision": precision}
        slow, usual = expected.seconds_of(settings, emulated=True), expected.seconds_of(settings)
        assert slow == pytest.approx(times * usual), precision


def test_arms_whose_weights_are_not_there_cost_no_time(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a training that ends at once looks like a fast machine."""
    monkeypatch.chdir(tmp_path)
    arm = next(one for one in planned.plan.arms.values() if weights_file(one.settings))
    runs = tuple(run_id(arm.arm_id, seed) for seed in arm.seeds)
    parts = (50.0,) * len(runs)
    slow = Job(1, "train_longest", "x", "x.log", "x", 1, 5 + sum(parts), runs, parts)
    other = Job(2, "q1_patch_embedding", "y", "y.log", "y", 1, 100.0)
    place = notes.place("x", tmp_path)
    writer = notes.Writer(place, "x", 1, [slow, other])
    watched = Watched(planned.plan, tmp_path, place)
    assert watched.look(0.0).share == 0.0
    writer.write(FINISHED, job=1)
    whole = slow.expected + other.expected
    assert watched.look(0.0).share == pytest.approx(slow.expected / whole)
    found = watched.folder / weights_file(arm.settings)
    found.parent.mkdir(parents=True)
    for status, share in (("available", slow.expected / whole), ("not available", 5 / 105)):
        found.write_text(json.dumps({"status": status, "changed": share}))
        watched = Watched(planned.plan, tmp_path, place)
        assert watched.look(0.0).share == pytest.approx(share), status
