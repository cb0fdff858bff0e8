"""How the arms of Q5 learn: training loss and validation accuracy against steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vitrail import style
from vitrail.analysis import counted
from vitrail.intact import intact
from vitrail.questions.block.arms import add_legend, draw_arms, finished, look_of
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["step", "train_loss", "val_accuracy"]


def training_curves(study: Study) -> pd.DataFrame:
    """The histories of the ViTs that Q5 compares: a row per arm, seed and evaluation.

    `train_loss` is the mean over the steps since the row before, in nats; `val_accuracy` is a
    fraction.
    """
    frames = []
    for arm, seeds in finished(study).items():
        look = look_of(study.plan.arms[arm].settings)
        for seed in seeds:
            history = pd.read_csv(intact(study.run_folder(arm, seed), "history.csv"))
            frames.append(history[COLUMNS].assign(arm=arm, seed=seed, **look))
    return pd.concat(frames, ignore_index=True)


def draw_curves(curves: pd.DataFrame) -> Figure:
    """A row of panels per depth. Left: training loss. Right: validation accuracy."""
    import matplotlib.pyplot as plt

    depths = list(dict.fromkeys(curves["depth"]))
    drawing, panels = plt.subplots(
        len(depths), 2, figsize=(style.WIDTH, 0.4 + 2.1 * len(depths)), squeeze=False, sharex="row"
    )
    shown = curves.assign(per_cent=100 * curves["val_accuracy"])
    for (left, right), depth in zip(panels, depths, strict=True):
        mine = shown[shown["depth"] == depth]
        draw_arms(left, mine, "step", "train_loss")
        draw_arms(right, mine, "step", "per_cent")
        left.set(title=counted(depth, "block"), ylabel="training loss (nats)")
        right.set_ylabel("validation accuracy (%)")
        left.set_xlim(left=0)
    for axes in panels[-1]:
        axes.set_xlabel("optimiser steps")
    add_legend(panels.flat)
    style.set_apart(drawing)
    return drawing
