"""How long tokens are after each block, and whether pre-norm lets them grow more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import Estimate, counted, paired_difference
from vitrail.claims import Claim, all_above_zero, holds
from vitrail.questions.block.arms import Pair, add_legend, draw_arms, finished, look_of
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def token_norms(study: Study) -> pd.DataFrame:
    """Mean length of the tokens after each block, for the ViTs that Q5 compares.

    One row per arm, seed and block, on the first test image of each digit; `after_block` 0
    is the embedding.
    """
    import torch

    rows = []
    for arm, seeds in finished(study).items():
        look, (images, _) = look_of(study.plan.arms[arm].settings), study.images(10, arm)
        for seed in seeds:
            network: Any = study.network(arm, seed)
            with torch.inference_mode():
                tokens = network.embed(images)
                for position in range(len(network.blocks) + 1):
                    if position:
                        tokens = network.blocks[position - 1](tokens)
                    length = float(np.asarray(tokens.norm(dim=-1)).mean())
                    place = {"after_block": position, "length": length}
                    rows.append({"arm": arm, "seed": seed, **look, **place})
    return pd.DataFrame(rows)


def growth(norms: pd.DataFrame, arm: str) -> dict[int, float]:
    """By what factor the tokens of an arm grow from the embedding to the last block, by seed.

    A network that diverged has none.
    """
    factors = {}
    for seed, rows in norms[norms["arm"] == arm].groupby("seed"):
        lengths = rows.sort_values("after_block")["length"]
        factors[int(str(seed))] = float(lengths.iloc[-1] / lengths.iloc[0])
    return {seed: factor for seed, factor in factors.items() if math.isfinite(factor)}


def growth_claims(norms: pd.DataFrame, pairs: list[Pair]) -> list[Claim]:
    """Whether tokens grow more under pre-norm, in every pair of arms; nothing without a pair."""
    if not pairs:
        return []
    gaps = [(pair.label, _log_ratio(norms, pair)) for pair in pairs]
    less = [label for label, gap in gaps if gap.high < 0]
    return [
        holds(
            "q5-pre-norm-grows",
            "Tokens grow more from the embedding to the last block under pre-norm than under "
            "post-norm.",
            "95 % intervals of the logarithm of the factor by which tokens grow, pre-norm minus "
            "post-norm, paired by seed, for each pair of arms that differ in nothing else; all "
            "have to lie above zero",
            "growth under pre-norm over that under post-norm: "
            + "; ".join(f"{label}: {_ratio_words(gap)}" for label, gap in gaps),
            all_above_zero(gap for _, gap in gaps),
            "Tokens grow less from the embedding to the last block under pre-norm than under "
            f"post-norm: {'; '.join(less)}.",
        )
    ]


def _log_ratio(norms: pd.DataFrame, pair: Pair) -> Estimate:
    """Logarithm of how many times as much tokens grow under pre-norm, over the seeds.

    Growth is a factor, so factors are compared by their ratio.
    """
    pre, post = (
        {seed: math.log(factor) for seed, factor in growth(norms, arm).items()}
        for arm in (pair.pre, pair.post)
    )
    return paired_difference(pre, post)


def _ratio_words(gap: Estimate) -> str:
    """The ratio with its interval: "2.10 times (1.95 to 2.26 over 3 seeds)"."""
    if not gap.n:
        return "no run to compare"
    ratio = f"{math.exp(gap.mean):.2f} times"
    if math.isnan(gap.half_width):
        return f"{ratio} (one seed has no interval)"
    low, high = math.exp(gap.low), math.exp(gap.high)
    return f"{ratio} ({low:.2f} to {high:.2f} over {counted(gap.n, 'seed')})"


def draw_norms(norms: pd.DataFrame) -> Figure:
    """Length of the residual stream from block to block, one panel per depth."""
    import matplotlib.pyplot as plt

    depths = list(dict.fromkeys(norms["depth"]))
    drawing, panels = plt.subplots(
        1, len(depths), figsize=(style.WIDTH, 2.5), squeeze=False, sharey=True
    )
    for axes, depth in zip(panels[0], depths, strict=True):
        draw_arms(axes, norms[norms["depth"] == depth], "after_block", "length")
        axes.set(title=counted(depth, "block"), xlabel="after block (0: the embedding)")
        axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    panels[0, 0].set_ylabel("mean length of a token")
    panels[0, 0].set_ylim(bottom=0)  # for all, once all are drawn
    add_legend(panels[0])
    return drawing
