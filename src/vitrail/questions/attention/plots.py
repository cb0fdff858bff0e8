"""Measures of attention drawn against width, depth and head, for Q3 and Q4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.questions.attention.measures import START, TRAINED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WITH: Final = "solid"
WITHOUT: Final = "dashed"
TITLES = {START: "before training", TRAINED: "after training"}


def draw_scale(scale: pd.DataFrame) -> Figure:
    """Entropy and gradient of random queries and keys against d_k."""
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 2.6))
    median, mean = style.vits(2)
    for line, suffix in ((WITH, "_scaled"), (WITHOUT, "")):
        look: dict[str, Any] = {"linestyle": line, "markersize": 3.5}
        entropy = 100 * scale[f"entropy{suffix}"]
        left.plot(scale["d_k"], entropy, color=style.INK, marker="o", **look)
        for column, who in (("gradient", median), ("gradient_mean", mean)):
            values = scale[f"{column}{suffix}"]
            right.plot(scale["d_k"], values, color=who.colour, marker=who.marker, **look)
    left.set(title="entropy of the rows", ylabel="% of uniform", ylim=(0, 103))
    right.set(title="gradient of a query", ylabel="root mean square", yscale="log")
    style.plain_log_ticks(right)
    for axes in (left, right):
        axes.set_xlabel("$d_k$")
        axes.set_xscale("log", base=2)
        axes.set_xticks(scale["d_k"], [f"{width}" for width in scale["d_k"]])
    keys = [_key(median, "median query"), _key(mean, "mean query"), *_scale_keys()]
    drawing.legend(handles=keys, loc="outside lower center", ncols=4, handlelength=3)
    style.set_apart(drawing)
    return drawing


def _key(look: style.Look, label: str) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=look.colour, marker=look.marker, markersize=3.5, label=label)


def _scale_keys() -> list[Line2D]:
    """What solid and dashed lines mean."""
    from matplotlib.lines import Line2D

    root = "$1/\\sqrt{d_k}$"
    return [
        Line2D([], [], color=style.INK, linestyle=WITH, label=f"with {root}"),
        Line2D([], [], color=style.INK, linestyle=WITHOUT, label=f"without {root}"),
    ]


def draw_entropy(measures: pd.DataFrame, labels: Mapping[str, str], base: str) -> Figure:
    """Entropy by block, before and after training, with and without the scale.

    `labels` names the arms, of which `base` is the base ViT; lines are means over seeds and
    heads, bands the range of the seeds.
    """
    import matplotlib.pyplot as plt

    order = sorted(labels, key=lambda arm: arm != base)
    looks = dict(zip(order, style.vits(len(order)), strict=True))
    drawing, grid = plt.subplots(1, 2, figsize=(style.WIDTH, 2.8), sharey=True)
    for axes, state in zip(grid, (START, TRAINED), strict=True):
        for arm, look in looks.items():
            chosen = measures[(measures["arm"] == arm) & (measures["state"] == state)]
            for line, column in ((WITH, "entropy"), (WITHOUT, "entropy_unscaled")):
                seeds = 100 * chosen.pivot_table(column, "block", "seed")
                axes.plot(
                    seeds.index, seeds.mean(axis=1), color=look.colour, linestyle=line,
                    marker=look.marker, markersize=3.5,
                )  # fmt: skip
                axes.fill_between(
                    seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=look.colour,
                    alpha=0.15, linewidth=0,
                )  # fmt: skip
        axes.set(title=TITLES[state], xlabel="block", ylim=(0, 103))
        _blocks(axes, measures)
    grid[0].set_ylabel("entropy (% of uniform)")
    keys = [*(_key(look, labels[arm]) for arm, look in looks.items()), *_scale_keys()]
    drawing.legend(handles=keys, loc="outside lower center", ncols=2, handlelength=3)
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
        for place, (look, seed) in enumerate(zip(style.vits(len(seeds)), seeds, strict=True)):
            # One network, so one colour; the seeds differ in their markers.
            mine = chosen[chosen["seed"] == seed]
            shift = 0.16 * (place - (len(seeds) - 1) / 2)
            axes.scatter(
                mine["block"] + shift, mine["distance"], s=15, color=style.VIT,
                marker=look.marker, alpha=0.75, linewidth=0, label=f"seed {seed}",
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
