"""Q8d in words and tables: what each method brings, and what becomes of the lab report's ideas."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from vitrail.analysis import Estimate, counted, percent, points
from vitrail.questions.answer import markdown_table
from vitrail.questions.transfer.budgets import IDEAS, clear, gain_of, shared_budgets
from vitrail.runs import Experiment

MOST = 3  # methods that an answer names at a budget


def accuracy_markdown(table: pd.DataFrame, caption: str) -> str:
    """Accuracies, a row per method and a column per budget."""
    return markdown_table(
        _wide(table, lambda row: percent(_accuracy(row)).replace(" %", "")),
        caption,
        "q8-label-accuracy",
    )


def gains_markdown(table: pd.DataFrame, reference: str, caption: str) -> str:
    """Gains over the reference in points; bold where the interval excludes zero."""
    return markdown_table(
        _wide(table, lambda row: "reference" if row["method"] == reference else gain_words(row)),
        caption,
        "q8-label-gains",
    )


def cost_markdown(table: pd.DataFrame, caption: str) -> str:
    """What each method takes, at the largest budget that most of them have."""
    budget = max(shared_budgets(table))
    rows = table[table["label_budget"] == budget].to_dict("records")
    frame = pd.DataFrame(
        {
            "Method": [row["label"] for row in rows],
            "Sees beside the labels": [row["beyond"] or "nothing" for row in rows],
            "Params (k)": [_figure(row["parameters"], 1e3, ",.0f") for row in rows],
            "MMACs": [_figure(row["macs"], 1e6, ".2f") for row in rows],
            "Steps": [f"{row['steps']:,}" for row in rows],
            "Seconds": [_figure(row["seconds"], 1, ".1f") for row in rows],
            "Pretraining (s)": [_figure(row["pretraining_seconds"], 1, ",.0f") for row in rows],
        }
    )
    widths = (28, 20, 11, 11, 8, 10, 12)
    return markdown_table(frame, caption, "q8-label-cost", left=2, widths=widths)


def ideas_markdown(table: pd.DataFrame, caption: str) -> str:
    """The lab report's ideas, each with what the runs say of it."""
    rows = []
    for idea in IDEAS:
        for method, mine in table[table["idea"] == idea].groupby("method", sort=False):
            del method
            gains = "; ".join(
                f"{row['label_budget']:,}: {gain_words(row)}" for row in mine.to_dict("records")
            )
            rows.append((idea, mine["label"].iloc[0], gains, verdict(mine)))
    if not rows:
        return "None of the lab report's ideas is an arm of this study.\n"
    frame = pd.DataFrame(rows, columns=["Idea", "Arm", "Gain by number of labels", "Verdict"])
    return markdown_table(frame, caption, "q8-ideas", left=4)


def verdict(rows: pd.DataFrame) -> str:
    """Where a method helps, hurts, or cannot be told from nothing."""
    found: dict[str, list[str]] = {"helps": [], "hurts": [], "undecided": []}
    for row in rows.to_dict("records"):
        gain = gain_of(row)
        word = "helps" if gain.low > 0 else "hurts" if gain.high < 0 else "undecided"
        found[word].append(f"{row['label_budget']:,}")
    return "; ".join(
        f"{word} at {_listed(budgets)} labels" for word, budgets in found.items() if budgets
    )


def sentence(table: pd.DataFrame, experiment: Experiment, brief: bool = False) -> str:
    """What makes the reference better on few labels, by what was measured; for the answer.

    Changes to the reference alone: another kind of model is no change to it, a control no help.
    `brief` names one change at each of the budgets that all methods share, for the opening page.
    """
    reference = experiment.methods[experiment.reference]
    shared = shared_budgets(table)
    parts = []
    for budget in sorted(shared if brief else table["label_budget"].unique()):
        here = table[table["label_budget"] == budget]
        standard = here[here["method"] == experiment.reference].to_dict("records")[0]
        alike = (here["model"] == standard["model"]) & ~here["shuffled"]
        tried = here[alike & here["gain"].notna()]
        if tried.empty:
            continue
        up = clear(tried)
        up = up[up["gain"] > 0].sort_values("gain", ascending=False, kind="stable")
        most = f"of {counted(len(tried), 'change')} none has a gain that is told from zero"
        if len(up):
            named = up.head(MOST if budget in shared and not brief else 1).to_dict("records")
            best = ", ".join(f"{row['label']} {points(gain_of(row))}" for row in named)
            most = f"gaining most: {best}"
        parts.append(
            f"with {budget:,} labels {reference} reaches **{percent(_accuracy(standard))}**, {most}"
        )
    return f"On few labels: {'; '.join(parts)} (points, paired by subset)." if parts else ""


def seen_curves(table: pd.DataFrame, methods: list[str]) -> str:
    """Which curve lies lowest at each end, for those who cannot see the figure."""
    there = table[table["method"].isin(methods) & (table["seeds"] > 0)]
    told = []
    for budget in sorted({there["label_budget"].min(), there["label_budget"].max()}):
        here = there[there["label_budget"] == budget]
        if len(here):
            best = here.sort_values("accuracy", kind="stable").iloc[-1]
            error = 100 * (1 - best["accuracy"])
            told.append(f"Lowest at {budget:,.0f} labels is {best['label']} with {error:.1f} %.")
    return " ".join(told)


def seen_gains(table: pd.DataFrame) -> str:
    """How many intervals lie on each side of zero, for those who cannot see the figure."""
    sure = clear(table[table["gain"].notna()])
    up, down = (sure["gain"] > 0).sum(), (sure["gain"] < 0).sum()
    return f"{up} intervals lie wholly right of it, {down} wholly left of it."


def gain_words(row: dict[Any, Any]) -> str:
    """A gain for print, in bold where its interval excludes zero."""
    gain = gain_of(row)
    words = points(gain)
    sure = not math.isnan(gain.half_width) and abs(gain.mean) > gain.half_width
    return f"**{words}**" if sure else words


def _accuracy(row: dict[Any, Any]) -> Estimate:
    return Estimate(row["accuracy"], row["accuracy_half_width"], row["seeds"])


def _wide(table: pd.DataFrame, words: Any) -> pd.DataFrame:
    """A row per method, a column per budget; a dash where a method has no such budget."""
    budgets = sorted(table["label_budget"].unique())
    rows = []
    for _, mine in table.groupby("method", sort=False):
        cells = {row["label_budget"]: words(row) for row in mine.to_dict("records")}
        rows.append([mine["label"].iloc[0], *(cells.get(budget, "–") for budget in budgets)])
    return pd.DataFrame(rows, columns=["Method", *(f"{budget:,} labels" for budget in budgets)])


def _figure(value: float, scale: float, form: str) -> str:
    if math.isnan(value):
        return "not run"
    return format(value / scale, form) if value else "–"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
