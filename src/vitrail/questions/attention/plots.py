"""Measures of attention drawn against width, depth and head, for Q3 and Q4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.questions.attention.measures import START, TRAINED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WITH: Final = "solid"
WITHOUT: Final = "dashed"
TITLES = {START: "before training", TRAINED: "after training"}


def draw_scale(scale: pd.DataFrame) -> Figure:
    """Entropy and gradient of random queries and keys against d_k."""
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 2.5))
    for line, suffix, name in ((WITH, "_scaled", "with"), (WITHOUT, "", "without")):
        look = {"linestyle": line, "marker": "o", "markersize": 3.5}
        left.plot(
            scale["d_k"], 100 * scale[f"entropy{suffix}"], color=style.INK, **look,
            label=f"{name} $1/\\sqrt{{d_k}}$",
        )  # fmt: skip
        for column, colour, who in (
            ("gradient_mean", style.COLOURS["cnn"], "mean query"),
            ("gradient", style.COLOURS["vit"], "median query"),
        ):
            right.plot(
                scale["d_k"], scale[f"{column}{suffix}"], color=colour, **look,
                label=f"{who}, {name}",
            )  # fmt: skip
    left.set(title="entropy of the rows", ylabel="% of uniform", ylim=(0, 103))
    right.set(title="gradient of a query", ylabel="root mean square", yscale="log")
    style.plain_log_ticks(right)
    for axes in (left, right):
        axes.set_xlabel("$d_k$")
        axes.set_xscale("log", base=2)
        axes.set_xticks(scale["d_k"], [f"{width}" for width in scale["d_k"]])
        axes.legend(fontsize=8, handlelength=3)
    return drawing


def draw_entropy(measures: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Entropy by block, before and after training, with and without the scale.

    `labels` names the arms in the order of their colours; lines are means over seeds and
    heads, bands the range of the seeds.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    drawing, grid = plt.subplots(1, 2, figsize=(style.WIDTH, 2.8), sharey=True)
    for axes, state in zip(grid, (START, TRAINED), strict=True):
        for colour, arm in zip(style.SERIES, labels, strict=False):
            chosen = measures[(measures["arm"] == arm) & (measures["state"] == state)]
            for line, column in ((WITH, "entropy"), (WITHOUT, "entropy_unscaled")):
                seeds = 100 * chosen.pivot_table(column, "block", "seed")
                axes.plot(
                    seeds.index, seeds.mean(axis=1), color=colour, linestyle=line, marker="o",
                    markersize=3.5,
                )  # fmt: skip
                axes.fill_between(
                    seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=colour, alpha=0.15,
                    linewidth=0,
                )  # fmt: skip
        axes.set(title=TITLES[state], xlabel="block", ylim=(0, 103))
        _blocks(axes, measures)
    grid[0].set_ylabel("entropy (% of uniform)")
    keys = [
        Line2D([], [], color=colour, label=label)
        for colour, label in zip(style.SERIES, labels.values(), strict=False)
    ] + [
        Line2D([], [], color=style.INK, linestyle=WITH, label="with $1/\\sqrt{d_k}$"),
        Line2D([], [], color=style.INK, linestyle=WITHOUT, label="without $1/\\sqrt{d_k}$"),
    ]
    drawing.legend(handles=keys, loc="outside lower center", ncols=3, handlelength=3)
    return drawing


def draw_distance(
    measures: pd.DataFrame, patch: int, uniform: float, window: float | None
) -> Figure:
    """Mean attention distance of each head by block (Dosovitskiy et al. 2021, figure 7)."""
    import matplotlib.pyplot as plt

    drawing, grid = plt.subplots(1, 2, figsize=(style.WIDTH, 2.9), sharey=True)
    for axes, state in zip(grid, (START, TRAINED), strict=True):
        chosen = measures[measures["state"] == state]
        seeds = sorted(chosen["seed"].unique())
        for place, (colour, seed) in enumerate(zip(style.SERIES * 9, seeds, strict=False)):
            mine = chosen[chosen["seed"] == seed]
            shift = 0.16 * (place - (len(seeds) - 1) / 2)
            axes.scatter(
                mine["block"] + shift, mine["distance"], s=15, color=colour, alpha=0.75,
                linewidth=0, label=f"seed {seed}",
            )  # fmt: skip
        axes.axhline(uniform, color=style.INK, linestyle="--", linewidth=1, label="uniform")
        if window is not None:
            axes.axhline(
                window, color=style.INK, linestyle=":", linewidth=1.3, label="3 × 3 window"
            )
        axes.set(title=TITLES[state], xlabel="block")
        axes.set_ylim(0, 1.15 * max(uniform, measures["distance"].max()) or 1)
        _blocks(axes, measures)
    grid[0].set_ylabel("mean distance (patches)")
    pixels = grid[1].secondary_yaxis(
        "right", functions=(lambda value: value * patch, lambda value: value / patch)
    )
    pixels.set_ylabel("pixels")
    pixels.yaxis.set_major_locator(plt.MaxNLocator(6, integer=True))
    drawing.legend(*grid[1].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return drawing


def _blocks(axes: Axes, measures: pd.DataFrame) -> None:
    """A tick at each block, or at some of many."""
    depth = int(measures["block"].max())
    axes.set_xlim(0.5, depth + 0.5)
    axes.set_xticks(np.unique(np.linspace(1, depth, min(depth, 8)).round().astype(int)))
    axes.grid(axis="x", visible=False)
