"""Q3: self-attention with one head: where it looks, and why it is scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitrail.analysis import estimate, percent
from vitrail.claims import Claim
from vitrail.questions.answer import Answer, Key
from vitrail.questions.attention.claims import (
    by_seed,
    equivariant,
    of_networks,
    of_random_logits,
    of_widths,
)
from vitrail.questions.attention.maps import draw_maps, most_ink, row_of, weights_of
from vitrail.questions.attention.measures import START, head_width, maps_of, measured, share
from vitrail.questions.attention.plots import draw_entropy, draw_scale
from vitrail.questions.attention.scale import scale_markdown, scale_table
from vitrail.questions.experiments.common import add, findings_markdown
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

DIGITS = 5


@dataclass(frozen=True)
class Shown:
    """The arms of Q3's figures by id, with their labels.

    `pair` is a single wide head and the narrow heads beside it in the same experiment, which
    have the same budget; None when the config has no such experiment.
    """

    labels: dict[str, str]
    pair: tuple[str, str] | None

    @property
    def one_head(self) -> str:
        """The arm whose attention is drawn."""
        return self.pair[0] if self.pair else next(iter(self.labels))


def answer(study: Study) -> Answer:
    """The scale tried on random logits and on networks, and attention drawn on digits."""
    shown, base = arms_shown(study), study.plan.base
    scale, measures = scale_table(), measured(study, shown.labels)
    names = [shown.labels[arm] for arm in shown.pair or ()]
    random = of_random_logits(scale)
    networks, widths = of_networks(measures, base), of_widths(measures, shown.pair, names)
    digits, _ = study.images(DIGITS, base)
    order = equivariant(equivariance_gap(study.network(base), digits))
    result = Answer(
        sentence="",
        table=pd.DataFrame(),
        numbers={
            "shown": shown.labels[shown.one_head],
            "tv_images": {
                "start": share(by_seed(measures, "tv_images", base, START).mean()),
                "trained": share(by_seed(measures, "tv_images", base).mean()),
            },
        },
        claims=[order, *random, *networks, *widths],
        tables={
            "found_order": findings_markdown([order]),
            "found_random": findings_markdown(random),
            "found_networks": findings_markdown([*networks, *widths]),
        },
        data={"scale": scale, "entropy": measures},
    )
    random_numbers = "random queries and keys"
    result.draw("scale", draw_scale, scale, data="scale", runs=random_numbers)
    result.tabulate("scale", scale_markdown, scale, data="scale", runs=random_numbers)
    about = (measures, with_widths(study, shown.labels), base)
    runs = study.run_ids(shown.labels)
    result.draw("entropy", draw_entropy, *about, data="entropy", runs=runs)
    first = study.plan.arms[shown.one_head].seeds[:1]
    runs = study.run_ids([shown.one_head], first)
    result.draw("maps", draw_one_head, study, shown.one_head, runs=runs)
    add(study, result, "q3_self_attention")
    result.sentence = sentence([random[0], *widths[:1]])
    result.short = (
        "Every token reads every other one, with weights that depend on the image; a convolution "
        "reads a fixed neighbourhood with fixed weights. The price is a table of N × N weights: "
        "the two products around it, and the memory where it is stored, grow with N². One head is "
        "$\\mathrm{softmax}(QK^{\\top}/\\sqrt{d_k})\\,V$."
    )
    moved = estimate(by_seed(measures, "tv_images", base).tolist())
    result.key = Key(
        percent(moved, digits=0),
        "of a token's attention lies elsewhere on another digit (convolution: none)",
    )
    return result


def sentence(found: list[Claim]) -> str:
    """The answer, ending with what the data decided."""
    return (
        "Self-attention lets every token read every other one, with weights computed from the "
        "tokens themselves; a convolution reads a fixed neighbourhood with fixed weights. The "
        "price is a table of N × N weights per head: the two products that make and use it, and "
        "the memory where it is stored, grow with N²; the projections grow with N alone. "
        f"{' '.join(claim.finding for claim in found)}"
    )


def arms_shown(study: Study) -> Shown:
    """The base ViT, and the first experiment of Q3 that has a single head beside several."""
    labels = {study.plan.base: "base ViT"}
    for experiment in study.plan.of_question("q3_self_attention"):
        vits = [member for member in experiment.members if member.arm.settings["model"] == "vit"]
        single = [member for member in vits if member.arm.settings["num_heads"] == 1]
        several = [member for member in vits if member.arm.settings["num_heads"] > 1]
        if single and several:
            one, many = single[0], several[0]
            labels = {one.arm.arm_id: one.label, many.arm.arm_id: many.label, **labels}
            return Shown(labels, (one.arm.arm_id, many.arm.arm_id))
    return Shown(labels, None)


def with_widths(study: Study, labels: dict[str, str]) -> dict[str, str]:
    """Labels of arms with the width of their heads, which is what the scale is about."""
    named = {}
    for arm, label in labels.items():
        width = head_width(study.plan.arms[arm].settings)
        named[arm] = f"{label}, $d_k = {width}$"
    return named


def draw_one_head(study: Study, arm: str) -> tuple[Figure, pd.DataFrame]:
    """Attention from the patch with most ink, block by block (rows), on digits (columns).

    With the weights that are drawn.
    """
    settings = study.plan.arms[arm].settings
    images, raw = study.images(DIGITS, arm)
    prefix, patch = int(settings["class_token"]), settings["patch_size"]
    maps = maps_of(study.network(arm), images)
    panels = [
        [
            row_of(table.mean(axis=0), image, most_ink(image, patch), prefix)
            for table, image in zip(attention, raw, strict=True)
        ]
        for attention in maps
    ]
    blocks = [f"block {block}" for block in range(1, len(maps) + 1)]
    return draw_maps(panels, blocks, "attention weight", power=0.5), weights_of(panels, blocks)


def equivariance_gap(network: Any, images: Tensor) -> float:
    """Largest difference between shuffling tokens before and after attention, over all blocks."""
    import torch

    gaps = []
    with torch.inference_mode():
        tokens = network.embed(images)
        order = torch.randperm(tokens.shape[1], generator=torch.Generator().manual_seed(0))
        for block in network.blocks:
            x = block.attention_input(tokens)
            gaps.append((block.attn(x[:, order]) - block.attn(x)[:, order]).abs().max().item())
            tokens = block(tokens)
    return max(gaps)
