"""Q7's tables of the law, as the report prints them."""

from __future__ import annotations

import math

import pandas as pd

from vitrail.questions.answer import markdown_table
from vitrail.questions.complexity.law import WIDEST


def exponents_markdown(steps: pd.DataFrame, hardware: str) -> str:
    """Exponents of a block, widths side by side; bold where the interval holds the formula's."""
    block = steps[steps["what"] == "block"]
    rows = []
    for (start, end), part in block.groupby(["n_from", "n_to"], sort=True):
        row = {"Tokens": f"{start:,} to {end:,}"}
        for entry in part.to_dict("records"):
            found = f"{entry['slope']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
            width = entry["embed_dim"]
            row[f"Formula, {width}"] = f"{entry['predicted']:.2f}"
            row[f"Timed apart, {width}"] = f"{entry['weighted']:.2f}"
            hit = entry["inside"] and entry["sharp"]
            row[f"Measured, {width}"] = f"**{found}**" if hit else found
        rows.append(row)
    return markdown_table(
        pd.DataFrame(rows),
        "Local exponents of the time of one block, forward pass, fused kernel, with 95 % bootstrap "
        f"intervals of the repeats; bold where one no wider than {WIDEST:g} holds the formula's "
        "exponent. *Timed apart* weighs the formula's two terms with their own times. The number "
        f"in each heading is the width. {hardware}.",
        "q7-exponents",
    )


def crossovers_markdown(crossings: pd.DataFrame) -> str:
    """Where the two parts of a block are equal."""

    def length(value: float) -> str:
        return "not among the timed lengths" if math.isnan(value) else f"{value:,.0f}"

    printed = pd.DataFrame(
        {
            "Width": [str(width) for width in crossings["embed_dim"]],
            "(2 + r) d": [length(value) for value in crossings["predicted"]],
            "Clock, fused": [length(value) for value in crossings["fused"]],
            "Clock, written out": [length(value) for value in crossings["naive"]],
        }
    )
    return markdown_table(
        printed,
        "Number of tokens at which the quadratic part of a block equals the linear one: in "
        "multiply-accumulates, and in time, where the products between the projections take as "
        "long as the linear layers of a block, each timed on its own.",
        "q7-crossovers",
    )
