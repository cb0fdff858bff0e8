"""Q3: self-attention with one head: where it looks, and why it is scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.claims import holds
from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.attention_figures import entropy_share, maps_of, overlay
from vitrail.questions.experiments import add
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (4, 16, 64, 256)
TOKENS = 16
DIGITS = 5


def answer(study: Study) -> Answer:
    """Variance and entropy with and without the scale, and attention drawn on digits."""
    result = Answer(sentence="", table=pd.DataFrame())
    scale = scale_table()
    result.data["scale"] = scale
    wide = scale[scale["d_k"] == 64].iloc[0]
    result.numbers["scale"] = {
        "variance_before": f"{wide['variance']:.1f}",
        "variance_after": f"{wide['variance_scaled']:.2f}",
        "entropy_before": f"{100 * wide['entropy']:.0f} %",
        "entropy_after": f"{100 * wide['entropy_scaled']:.0f} %",
    }
    result.tables["scale"] = _scale_markdown(scale)
    result.claims.append(
        holds(
            "q3-scale-keeps-variance",
            "Dividing by $\\sqrt{d_k}$ brings the variance of the logits from $d_k$ to one.",
            "sample variance of q·k within 10 % of d_k, and within 10 % of one once scaled",
            f"$d_k = 64$: {wide['variance']:.1f} before, {wide['variance_scaled']:.2f} after",
            bool(
                (abs(scale["variance"] / scale["d_k"] - 1) < 0.1).all()
                and (abs(scale["variance_scaled"] - 1) < 0.1).all()
            ),
        )
    )
    seen, shares = draw_one_head(study)
    result.figures["one_head_map"] = seen
    result.numbers["one_head_entropy"] = {
        f"block{block}": f"{100 * share:.0f} %" for block, share in enumerate(shares, start=1)
    }
    add(study, result, "q3_self_attention")
    result.sentence = (
        "Self-attention lets every token read every other one, with weights computed from the "
        "tokens themselves; a convolution reads a fixed neighbourhood with fixed weights. The "
        "price is a table of N × N weights per head: time and, when it is stored, memory grow "
        f"with N². Without the factor $1/\\sqrt{{d_k}}$ the variance of a logit is "
        f"{wide['variance']:.1f} at $d_k = 64$; with it, {wide['variance_scaled']:.2f}."
    )
    return result


def scale_table(seed: int = 0) -> pd.DataFrame:
    """Logits of random queries and keys: variance, and entropy of their softmax."""
    import torch

    from vitrail.model.attention import attention_weights, logit_variance

    rows = []
    for width in WIDTHS:
        before, after = logit_variance(width)
        generator = torch.Generator().manual_seed(seed)
        query, key = torch.randn(2, 256, TOKENS, width, generator=generator)
        plain = (query @ key.transpose(-2, -1)).softmax(dim=-1).numpy()
        scaled = attention_weights(query, key).numpy()
        rows.append(
            {
                "d_k": width,
                "variance": before,
                "variance_scaled": after,
                "entropy": entropy_share(plain),
                "entropy_scaled": entropy_share(scaled),
            }
        )
    return pd.DataFrame(rows)


def _scale_markdown(scale: pd.DataFrame) -> str:
    printed = pd.DataFrame(
        {
            "$d_k$": scale["d_k"],
            "Variance of $q·k$": scale["variance"].map("{:.1f}".format),
            "after $1/\\sqrt{d_k}$": scale["variance_scaled"].map("{:.2f}".format),
            "Entropy of softmax": scale["entropy"].map(lambda v: f"{100 * v:.0f} %"),
            "after $1/\\sqrt{d_k}$ ": scale["entropy_scaled"].map(lambda v: f"{100 * v:.0f} %"),
        }
    )
    return markdown_table(
        printed,
        "Queries and keys drawn from a standard normal distribution: variance of their products, "
        f"and entropy of the attention rows over {TOKENS} tokens as a share of the entropy of "
        "uniform attention. Without the scale, wide heads attend to single tokens from the start.",
        "q3-scale",
        left=0,
    )


def draw_one_head(study: Study) -> tuple[Figure, list[float]]:
    """Attention of the one-head model from one patch, block by block, on digits."""
    import matplotlib.pyplot as plt

    arm = one_head_arm(study)
    settings = study.plan.arms[arm].settings
    images, raw = study.images(DIGITS, arm)
    maps = maps_of(study.network(arm), images)
    patch, prefix = settings["patch_size"], int(settings["class_token"])
    side = raw.shape[1] // patch
    query = side * (side // 2) + side // 2  # the patch just right of and below the centre
    drawing, grid = plt.subplots(
        len(maps), DIGITS, figsize=(style.WIDTH, 1.35 * len(maps)), squeeze=False
    )
    for block, attention in enumerate(maps):
        for column in range(DIGITS):
            axes = grid[block, column]
            row = attention[column].mean(axis=0)[prefix + query, prefix:]
            overlay(axes, raw[column], row, patch)
            corner = (patch * (query % side) - 0.5, patch * (query // side) - 0.5)
            axes.add_patch(
                plt.Rectangle(corner, patch, patch, fill=False, edgecolor="#ff3b30", linewidth=1.5)
            )
        grid[block, 0].text(
            -0.12, 0.5, f"block {block + 1}", rotation=90, ha="center", va="center",
            transform=grid[block, 0].transAxes, fontsize=8.5,
        )  # fmt: skip
    return drawing, [entropy_share(attention) for attention in maps]


def one_head_arm(study: Study) -> str:
    """The arm with a single head, or the base arm when the config has none."""
    for arm in study.plan.arms_of("q3_self_attention"):
        settings = study.plan.arms[arm].settings
        if settings["model"] == "vit" and settings["num_heads"] == 1:
            return arm
    return study.plan.base


def attention_distance(attention: np.ndarray, prefix: int) -> np.ndarray:
    """Mean distance in patches between a patch and what each head reads; (H,)."""
    patches = attention[..., prefix:, prefix:]
    side = round(patches.shape[-1] ** 0.5)
    rows, columns = np.divmod(np.arange(side * side), side)
    distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    weights = patches / patches.sum(axis=-1, keepdims=True)
    return (weights * distance).sum(axis=-1).mean(axis=(0, 2))
