"""Q5: the transformer block: pre-norm against post-norm, with and without warm-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.claims import Claim, holds
from vitrail.questions.answer import Answer
from vitrail.questions.experiments.common import add, decided
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORM_NAMES = {"pre": "pre-norm", "post": "post-norm"}


def answer(study: Study) -> Answer:
    """The drawing, the ablations, and how large the tokens are after each block."""
    from vitrail import drawings

    result = Answer(sentence="", table=pd.DataFrame())
    result.figures["block"] = drawings.block()
    norms = residual_norms(study)
    result.data["token_norms"] = norms
    result.figures["token_norms"] = draw_norms(norms)
    add(study, result, "q5_block")
    findings = " ".join(
        f"{experiment.title}: {' '.join(claim.finding for claim in decided(study, experiment))}"
        for experiment in study.plan.of_question("q5_block")
        if experiment.claims
    )
    result.claims += growth_claims(norms)
    result.sentence = (
        "A block is attention, then an MLP, each added to what it read. ViT normalises the input "
        "of each part (pre-norm); the equations of 2017 normalise the sum (post-norm). "
        + (findings or "No arm compares them here.")
    )
    return result


def residual_norms(study: Study) -> pd.DataFrame:
    """Mean length of the tokens after each block, for the ViTs that Q5 compares.

    One row per arm and block, on the first test image of each digit; `after_block` 0 is
    the embedding.
    """
    import torch

    arms = [arm for arm in study.plan.arms_of("q5_block") if _is_vit(study, arm)]
    rows = []
    for arm in arms or [study.plan.base]:
        settings = study.plan.arms[arm].settings
        network: Any = study.network(arm)
        images, _ = study.images(10, arm)
        with torch.inference_mode():
            tokens = network.embed(images)
            for position in range(len(network.blocks) + 1):
                if position:
                    tokens = network.blocks[position - 1](tokens)
                rows.append(
                    {
                        "arm": arm,
                        "depth": settings["depth"],
                        "norm": settings["norm"],
                        "warmup": settings["warmup"],
                        "after_block": position,
                        "length": float(np.asarray(tokens.norm(dim=-1)).mean()),
                    }
                )
    return pd.DataFrame(rows)


def _is_vit(study: Study, arm: str) -> bool:
    return bool(study.plan.arms[arm].settings["model"] == "vit")


def growth(norms: pd.DataFrame) -> dict[tuple[str, str], float]:
    """By what factor tokens grow from the embedding to the last block: (norm, arm) -> factor."""
    found = {}
    for (norm, arm), rows in norms.groupby(["norm", "arm"], sort=False):
        lengths = rows.sort_values("after_block")["length"]
        found[str(norm), str(arm)] = float(lengths.iloc[-1] / lengths.iloc[0])
    return found


def growth_claims(norms: pd.DataFrame) -> list[Claim]:
    """Whether pre-norm lets tokens grow more than post-norm does, in every arm."""
    factors = growth(norms)
    pre = [factor for (norm, _), factor in factors.items() if norm == "pre"]
    post = [factor for (norm, _), factor in factors.items() if norm == "post"]
    if not pre or not post:
        return []
    return [
        holds(
            "q5-pre-norm-grows",
            "Tokens grow more from the embedding to the last block under pre-norm than under "
            "post-norm.",
            "smallest growth of a pre-norm arm above the largest of a post-norm arm, first seeds",
            f"pre-norm {min(pre):.1f} to {max(pre):.1f} times, "
            f"post-norm {min(post):.1f} to {max(post):.1f} times (first seed of each arm)",
            min(pre) > max(post),
            otherwise="Tokens do not grow more under pre-norm than under post-norm in every arm.",
        )
    ]


def draw_norms(norms: pd.DataFrame) -> Figure:
    """Length of the residual stream from block to block, one panel per depth."""
    import matplotlib.pyplot as plt

    depths = list(dict.fromkeys(norms["depth"]))
    drawing, panels = plt.subplots(
        1, len(depths), figsize=(style.WIDTH, 2.5), squeeze=False, sharey=True
    )
    colours = {"pre": style.COLOURS["vit"], "post": style.COLOURS["cnn"]}
    for axes, depth in zip(panels[0], depths, strict=True):
        for (norm, warm, _), rows in norms[norms["depth"] == depth].groupby(
            ["norm", "warmup", "arm"], sort=False
        ):
            label = NORM_NAMES[str(norm)] + ("" if warm else ", no warm-up")
            axes.plot(
                rows["after_block"], rows["length"], color=colours[str(norm)], label=label,
                linestyle="-" if warm else ":", marker="o" if warm else "s", markersize=4,
            )  # fmt: skip
        axes.set(title=f"{depth} blocks", xlabel="after block (0: the embedding)")
        axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    panels[0, 0].set_ylabel("mean length of a token")
    panels[0, 0].set_ylim(bottom=0)  # for all, once all are drawn
    panels[0, 0].legend()
    return drawing
