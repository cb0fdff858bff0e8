"""Q4: many heads: what each one reads, and what the number of heads changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.claims import holds
from vitrail.questions.answer import Answer
from vitrail.questions.attention_figures import maps_of, overlay
from vitrail.questions.experiments import add, best_and_worst
from vitrail.questions.q3_self_attention import attention_distance
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOLERANCE = 1e-5
DIGIT = 3


def answer(study: Study) -> Answer:
    """Parity with PyTorch's own module, maps of each head, the heads ablation."""
    settings = study.plan.arms[study.plan.base].settings
    heads, width = settings["num_heads"], settings["embed_dim"]
    network: Any = study.network(study.plan.base)
    images, raw = study.images(10, study.plan.base)
    gap = parity_gap(network, images)
    maps = maps_of(network, images)
    prefix = int(settings["class_token"])
    distances = np.stack([attention_distance(attention, prefix) for attention in maps])
    result = Answer(
        sentence="",
        table=pd.DataFrame(),
        numbers={
            "heads": str(heads),
            "head_width": str(width // heads),
            "gap": difference_words(gap),
            "distance_low": f"{distances.min():.2f}",
            "distance_high": f"{distances.max():.2f}",
        },
        claims=[
            holds(
                "q4-equals-torch",
                "Our multi-head attention computes what torch.nn.MultiheadAttention computes.",
                f"largest difference with copied weights below {TOLERANCE:.0e}",
                f"largest difference {difference_words(gap)} over all blocks of the base ViT",
                gap < TOLERANCE,
            )
        ],
        figures={"heads_map": draw_heads(maps, raw, settings["patch_size"], prefix)},
    )
    tables = add(study, result, "q4_multi_head")
    result.data["attention_distance"] = pd.DataFrame(
        [
            {"block": block + 1, "head": head + 1, "distance_in_patches": value}
            for block, row in enumerate(distances)
            for head, value in enumerate(row)
        ]
    )
    result.sentence = (
        f"{heads} heads of width {width // heads} read the same tokens side by side; their outputs "
        f"are concatenated and mixed by one {width} × {width} matrix. Our module differs from "
        f"`torch.nn.MultiheadAttention` by at most {difference_words(gap)}. " + _range(tables)
    )
    return result


def difference_words(gap: float) -> str:
    """A tiny difference for print; exact equality is worth saying."""
    return f"{gap:.1e}" if gap else "0 (equal to the last bit)"


def _range(tables: dict[str, pd.DataFrame]) -> str:
    """The best and the worst number of heads, as measured."""
    found = [best_and_worst(table) for table in tables.values()]
    return " ".join(
        f"At equal width, {best['label']} gave {100 * best['test_accuracy']:.2f} % and "
        f"{worst['label']} {100 * worst['test_accuracy']:.2f} % test accuracy."
        for pair in found
        if pair
        for best, worst in [pair]
    )


def parity_gap(network: Any, images: Any) -> float:
    """Largest difference to PyTorch's module with the same weights, over all blocks."""
    import torch
    from torch import nn

    gaps = []
    with torch.inference_mode():
        tokens = network.embed(images)
        for block in network.blocks:
            ours = block.attn
            width = ours.proj.in_features
            peer = nn.MultiheadAttention(width, ours.num_heads, batch_first=True).eval()
            state = {
                "in_proj_weight": ours.qkv.weight,
                "in_proj_bias": ours.qkv.bias
                if ours.qkv.bias is not None
                else torch.zeros(3 * width),
                "out_proj.weight": ours.proj.weight,
                "out_proj.bias": ours.proj.bias,
            }
            peer.load_state_dict(state)
            x = block.attention_input(tokens)
            gaps.append((ours(x) - peer(x, x, x, need_weights=False)[0]).abs().max().item())
            tokens = block(tokens)
    return max(gaps)


def draw_heads(maps: list[np.ndarray], raw: np.ndarray, patch: int, prefix: int) -> Figure:
    """Blocks by heads: where the class token (or the mean patch) looks on one digit."""
    import matplotlib.pyplot as plt

    heads = maps[0].shape[1]
    drawing, grid = plt.subplots(
        len(maps), heads, figsize=(style.WIDTH, min(1.5, 6.4 / heads) * len(maps)), squeeze=False
    )
    for block, attention in enumerate(maps):
        for head in range(heads):
            table = attention[DIGIT, head]
            row = table[0, 1:] if prefix else table.mean(axis=0)
            overlay(grid[block, head], raw[DIGIT], row, patch)
            if block == 0:
                grid[block, head].set_title(f"head {head + 1}", loc="center")
        grid[block, 0].text(
            -0.12, 0.5, f"block {block + 1}", rotation=90, ha="center", va="center",
            transform=grid[block, 0].transAxes, fontsize=8.5,
        )  # fmt: skip
    return drawing
