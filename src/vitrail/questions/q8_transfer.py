"""Q8: timm's ViT-S on MNIST: the size of its input, and with or without ImageNet."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from vitrail import style
from vitrail.questions.answer import Answer
from vitrail.questions.experiments.common import accuracy_words, add, key_difference
from vitrail.questions.study import Study
from vitrail.questions.transfer import adaptation, calls, input_cost, small_data
from vitrail.questions.transfer.cost import (
    compared_networks,
    cost_markdown,
    cost_table,
    curves_markdown,
    draw_curves,
    learning_curves,
)
from vitrail.questions.transfer.pairs import head_to_head, mcnemar_markdown
from vitrail.questions.transfer.weights import found_weights, not_run_words, weights_markdown
from vitrail.settings import steps_of

AHEAD = 3  # networks that the answer names from the top


def answer(study: Study) -> Answer:
    """What timm does with MNIST tensors, the arms, and McNemar between the main pairs."""
    result = Answer(sentence="", table=pd.DataFrame())
    for part in (calls, adaptation):
        part.add(result)
    input_cost.add(study, result)
    weights = found_weights(study)
    told = pd.DataFrame(weights, columns=["model", "tag", "dataset", "source", "status"])
    looked = "what `vitrail.weights` found"
    result.tabulate("weights", weights_markdown, weights, data=told, runs=looked)
    result.numbers["budget"] = budget_words(study)
    labels = small_data.add(study, result)
    few = small_data.over_budgets(study)
    add_networks(study, result)
    tables = add(study, result, "q8_transfer", elsewhere=(few.name,) if few else ())
    networks = compared_networks(study)
    compared = networks.name if networks else ""
    best = [ranked(study, table) for name, table in tables.items() if name == compared]
    result.short = " ".join(
        [
            "ViT-S refuses 28-pixel images until its patch embedding and positions are rebuilt for "
            "them (`img_size`, `patch_size`, `in_chans`).",
            *best,
            small_data.in_short(result, few) if few else "",
        ]
    )
    result.key = key_difference(study, "q8_transfer")
    result.sentence = " ".join(
        [
            "timm's ViT-S refuses 28-pixel images because its patch embedding asserts the size it "
            "was built for, and its positional embedding has one row for each token of that "
            "size; `img_size=28`, a `patch_size` that divides it and "
            "`in_chans=1` rebuild the model and, with pretrained weights, resample them.",
            *best,
            labels,
            not_run_words(weights),
        ]
    )
    return result


def add_networks(study: Study, result: Answer) -> None:
    """What the networks side by side cost, how they learnt, and McNemar for the claimed pairs."""
    experiment = compared_networks(study)
    if experiment is None:
        nothing = "This study has no network of timm.\n"
        result.tables |= dict.fromkeys(("cost", "learning_curves", "mcnemar"), nothing)
        return
    runs, costs = study.runs_of(experiment), cost_table(study, experiment)
    result.tabulate("cost", cost_markdown, study, experiment, costs, data=costs, runs=runs)
    curves = learning_curves(study, experiment)
    looks = style.looks_of(experiment.members, study.plan.arms[study.plan.base].settings)
    result.draw("learning_curves", draw_curves, curves, looks, data=curves, runs=runs)
    result.tables["learning_curves"] = curves_markdown(costs)
    pairs = head_to_head(study, experiment)
    result.tabulate("mcnemar", mcnemar_markdown, pairs, data=pairs, runs=runs)


def budget_words(study: Study) -> dict[str, str]:
    """Images, steps and patches of the networks that Q8 sets side by side."""
    experiment = compared_networks(study)
    arms = [member.arm.settings for member in experiment.members] if experiment else []
    large = [own for own in arms if own["model"] == "timm" and "patch_size" in own]

    def said(values: Iterable[float]) -> str:
        return " or ".join(f"{value:,g}" for value in sorted(set(values))) or "no"

    return {
        "images": said(own["train_size"] for own in arms),
        "steps": said(steps_of(own) for own in arms),
        "patch_size": said(own["patch_size"] for own in large),
    }


def ranked(study: Study, table: pd.DataFrame) -> str:
    """The best networks side by side and the last; for the answer."""
    ran = table[table["seeds"] > 0].sort_values("test_accuracy", ascending=False, kind="stable")
    if ran.empty:
        return ""
    named = [f"{row['label']} **{accuracy_words(row)}**" for row in ran.to_dict("records")]
    images = budget_words(study)["images"]
    first = f"On {images} images the highest mean accuracies are {', '.join(named[:AHEAD])}"
    last = f"; the lowest of {len(named)} is {named[-1]}" if len(named) > AHEAD else ""
    return f"{first}{last}."
