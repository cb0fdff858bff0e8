"""The table of a recipe's choices: read on the validation split, paired by seed."""

from __future__ import annotations

import pandas as pd
import pytest

from vitrail.choices import choices
from vitrail.errors import VitrailError


def made(*arms: tuple[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "experiment": "recipe", "label": label, "seed": seed, "status": "finished",
                "val_accuracy": accuracy, "val_loss": 0.1, "test_accuracy": 0.5, "seconds": 60.0,
            }
            for label, accuracies in arms
            for seed, accuracy in enumerate(accuracies)
        ]
    )  # fmt: skip


def test_differences_are_paired_and_of_the_validation_split() -> None:
    table = choices(made(("the recipe", [0.98, 0.99]), ("no maps", [0.97, 0.98])), "recipe")
    first, second = table.splitlines()[2:]
    assert first == "| the recipe | 98.50 | reference | 0.1000 | 60 |"
    assert second == "| no maps | 97.50 | \N{MINUS SIGN}1.00 ± 0.00 | 0.1000 | 60 |"


def test_the_order_is_that_of_the_config() -> None:
    table = choices(made(("z", [0.9]), ("a", [0.8])), "recipe")
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["z", "a"]


def test_an_experiment_that_is_not_there_is_named() -> None:
    with pytest.raises(VitrailError, match="'headline'; there are recipe"):
        choices(made(("the recipe", [0.9])), "headline")
