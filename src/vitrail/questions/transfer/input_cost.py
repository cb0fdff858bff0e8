"""Q8b: what the ways to feed MNIST to ViT-S cost: small patches at 28 pixels, or 224 pixels."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.cost_model import total, vit_costs
from vitrail.efficiency import token_count
from vitrail.input_seconds import BATCH, ROUNDS, SIZES
from vitrail.intact import vouched
from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.study import Study

YARDSTICK, LARGE = (28, 7), (224, 16)
VIT_S: dict[str, Any] = {
    "in_chans": 1,
    "num_classes": 10,
    "embed_dim": 384,
    "depth": 12,
    "num_heads": 6,
}


def cost_table(timed: pd.DataFrame) -> pd.DataFrame:
    """img_size, patch_size, tokens, parameters, macs (formula), ratio, seconds (per image).

    Args:
        timed: ``input_seconds.csv``.
    """
    seconds = timed.set_index(["img_size", "patch_size"])["seconds"]
    costs = {
        (side, patch): total(vit_costs(img_size=side, patch_size=patch, **VIT_S))
        for side, patch in SIZES
    }
    return pd.DataFrame(
        {
            "img_size": side,
            "patch_size": patch,
            "tokens": token_count(side, patch),
            "parameters": cost.parameters,
            "macs": cost.macs,
            "ratio": cost.macs / costs[YARDSTICK].macs,
            "seconds": float(seconds[side, patch]),
        }
        for (side, patch), cost in costs.items()
    )


def cost_markdown(table: pd.DataFrame) -> str:
    """The table for print."""
    printed = pd.DataFrame(
        {
            "Image (px)": table["img_size"],
            "Patch (px)": table["patch_size"],
            "Tokens": table["tokens"],
            "Parameters (M)": [f"{value / 1e6:.2f}" for value in table["parameters"]],
            "GMACs": [f"{value / 1e9:.2f}" for value in table["macs"]],
            "× MACs": [f"{value:.2f}" for value in table["ratio"]],
            "ms per image": [f"{1e3 * value:.1f}" for value in table["seconds"]],
        }
    )
    caption = (
        "ViT-S on grey digits as they are, or enlarged to 224 pixels. MACs of the formula of "
        "@sec-q7; × MACs beside 28 pixels with patches of 7. The clock is a rough one: the median "
        f"of {ROUNDS} forward calls of {BATCH} images, one thread, other work beside it."
    )
    return markdown_table(printed, caption, "q8-input-cost", left=0)


def add(study: Study, result: Answer) -> None:
    """The table, and what enlarging multiplies."""
    table = cost_table(pd.read_csv(vouched(study.folder / "input_seconds.csv")))
    basis = "formulas, and a clock beside other work"
    result.tabulate("input_cost", cost_markdown, table, data=table, runs=basis)
    by_size = {(row["img_size"], row["patch_size"]): row for row in table.to_dict("records")}

    def quoted(row: dict[Any, Any]) -> dict[str, str]:
        return {"gmacs": f"{row['macs'] / 1e9:.2f}", "tokens": str(row["tokens"])}

    result.numbers["input_cost"] = {
        "small": quoted(by_size[YARDSTICK]),
        "large": quoted(by_size[LARGE]),
        "ratio": f"{by_size[LARGE]['ratio']:.1f}",
    }
