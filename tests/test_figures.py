"""The figures of the shipped study, drawn from made runs: nothing overlaps, nothing is cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from looks import clashes
from vitrail import style
from vitrail.questions.experiments import cost, effects
from vitrail.questions.experiments.common import summarise
from vitrail.questions.experiments.figures import draw
from vitrail.questions.study import Study
from vitrail.questions.transfer import budget_figures
from vitrail.questions.transfer.budgets import by_method
from vitrail.questions.transfer.cost import draw_curves, learning_curves
from vitrail.settings import steps_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Study:
    """The default study with the figures of its runs made up, but no weights."""
    from vitrail.config import load

    style.use()
    study = Study(load([root / "config" / "default.yaml"]), tmp_path_factory.mktemp("made"))
    chance = np.random.default_rng(0)
    for name in study.plan.pretrainings:
        (study.folder / "pretraining" / name).mkdir(parents=True)
        summary = {"seconds": 20.0}
        (study.folder / "pretraining" / name / "summary.json").write_text(json.dumps(summary))
    for arm in study.plan.arms.values():
        middle, size = chance.uniform(0.8, 0.99), chance.integers(5_000, 2_000_000)
        for seed in arm.seeds:
            folder = study.run_folder(arm.arm_id, seed)
            folder.mkdir(parents=True)
            facts = {"hardware": "a test", "threads": 1, "versions": {"torch": "0"}}
            (folder / "env.json").write_text(json.dumps(facts))
            value = float(middle + chance.normal(0, 0.003))
            steps = np.arange(1, 5) * steps_of(arm.settings) // 4
            summary = {
                "status": "finished", "reason": "", "parameters": int(size),
                "macs": int(20 * size), "samples": int(steps[-1] * arm.settings["batch_size"]),
                "seconds": 30.0, "train_samples_per_second": 1e8 / size, "val_accuracy": value,
                "test_accuracy": value, "test_errors": round(1e4 * (1 - value)),
            }  # fmt: skip
            (folder / "summary.json").write_text(json.dumps(summary))
            curve = {
                "step": steps, "samples": steps * arm.settings["batch_size"],
                "val_accuracy": value - np.array([0.2, 0.1, 0.03, 0]),
            }  # fmt: skip
            pd.DataFrame(curve).to_csv(folder / "history.csv", index=False)
            seconds = pd.DataFrame({"step": steps, "seconds": steps * size / 1e8})
            seconds.to_csv(folder / "timing.csv", index=False)
    return study


def all_figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """What is drawn from runs alone."""
    base = study.plan.arms[study.plan.base].settings
    tables = {}
    for experiment in study.plan.experiments:
        if experiment.methods:
            table = by_method(study, experiment)
            yield "label_curves", budget_figures.curves(table, experiment)
            yield "label_gains", budget_figures.gains(table)
            continue
        table = tables[experiment.name] = summarise(study, experiment)
        yield f"{experiment.question}-{experiment.name}", draw(study, experiment, table)
        if experiment.name == "transfer":
            curves = learning_curves(study, experiment)
            yield "learning_curves", draw_curves(curves, style.looks_of(experiment.members, base))
    mine = {e.name: tables[e.name] for e in study.plan.of_question("q6_vit")}
    yield "cost", cost.draw(cost.points_of(mine, steps_of(base) * base["batch_size"]))
    yield "effects", effects.draw(effects.effects(study, "q6_vit"))


def test_clashes_are_seen() -> None:
    import matplotlib.pyplot as plt

    style.use()
    drawing, axes = plt.subplots(figsize=(style.WIDTH, 2))
    assert clashes(drawing) == []
    axes.text(0.5, 0.5, "one note")
    axes.text(0.52, 0.52, "another")
    drawing.text(0.99, 0.5, "cut off")
    assert clashes(drawing) == [
        "'cut off' leaves the figure",
        "'one note' and 'another' overlap",
    ]
    plt.close(drawing)


def test_no_text_of_the_study_overlaps_or_is_cut_off(study: Study) -> None:
    import matplotlib.pyplot as plt

    told = {}
    for name, drawing in all_figures(study):
        found = [*clashes(drawing), *style.faults(drawing)]
        plt.close(drawing)
        if found:
            told[name] = found
    assert told == {}
