"""Q8d: every method at every label budget, beside the reference with the same labels."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.analysis import Estimate, estimate
from vitrail.files import read_json
from vitrail.questions.experiments.common import accuracy, difference, mean_of
from vitrail.questions.study import Study
from vitrail.runs import Experiment, Member
from vitrail.settings import AUGMENTATIONS, in_full

# What the lab report recommends for small data, by the settings that carry it out.
IDEAS: dict[str, set[str]] = {
    "regularisation": {"weight_decay", "label_smoothing"},
    "early stopping": {"early_stopping", "evaluations"},
    "dropout": {"drop_rate"},
    "augmentation": set(AUGMENTATIONS),
    "pretraining": {"start"},
}
# A fresh start, a pretrained one and a CNN each have their own rates.
BESIDES = {"optimizer", "learning_rate", "matrix_learning_rate"}


def by_method(study: Study, experiment: Experiment) -> pd.DataFrame:
    """One row per method and label budget, in the order of the config.

    Columns: method, label, label_budget, model, seeds, accuracy and gain over the reference with
    their half widths (fractions, paired by seed), idea (of the lab report, or ''), beyond (what the
    method sees beside the labelled images, or ''), shuffled (a control), steps, parameters,
    macs, seconds (of a training) and pretraining_seconds.
    """
    runs = study.runs(experiment)
    rows = []
    for member in experiment.members:
        reference = experiment.reference_of(member)
        mine = runs[(runs["arm"] == member.name) & (runs["status"] == "finished")]
        found = accuracy(study, experiment, member.name)
        # Of the reference itself there is no gain; its difference to itself would say 0 +- 0.
        gain = (
            estimate([])
            if member is reference
            else difference(study, experiment, member.name, reference.name)
        )
        start = study.plan.pretrainings.get(member.arm.settings.get("start", ""), {})
        rows.append(
            {
                "method": member.method,
                "label": experiment.methods[member.method],
                "label_budget": member.arm.settings["label_budget"],
                "model": member.arm.settings["model"],
                "seeds": found.n,
                "accuracy": found.mean,
                "accuracy_half_width": found.half_width,
                "gain": gain.mean,
                "gain_half_width": gain.half_width,
                "idea": idea_of(study, member, reference),
                "beyond": beyond(start),
                "shuffled": bool(start.get("recipe", {}).get("shuffled_labels")),
                "steps": int(mine["samples"].mean() / member.arm.settings["batch_size"])
                if len(mine)
                else 0,
                "parameters": mean_of(mine, "parameters"),
                "macs": mean_of(mine, "macs"),
                "seconds": float((mine["samples"] / mine["train_samples_per_second"]).mean())
                if len(mine)
                else float("nan"),
                "pretraining_seconds": seconds_before(study, member),
            }
        )
    return pd.DataFrame(rows)


def changed(member: Member, reference: Member) -> set[str]:
    """The settings in which an arm differs from its reference."""
    mine, other = in_full(member.arm.settings), in_full(reference.arm.settings)
    return {key for key in {*mine, *other} if mine.get(key) != other.get(key)} - BESIDES


def idea_of(study: Study, member: Member, reference: Member) -> str:
    """Which of the lab report's ideas an arm tries, and nothing else; '' for none."""
    keys = changed(member, reference)
    start = study.plan.pretrainings.get(member.arm.settings.get("start", ""), {})
    if start.get("recipe", {}).get("shuffled_labels") or not keys:
        return ""
    return next((idea for idea, carried in IDEAS.items() if keys <= carried), "")


def beyond(start: dict[str, Any]) -> str:
    """What a pretraining has seen beside the labelled images."""
    recipe = start.get("recipe")
    if recipe is None:
        return ""
    return "unlabelled digits" if recipe["images"] == "digits" else f"made {recipe['images']}"


def seconds_before(study: Study, member: Member) -> float:
    """Seconds of the pretraining that an arm starts from; 0 without one."""
    start = member.arm.settings.get("start")
    if not start:
        return 0.0
    path = study.folder / "pretraining" / start / "summary.json"
    return float(read_json(path)["seconds"])


def gain_of(row: dict[Any, Any]) -> Estimate:
    """The gain of a row of `by_method`."""
    return Estimate(row["gain"], row["gain_half_width"], row["seeds"])


def clear(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose gain has an interval that excludes zero."""
    return table[table["gain"].abs() > table["gain_half_width"]]


def shared_budgets(table: pd.DataFrame) -> set[int]:
    """The budgets with at least half as many methods as the fullest one."""
    counts = table.groupby("label_budget")["method"].nunique()
    return {int(budget) for budget in counts[counts >= counts.max() / 2].index}
