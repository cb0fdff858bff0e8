"""The table of a recipe's choices: read on the validation split, paired by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from made_study import experiment, small, write_runs
from vitrail.choices import choices
from vitrail.errors import VitrailError
from vitrail.files import read_json, write_json
from vitrail.questions.study import Study

ARMS = {"z": {"settings": {"depth": 2}}, "a": {"settings": {"depth": 1}}}


def made(config: dict[str, Any], folder: Path, **accuracy: list[float]) -> Study:
    """A study of two arms with these validation accuracies; the test accuracy is another."""
    study = Study(small(config, "q6_vit", recipe=experiment(arms=ARMS, reference="a")), folder)
    (about,) = study.plan.experiments
    write_runs(study, lambda arm, seed: 0.5)
    for name, values in accuracy.items():
        for seed, value in enumerate(values):
            file = study.run_folder(about.member(name).arm.arm_id, seed) / "summary.json"
            write_json(file, {**read_json(file), "val_accuracy": value, "val_loss": 0.1})
    return study


def test_differences_are_paired_and_of_the_validation_split(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """In the order of the config, against the reference; an arm of another experiment too."""
    study = made(config, tmp_path, z=[0.97, 0.98, 0.99], a=[0.98, 0.99, 1.0])
    first, second = choices(study, "recipe").splitlines()[2:]
    assert first == "| z | 98.00 | \N{MINUS SIGN}1.00 ± 0.00 | 0.1000 | 30 |"
    assert second == "| a | 99.00 | reference | 0.1000 | 30 |"


def test_an_experiment_that_is_not_there_is_named(config: dict[str, Any], tmp_path: Path) -> None:
    study = Study(small(config, "q6_vit", recipe=experiment(arms=ARMS, reference="a")), tmp_path)
    with pytest.raises(VitrailError, match="'pooling'; it has recipe"):
        choices(study, "pooling")
