"""Q8d's figures: accuracy against the number of labels, and the gains side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vitrail import style
from vitrail.questions.transfer.budgets import clear, shared_budgets
from vitrail.runs import Experiment, Member

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = 6  # more lines in a panel cannot be told apart
LINEAR = 1.0  # points; beyond, the axis of gains is logarithmic
TICKS = [-30.0, -5.0, -1.0, 0.0, 1.0, 5.0, 30.0]


def drawn(table: pd.DataFrame) -> list[str]:
    """The methods with the most budgets, in the order of the config."""
    counts = table[table["seeds"] > 0].groupby("method", sort=False)["label_budget"].nunique()
    return list(counts[counts == counts.max()].index)[:LINES] if len(counts) else []


def first_of(experiment: Experiment, method: str) -> Member:
    """A method at the first of its budgets: at all of them it is one kind of network."""
    return next(member for member in experiment.members if member.method == method)


def curves(table: pd.DataFrame, experiment: Experiment) -> Figure:
    """Error rate against labels, both logarithmic, with 95 % intervals."""
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(style.WIDTH, 3.6))
    shown = [first_of(experiment, method) for method in drawn(table)]
    looks = style.looks_of(shown, first_of(experiment, experiment.reference).arm.settings)
    for method in drawn(table):
        look = looks[first_of(experiment, method).name]
        mine = table[(table["method"] == method) & (table["seeds"] > 0)].sort_values("label_budget")
        axes.errorbar(
            mine["label_budget"],
            100 * (1 - mine["accuracy"]),
            yerr=100 * mine["accuracy_half_width"].fillna(0),
            **look.plot, markersize=5, capsize=3,
            label=experiment.methods[method],
        )  # fmt: skip
    style.plain_log_ticks(axes)
    axes.set_xscale("log")
    budgets = sorted(table["label_budget"].unique())
    axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    axes.xaxis.set_minor_locator(style.no_ticks())
    axes.set(xlabel="labelled images", ylabel="test error (%)")
    drawing.legend(loc="outside lower center", ncols=2)
    return drawing


def gains(table: pd.DataFrame) -> Figure:
    """A panel per budget that most methods have: gain over the reference with its interval."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator

    tried = table[table["gain"].notna()]
    budgets = sorted(shared_budgets(tried))
    methods = list(dict.fromkeys(tried["method"]))
    height = 0.9 + 0.24 * max(4, len(methods))
    drawing, panels = plt.subplots(
        1, max(1, len(budgets)), figsize=(style.WIDTH, height), sharey=True, squeeze=False
    )
    labels = dict(zip(tried["method"], tried["label"], strict=True))
    for axes, budget in zip(panels[0], budgets, strict=False):
        mine = tried[tried["label_budget"] == budget].set_index("method")
        sure = set(clear(mine.reset_index())["method"])
        for place, method in enumerate(methods):
            if method not in mine.index:
                continue
            row = mine.loc[method]
            told = method in sure
            axes.errorbar(
                100 * row["gain"], place,
                xerr=0 if pd.isna(row["gain_half_width"]) else 100 * row["gain_half_width"],
                fmt="o", markersize=5, capsize=3,
                color=style.VIT if told else style.GUIDE,
                markerfacecolor=style.VIT if told else "white",
            )  # fmt: skip
        axes.axvline(0, color=style.INK, linewidth=0.8)
        axes.set_xscale("symlog", linthresh=LINEAR)
        axes.xaxis.set_major_locator(FixedLocator(TICKS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
        axes.margins(x=0.1)
        axes.set_title(f"{budget:,} labels")
        axes.grid(axis="y", visible=False)
    panels[0][0].set_yticks(range(len(methods)), [labels[method] for method in methods])
    panels[0][0].set_ylim(len(methods) - 0.5, -0.5)
    drawing.supxlabel("gain over the reference (points)")
    return drawing
