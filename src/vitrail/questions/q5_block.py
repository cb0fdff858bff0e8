"""Q5: the transformer block, before and after: pre-norm against post-norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.questions.answer import Answer
from vitrail.questions.experiments import add
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def answer(study: Study) -> Answer:
    """The ablation, and how large the tokens are after each block."""
    result = Answer(sentence="", table=pd.DataFrame())
    norms = residual_norms(study)
    result.data["token_norms"] = norms
    result.figures["token_norms"] = draw_norms(norms)
    base = norms[norms["arm"] == norms["arm"].iloc[0]]
    result.numbers["norm_first"] = f"{base['norm'].iloc[0]:.1f}"
    result.numbers["norm_last"] = f"{base['norm'].iloc[-1]:.1f}"
    tables = add(study, result, "q5_block")
    measured = "; ".join(
        f"{arm['label']}: {arm['accuracy']}"
        for name in tables
        for arm in result.numbers[name].values()
        if isinstance(arm, dict)
    )
    result.sentence = (
        "A block is attention, then an MLP, each added to what it read. ViT normalises the input "
        "of each part (pre-norm); the equations of 2017 normalise the sum (post-norm). "
        + (f"Measured test accuracy: {measured}." if measured else "No arm compares them here.")
    )
    return result


def residual_norms(study: Study) -> pd.DataFrame:
    """Mean length of the tokens after each block, for the ViTs that Q5 compares."""
    import torch

    arms = {
        member.arm.arm_id: member.label
        for experiment in study.plan.of_question("q5_block")
        for member in experiment.members
        if member.arm.settings["model"] == "vit"
    } or {study.plan.base: study.plan.arms[study.plan.base].label}
    rows = []
    for arm, label in arms.items():
        network: Any = study.network(arm)
        images, _ = study.images(10, arm)
        with torch.inference_mode():
            tokens = network.embed(images)
            for position in range(len(network.blocks) + 1):
                if position:
                    tokens = network.blocks[position - 1](tokens)
                length = float(np.asarray(tokens.norm(dim=-1)).mean())
                rows.append({"arm": arm, "label": label, "after_block": position, "norm": length})
    return pd.DataFrame(rows)


def draw_norms(norms: pd.DataFrame) -> Figure:
    """Length of the residual stream from block to block."""
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(style.WIDTH * 0.62, 2.4))
    for colour, (label, rows) in zip(
        style.SERIES, norms.groupby("label", sort=False), strict=False
    ):
        axes.plot(rows["after_block"], rows["norm"], marker="o", color=colour, label=str(label))
    axes.set(
        xlabel="after block (0: the embedding)", ylabel="mean length of a token", ylim=(0, None)
    )
    axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axes.legend()
    return drawing
