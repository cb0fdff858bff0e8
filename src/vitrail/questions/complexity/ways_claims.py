"""What Q7 asserts of the ways to lower the cost, decided by their table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from vitrail.claims import Claim, holds
from vitrail.questions.complexity.goal import seconds_to
from vitrail.questions.complexity.ways import curves_of
from vitrail.questions.study import Study
from vitrail.runs import Experiment, Member

SAME_LOGITS = 1e-3  # what fp32 may make of another order of sums, in a logit
KEPT_POINTS, FEWEST = 0.1, 10_000  # images: on fewer, 0.1 points are a handful of them
SOONER = 0.9  # of the steps and of the seconds: seconds alone tell the load of shared cores
Row = dict[Any, Any]


def ways_claims(study: Study, ways: pd.DataFrame) -> list[Claim]:
    """Undecided where a way was not measured."""
    inference, step = (by_name(ways, table) for table in ("inference", "step"))
    return [
        same_answers(inference),
        checkpointing(step["checkpointing"]),
        kept(inference["bf16"], "bf16", "bf16"),
        kept(inference["int8"], "int8", "int8 weights"),
        two_processes(step["data_parallel"]),
        sooner(study),
    ]


def by_name(ways: pd.DataFrame, table: str) -> dict[str, Row]:
    """The rows of one table."""
    rows = ways[ways["table"] == table]
    return {row["name"]: row for row in rows.to_dict("records")}


def same_answers(inference: dict[str, Row]) -> Claim:
    """Fused and compiled are exact."""
    rows = [inference["sdpa"], inference["compile"]]
    gaps = [row["logit_difference"] for row in rows]
    known = [gap for gap in gaps if not math.isnan(gap)]
    outcome = all(gap < SAME_LOGITS for gap in known) if len(known) == len(gaps) else None
    return holds(
        "q7-exact-ways-change-no-answer",
        "Fused attention and compiled blocks give the same logits.",
        f"largest difference of a logit to attention written out in fp32 below {SAME_LOGITS:g}",
        "; ".join(f"{row['way']} {told(row['logit_difference'], '.1e')}" for row in rows),
        False if any(gap >= SAME_LOGITS for gap in known) else outcome,
    )


def checkpointing(row: Row) -> Claim:
    """Less memory for more time."""
    memory = row["memory_ratio"]
    slower = above_one(row)
    outcome = None if math.isnan(memory) else False if memory >= 1 else slower
    return holds(
        "q7-checkpointing-trades-time-for-memory",
        "Checkpointing takes less memory and more time.",
        "ratio of peak memory below 1, 95 % interval of the ratio of times above 1",
        f"memory {told(memory)}, time {ratio_words(row)}",
        outcome,
    )


def kept(row: Row, name: str, way: str) -> Claim:
    """A lower precision that keeps the accuracy."""
    gap = 100 * row["accuracy_difference"]
    known = row["images"] >= FEWEST and not math.isnan(gap)
    return holds(
        f"q7-{name}-keeps-the-accuracy",
        f"With {way} the accuracy stays within {KEPT_POINTS:g} points.",
        f"difference of accuracy on the same test images, {FEWEST:,} or more",
        f"{told(gap, '+.2f')} points on {told(row['images'], ',.0f')} images".replace(
            "-", "\N{MINUS SIGN}"
        ),
        # Ten images of 10,000 are 0.1 points, which binary fractions miss by a hair.
        bool(abs(gap) <= KEPT_POINTS + 1e-9) if known else None,
    )


def two_processes(row: Row) -> Claim:
    """Data parallelism on one machine."""
    slower = above_one(row)
    return holds(
        "q7-two-processes-are-faster",
        "Two processes with half of the batch each are faster than one here.",
        "95 % interval of the ratio of times below 1",
        ratio_words(row),
        None if slower is None else not slower,
    )


def sooner(study: Study) -> Claim:
    """Is the goal reached sooner by a training that also ends above it?"""
    goal = study.config["questions"]["q7_complexity"]["goal_accuracy"]
    outcomes: dict[str, bool | None] = {}
    for experiment in study.plan.of_question("q7_complexity"):
        reference = experiment.member(experiment.reference)
        base = goal_costs(study, experiment, reference, goal)
        for member in experiment.members:
            if member != reference:
                mine = goal_costs(study, experiment, member, goal)
                outcomes[member.label] = always_sooner(mine, base)
    clear = [label for label, outcome in outcomes.items() if outcome]
    open_ = [label for label, outcome in outcomes.items() if outcome is None]
    percent = f"{100 * goal:g} %"
    return holds(
        "q7-some-training-is-sooner",
        f"Some way to train reaches {percent} on the validation split sooner than its baseline, "
        "and ends there.",
        f"steps and seconds below {SOONER:g} of the baseline's at each of two or more seeds, "
        "and a last validation accuracy not below the goal",
        f"sooner: {', '.join(clear) or 'none'}" + (f"; open: {', '.join(open_)}" if open_ else ""),
        True if clear else None if open_ or not outcomes else False,
        f"No way to train reaches {percent} on the validation split sooner than its baseline.",
    )


def goal_costs(
    study: Study, experiment: Experiment, member: Member, goal: float
) -> dict[int, tuple[float, float]]:
    """Steps and seconds to the goal at each seed; inf for a training that does not end there."""
    found = {}
    for seed, one in curves_of(study, experiment, member).items():
        ends = one["val_accuracy"].iloc[-1] >= goal
        steps, seconds = (
            seconds_to(goal, one["val_accuracy"], one[clock]) if ends else math.inf
            for clock in ("step", "seconds")
        )
        found[seed] = steps, seconds
    return found


def always_sooner(
    mine: dict[int, tuple[float, float]], base: dict[int, tuple[float, float]]
) -> bool | None:
    """At every seed, or at half of them at most (False); None between, and from one seed."""
    shared = sorted(mine.keys() & base.keys())
    wins = [
        all(own < SOONER * other for own, other in zip(mine[seed], base[seed], strict=True))
        for seed in shared
    ]
    if len(wins) < 2:
        return None
    return True if all(wins) else False if sum(wins) <= len(wins) / 2 else None


def above_one(row: Row) -> bool | None:
    """Whether the interval of the ratio of times lies above one; None when it holds it."""
    if row["time_low"] > 1:
        return True
    return False if row["time_high"] < 1 else None


def ratio_words(row: Row) -> str:
    """The ratio of times with its interval, for evidence."""
    if pd.isna(row["time_ratio"]):
        return told(row["time_ratio"])
    return f"{row['time_ratio']:.2f} ({row['time_low']:.2f} to {row['time_high']:.2f})"


def told(value: float, form: str = ".2f") -> str:
    """A figure for evidence."""
    return "not measured" if pd.isna(value) else format(value, form)
