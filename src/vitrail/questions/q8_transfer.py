"""Q8: timm's ViT-S on MNIST: the size of its input, and with or without ImageNet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from vitrail.questions.answer import Answer
from vitrail.questions.experiments.common import add
from vitrail.questions.study import Study
from vitrail.questions.transfer import adaptation, calls, input_cost, small_data
from vitrail.questions.transfer.pairs import head_to_head, mcnemar_markdown
from vitrail.questions.transfer.weights import found_weights, not_run_words, weights_markdown
from vitrail.settings import steps_of


def answer(study: Study) -> Answer:
    """What timm does with MNIST tensors, the arms, and McNemar between the main pairs."""
    result = Answer(sentence="", table=pd.DataFrame())
    for part in (calls, adaptation, input_cost):
        part.add(result)
    weights = found_weights(study)
    result.tables["weights"] = weights_markdown(weights)
    result.numbers["budget"] = budget_words(study)
    pairs = []
    for experiment in study.plan.of_question("q8_transfer"):
        pairs += head_to_head(study, experiment)
    result.data["mcnemar"] = pd.DataFrame(pairs)
    result.tables["mcnemar"] = mcnemar_markdown(pairs)
    labels = small_data.add(study, result)
    few = small_data.over_budgets(study)
    tables = add(study, result, "q8_transfer", elsewhere=(few.name,) if few else ())
    result.sentence = " ".join(
        [
            "timm's ViT-S refuses 28-pixel images because its patch embedding asserts 224 and its "
            "positional embedding has 197 rows; `img_size=28`, a `patch_size` that divides it and "
            "`in_chans=1` rebuild the model and, with pretrained weights, resample them.",
            *(sentence(result.numbers[name]) for name in tables if not few or name != few.name),
            labels,
            not_run_words(weights),
        ]
    )
    return result


def budget_words(study: Study) -> dict[str, str]:
    """Images, steps, patches and learning rates of the arms that Q8 compares."""
    arms = [study.plan.arms[arm].settings for arm in study.plan.arms_of("q8_transfer")]
    large = [settings for settings in arms if settings["model"] == "timm"]
    small = [settings for settings in arms if settings["model"] != "timm"]

    def said(values: Iterable[float]) -> str:
        return " or ".join(f"{value:,g}" for value in sorted(set(values))) or "no"

    return {
        "images": said(settings["train_size"] for settings in arms),
        "steps": said(steps_of(settings) for settings in arms),
        "patch_size": said(
            settings["patch_size"] for settings in large if "patch_size" in settings
        ),
        "rate_timm": said(settings["learning_rate"] for settings in large),
        "rate_small": said(settings["learning_rate"] for settings in small),
    }


def sentence(quoted: dict[str, Any]) -> str:
    """The accuracies of an experiment in a line."""
    arms = [arm for arm in quoted.values() if isinstance(arm, dict)]
    return "; ".join(f"{arm['label']}: **{arm['accuracy']}**" for arm in arms) + "."
