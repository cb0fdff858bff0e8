"""How long the trainings of the default study take, as it was measured and not as it is estimated.

`training_seconds.csv` has core-seconds per 1,000 images of training and of evaluation for each arm,
by `training_seconds.py` on one of 2 cores of an AMD EPYC server (Zen 4) that did other work too:
equal arms differ by up to a half.
"""

from __future__ import annotations

import csv
from pathlib import Path

from vitrail.jobs import training_work
from vitrail.runs import Plan
from vitrail.settings import steps_of

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("training_seconds.csv")
COLUMNS = ("arm_id", "training", "evaluation")
TEST_IMAGES = 10_000


def recorded(plan: Plan) -> dict[str, float]:
    """Core-seconds of an arm with all its seeds, without starting Python."""
    with TABLE.open(newline="", encoding="utf-8") as stream:
        rows = {row["arm_id"]: row for row in csv.DictReader(stream)}
    found = {}
    for arm, one in plan.arms.items():
        if row := rows.get(arm):
            settings = one.settings
            trained = steps_of(settings) * settings["batch_size"]
            read = settings["validation"] * settings["evaluations"] + TEST_IMAGES
            cost = trained * float(row["training"]) + read * float(row["evaluation"])
            found[arm] = cost / 1000 * len(one.seeds)
    return found


def durations(plan: Plan) -> dict[str, float]:
    """The same; of an arm that came after the table, what its estimate is worth in the others."""
    known = recorded(plan)
    work = {arm: training_work(one.settings) * len(one.seeds) for arm, one in plan.arms.items()}
    worth = sum(known.values()) / sum(work[arm] for arm in known)
    return {arm: known.get(arm, work[arm] * worth) for arm in plan.arms}
