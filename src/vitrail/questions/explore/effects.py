"""The single changes to the ViT, seed by seed, for the chart of the ablations."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.analysis import Estimate, percent, points
from vitrail.questions.experiments.common import accuracy
from vitrail.questions.experiments.effects import LINEAR, TICKS, colour_of
from vitrail.questions.study import Study
from vitrail.runs import Experiment


def effects(study: Study, stem: str, table: pd.DataFrame) -> dict[str, Any] | None:
    """The rows of `experiments.effects.effects` with what each of them was computed from.

    Differences and accuracies are in points and per cent; None where no comparison has an
    interval.
    """
    if table.empty:
        return None
    about = {experiment.name: experiment for experiment in study.plan.of_question(stem)}
    return {
        "experiments": [
            {"name": name, "title": rows["title"].iloc[0], "reference": rows["reference"].iloc[0]}
            for name, rows in table.groupby("experiment", sort=False)
        ],
        "arms": [arm_of(study, about[row["experiment"]], row) for row in table.to_dict("records")],
        "linear": LINEAR,
        "ticks": TICKS,
    }


def arm_of(study: Study, experiment: Experiment, row: dict[Any, Any]) -> dict[str, Any]:
    """One arm beside its reference: the interval, both accuracies, and every seed."""
    gap = Estimate(row["difference"], row["half_width"], row["seeds"])
    reference = experiment.member(experiment.reference)
    mine = study.accuracy_by_seed(experiment, row["arm"])
    standard = study.accuracy_by_seed(experiment, reference.name)
    return {
        "experiment": experiment.name,
        "label": row["label"],
        "difference": round(100 * gap.mean, 4),
        "half_width": round(100 * gap.half_width, 4),
        "clear": abs(gap.mean) > gap.half_width,
        "colour": colour_of(gap),
        "text": points(gap),
        "accuracy": percent(accuracy(study, experiment, row["arm"])),
        "standard": percent(accuracy(study, experiment, reference.name)),
        "seeds": [
            {"seed": seed, "accuracy": 100 * mine[seed], "standard": 100 * standard[seed]}
            for seed in sorted({*mine} & {*standard})
        ],
    }
