"""The figure of an experiment that varies two settings: a heat-map, and what it costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.runs import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "Blues"


def words(experiment: Experiment, table: pd.DataFrame) -> tuple[str, str]:
    """What the figure means and how to read it, and what is seen, for those who cannot see it."""
    rows, columns = experiment.factors
    ran = table[table["seeds"] > 0].sort_values("test_accuracy", kind="stable")
    ends = ""
    if len(ran) > 1:
        ends = f", darkest for {ran.iloc[-1]['label']}, palest for {ran.iloc[0]['label']}"
    reference = experiment.member(experiment.reference).label
    return (
        f"Left: mean test accuracy in % and the half width of its 95 % interval for every "
        f"combination; the frame marks the reference ({reference}). Right: the same accuracies "
        f"against the work of a forward pass, one line per {rows}, each point with its {columns}: "
        "of two points above each other the upper one spends the same work better.",
        f"A heat map of accuracies over {rows} and {columns}{ends}. Beside it a line for each "
        f"{rows} with the same accuracies against multiply-accumulates.",
    )


def values_of(experiment: Experiment) -> tuple[list[str], list[str]]:
    """The values of the first factor (rows) and of the second (columns), in their order.

    They are read from the labels, which say what was asked for: a setting that follows from
    others (`head_dim`) may be stored in another form.
    """
    parts = [member.label.split(", ") for member in experiment.members]
    first, second = (
        [part[place].removeprefix(f"{factor} ") for part in parts]
        for place, factor in enumerate(experiment.factors)
    )
    return list(dict.fromkeys(first)), list(dict.fromkeys(second))


def draw(experiment: Experiment, table: pd.DataFrame) -> Figure:
    """Left: accuracies as a heat-map. Right: the same against MACs.

    `table` has one row per arm, those of the first value of the first factor first.
    """
    import matplotlib.pyplot as plt

    rows, columns = values_of(experiment)
    cells = [
        list(table.to_dict("records"))[start : start + len(columns)]
        for start in range(0, len(table), len(columns))
    ]
    drawing, (left, right) = plt.subplots(
        1, 2,
        figsize=(style.WIDTH, max(2.9, 1.1 + 0.48 * len(rows))),
        width_ratios=[max(1.0, 0.3 * len(columns)), 1.1],
    )  # fmt: skip
    draw_heat(left, experiment, cells, rows, columns)
    draw_against_macs(right, experiment, cells, rows, columns)
    style.set_apart(drawing)
    return drawing


def draw_heat(
    axes: Axes,
    experiment: Experiment,
    cells: list[list[dict[Any, Any]]],
    rows: list[str],
    columns: list[str],
) -> None:
    """One cell per arm with its accuracy; arms not run are hatched."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    heat = np.array([[100 * cell["test_accuracy"] for cell in line] for line in cells])
    ran = ~np.isnan(heat)
    low, high = (heat[ran].min(), heat[ran].max()) if ran.any() else (0.0, 1.0)
    reach = (high - low) or 1.0
    axes.imshow(heat, cmap=COLOURS, vmin=low - 0.15 * reach, vmax=high + 0.1 * reach, aspect="auto")
    shade = colormaps[COLOURS]
    for y, line in enumerate(cells):
        for x, cell in enumerate(line):
            corner = (x - 0.5, y - 0.5)
            if not cell["seeds"]:
                axes.add_patch(
                    Rectangle(
                        corner, 1, 1, facecolor="white", edgecolor=style.GRID, hatch="////",
                        linewidth=0,
                    )
                )  # fmt: skip
                axes.text(x, y, "not run", ha="center", va="center")
                continue
            value = (heat[y, x] - low + 0.15 * reach) / (1.25 * reach)
            dark = np.mean(shade(value)[:3]) < 0.55
            colour = "white" if dark else style.INK
            half = cell["test_accuracy_half_width"]
            text = f"{heat[y, x]:.1f}" + ("" if math.isnan(half) else f"\n± {100 * half:.1f}")
            axes.text(x, y, text, ha="center", va="center", color=colour)
            if cell["arm"] == experiment.reference:
                axes.add_patch(
                    Rectangle(
                        (x - 0.46, y - 0.46), 0.92, 0.92, fill=False, linewidth=1.8,
                        edgecolor=style.MARK,
                    )
                )  # fmt: skip
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=experiment.factors[1], ylabel=experiment.factors[0])
    axes.set_title("test accuracy (%)")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def draw_against_macs(
    axes: Axes,
    experiment: Experiment,
    cells: list[list[dict[Any, Any]]],
    rows: list[str],
    columns: list[str],
) -> None:
    """Accuracy against work, a line per row of the grid; what two ways to spend it buy."""
    first, second = experiment.factors
    looks = _looks(experiment, rows, cells)
    for value, line in zip(rows, cells, strict=True):
        look = looks[value]
        there = [(name, cell) for name, cell in zip(columns, line, strict=True) if cell["seeds"]]
        macs = [cell["macs"] for _, cell in there]
        accuracy = [100 * cell["test_accuracy"] for _, cell in there]
        half = [100 * np.nan_to_num(cell["test_accuracy_half_width"]) for _, cell in there]
        axes.errorbar(
            macs, accuracy, yerr=half, **look.plot, markersize=5, capsize=2, elinewidth=0.8,
            label=value,
        )  # fmt: skip
        for (name, _), x, y in zip(there, macs, accuracy, strict=True):
            axes.annotate(
                name, (x, y), color=look.colour, ha="left", va="top",
                xytext=(3, -3), textcoords="offset points",
            )  # fmt: skip
    axes.set(xlabel="MACs of a forward pass", ylabel="test accuracy (%)")
    axes.set_title(f"numbers: {second}")
    style.plain_log_ticks_x(axes)
    axes.margins(x=0.12)
    axes.legend(title=first)


def _looks(
    experiment: Experiment, rows: list[str], cells: list[list[dict[Any, Any]]]
) -> dict[str, style.Look]:
    """The row of the reference looks as the base ViT, the other rows as variants of it."""
    here = [
        value
        for value, line in zip(rows, cells, strict=True)
        if experiment.reference in {cell["arm"] for cell in line}
    ]
    order = [*here, *(value for value in rows if value not in here)]
    return dict(zip(order, style.vits(len(order)), strict=True))
