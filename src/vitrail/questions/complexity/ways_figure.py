"""Q7's figure of the ways to lower the cost: time against accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitrail import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 4.3  # inches
GAP = 0.052  # between two labels, as a share of the height of a panel
LINEAR = 1.0  # points within which the axis of accuracy is linear


def draw_gains(ways: pd.DataFrame) -> Figure:
    """A panel for inference and one for training; every way with both figures is a point."""
    import matplotlib.pyplot as plt

    drawing, panels = plt.subplots(1, 2, figsize=(style.WIDTH, HEIGHT))
    for axes, table in zip(panels, ("inference", "training"), strict=True):
        _draw(axes, shown(ways, table))
        axes.set(title=table, xlabel="time, ratio to the baseline")
    panels[0].set_ylabel("accuracy minus baseline (points)")
    style.set_apart(drawing)
    return drawing


def shown(ways: pd.DataFrame, table: str) -> pd.DataFrame:
    """The ways of a table that have a time and an accuracy, best accuracy first; no baseline."""
    mine = ways[(ways["table"] == table) & ways["time_ratio"].notna()]
    mine = mine[mine["accuracy_difference"].notna() & (mine["way"] != mine["baseline"])]
    return mine.sort_values("accuracy_difference", ascending=False, kind="stable")


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
    """Points, and their labels in a column on the right, which lines lead to."""
    from matplotlib.ticker import FixedLocator, NullLocator

    gaps, ratios = 100 * rows["accuracy_difference"].to_numpy(), rows["time_ratio"].to_numpy()
    axes.axhline(0, color=style.GUIDE, linewidth=0.8, linestyle="--")
    axes.axvline(1, color=style.GUIDE, linewidth=0.8, linestyle="--")
    axes.errorbar(
        ratios, gaps, yerr=100 * rows["accuracy_half_width"].fillna(0).to_numpy(),
        xerr=np.stack([
            (rows["time_ratio"] - rows["time_low"]).fillna(0).to_numpy(),
            (rows["time_high"] - rows["time_ratio"]).fillna(0).to_numpy(),
        ]), fmt="o",
        markersize=4, color=style.VIT, ecolor="#c3cad0", elinewidth=1.2,
    )  # fmt: skip
    axes.set_yscale("symlog", linthresh=LINEAR)
    ticks = [-30.0, -10.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 10.0, 30.0]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    if rows.empty:
        return
    axes.margins(x=0.1)
    low, high = min(-LINEAR, gaps.min()), max(LINEAR, gaps.max())
    axes.set_ylim(1.25 * low, 1.25 * high)
    heights = axes.transAxes.inverted().transform(axes.transData.transform([(1, g) for g in gaps]))
    places = spread(heights[:, 1], GAP)
    line = {"arrowstyle": "-", "color": style.GUIDE, "linewidth": 0.5}
    line |= {"relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2}  # from the label's left end
    for way, ratio, gap, place in zip(rows["way"], ratios, gaps, places, strict=True):
        axes.annotate(
            way, xy=(ratio, gap), xytext=(1.06, place), textcoords="axes fraction",
            va="center", annotation_clip=False, arrowprops=line,
        )  # fmt: skip


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places near the wanted ones, given in falling order, that are `gap` or more apart.

    They lie between 0 and 1 as long as so many fit. Less its distance from the first, a place
    must not be above the one before: the nearest such places are those of a monotone
    regression.
    """
    from scipy.optimize import isotonic_regression

    steps = gap * np.arange(len(wanted))
    places = isotonic_regression(wanted + steps, increasing=False).x
    return np.asarray(np.clip(places, steps[-1], 1) - steps)
