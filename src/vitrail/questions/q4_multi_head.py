"""Q4: many heads: what each one reads, and what the number of heads changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail.claims import Claim
from vitrail.questions.answer import Answer
from vitrail.questions.attention import head_claims
from vitrail.questions.attention.maps import Panel, draw_maps, most_ink, row_of, weights_of
from vitrail.questions.attention.measures import (
    TRAINED,
    gain_on_ink,
    head_width,
    maps_of,
    measured,
    rollout_of,
    test_digits,
    uniform_distance,
    window_distance,
)
from vitrail.questions.attention.plots import draw_distance
from vitrail.questions.experiments.common import (
    add,
    decided,
    findings_markdown,
    key_difference,
)
from vitrail.questions.explore.attention import attention
from vitrail.questions.sources import SETTINGS, listed
from vitrail.questions.study import Study
from vitrail.settings import IMAGE_SIZE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIGITS = (3, 8)
MOST_COLUMNS = 8  # heads beside each other in the maps
EACH = 5  # digits read rightly, and wrongly, in the rollout


def answer(study: Study) -> Answer:
    """Proofs by computation, maps and reach of each head, rollout, the heads ablations."""
    from vitrail.drawings import multi_head

    arm = study.plan.arms[study.plan.base]
    settings, heads = arm.settings, arm.settings["num_heads"]
    width, patch = settings["embed_dim"], settings["patch_size"]
    measures = measured(study, [arm.arm_id])
    patches = (IMAGE_SIZE // patch) ** 2
    # On a grid of 2 x 2 the window holds every patch.
    uniform, window = uniform_distance(patches), window_distance(patches) if patches > 4 else None
    network: Any = study.network(arm.arm_id)
    images, _ = study.images(10, arm.arm_id)
    gap, sum_gap = parity_gaps(network, images)
    proofs = [head_claims.equals_torch(gap), head_claims.heads_add_up(sum_gap)]
    distance = head_claims.of_distance(measures, arm.arm_id, uniform, window)
    apart = [head_claims.heads_part(measures, arm.arm_id)] if heads > 1 else []
    ink = head_claims.reads_ink([ink_gain(study, seed) for seed in arm.seeds])
    after = measures.loc[measures["state"] == TRAINED, "distance"]
    result = Answer(
        sentence="",
        table=pd.DataFrame(),
        numbers={
            "distance_low": f"{after.min():.2f}",
            "distance_high": f"{after.max():.2f}",
            "distance_uniform": f"{uniform:.2f}",
            "grid": f"{IMAGE_SIZE // patch} × {IMAGE_SIZE // patch}",
        },
        claims=[*proofs, *apart, *distance, ink],
        tables={
            "found_proofs": findings_markdown(proofs),
            "found_heads": findings_markdown(apart),
            "found_distance": findings_markdown(distance),
            "found_rollout": findings_markdown([ink]),
        },
        data={"attention": measures},
        explore={"attention": attention(study)},
    )
    result.draw("architecture", multi_head, settings, data=listed(settings), runs=SETTINGS)
    result.draw("maps", draw_heads, study, runs=study.first_run)
    reach = (measures, patch, uniform, window)
    runs = study.run_ids([arm.arm_id])
    result.draw("distance", draw_distance, *reach, data="attention", runs=runs)
    result.draw("rollout", draw_rollout, study, runs=study.first_run)
    add(study, result, "q4_multi_head")
    result.sentence = sentence(heads, head_width(settings), width, proofs[0], found(study))
    result.short = (
        f"{readers(heads)} through {head_width(settings)} columns of its own, and one matrix mixes "
        f"what {'they' if heads > 1 else 'it'} found. {found(study)}"
    )
    result.key = key_difference(study, "q4_multi_head")
    return result


def sentence(heads: int, head_width: int, width: int, parity: Claim, found: str) -> str:
    """The answer: what the module is, that it is right, what the ablations found."""
    return (
        f"{readers(heads)} through its own three {width} × {head_width} projections; their outputs "
        f"are concatenated and mixed by one {heads * head_width} × {width} matrix. "
        f"{parity.finding} {found}"
    )


def readers(heads: int) -> str:
    """Who reads the tokens, as the start of a sentence."""
    return f"{heads} heads read the same tokens, each" if heads > 1 else "One head reads the tokens"


def found(study: Study) -> str:
    """What each experiment of Q4 found, after its title."""
    said = []
    for experiment in study.plan.of_question("q4_multi_head"):
        findings = [claim.finding for claim in decided(study, experiment)]
        if findings:
            said.append(f"{experiment.title}: {' '.join(findings)}")
    return " ".join(said)


def parity_gaps(network: Any, images: Any) -> tuple[float | None, float]:
    """Largest differences, over all blocks, to two other ways to the same outputs.

    The first is PyTorch's module with the same weights (None where its heads would have
    another width), the second the sum of what each head writes through its own rows of W_O.
    """
    import torch

    from vitrail.model.attention import attend

    peers: list[float | None] = []
    sums: list[float] = []
    with torch.inference_mode():
        tokens = network.embed(images)
        for block in network.blocks:
            ours, x = block.attn, block.attention_input(tokens)
            outputs = ours(x)
            peer = _torch_module(ours)
            peers.append(
                None
                if peer is None
                else (outputs - peer(x, x, x, need_weights=False)[0]).abs().max().item()
            )
            heads = attend(*ours.split_heads(x)).unbind(dim=1)  # (B, N, d_k) each
            rows = ours.proj.weight.T.split(ours.head_dim)  # (d_k, D) each
            total = sum(head @ row for head, row in zip(heads, rows, strict=True))
            sums.append((outputs - total - ours.proj.bias).abs().max().item())
            tokens = block(tokens)
    known = [gap for gap in peers if gap is not None]
    return (max(known) if known else None), max(sums)


def _torch_module(ours: Any) -> Any:
    """PyTorch's module with our weights, or None: its heads share the width of the tokens."""
    import torch
    from torch import nn

    heads_dim, width = ours.proj.in_features, ours.proj.out_features
    if heads_dim != width:
        return None
    peer = nn.MultiheadAttention(width, ours.num_heads, batch_first=True).eval()
    bias = ours.qkv.bias if ours.qkv.bias is not None else torch.zeros(3 * width)
    peer.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    return peer


def draw_heads(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Blocks by heads on one digit: from the class token, and from the patch with most ink.

    Without a class token two digits are shown, with many heads the first view alone. With the
    weights that are drawn.
    """
    arm = study.plan.arms[study.plan.base]
    prefix, patch = int(arm.settings["class_token"]), arm.settings["patch_size"]
    images, raw = study.images(10, arm.arm_id)
    maps = maps_of(study.network(arm.arm_id), images)
    heads = maps[0].shape[1]
    first, second = DIGITS
    views = [(first, -1), (first, most_ink(raw[first], patch))]
    names = ["from the class token", "from the outlined patch"]
    if not prefix:
        views = [(digit, most_ink(raw[digit], patch)) for digit in (first, second)]
        names = [f"from the outlined patch of a {digit}" for digit in (first, second)]
    shown = 1 if 2 * heads > MOST_COLUMNS else 2
    panels = [
        [
            row_of(
                attention[digit, head], raw[digit], query, prefix,
                title=f"head {head + 1}" if block == 0 and heads <= MOST_COLUMNS else "",
            )
            for digit, query in views[:shown]
            for head in range(heads)
        ]
        for block, attention in enumerate(maps)
    ]  # fmt: skip
    blocks = [f"block {block}" for block in range(1, len(maps) + 1)]
    groups = {heads * view: names[view] for view in range(shown)}
    drawing = draw_maps(panels, blocks, "attention weight", groups, power=0.5)
    return drawing, weights_of(panels, blocks)


def ink_gain(study: Study, seed: int) -> float:
    """`gain_on_ink` of one trained base ViT."""
    arm = study.plan.base
    images, raw = test_digits(study, arm)
    patch = study.plan.arms[arm].settings["patch_size"]
    return gain_on_ink(study.network(arm, seed), images, raw, patch)


def draw_rollout(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Attention rollout of the base ViT on the first digits it reads rightly and wrongly.

    With the shares that are drawn.
    """
    import torch

    from vitrail.train import pixels

    arm = study.plan.arms[study.plan.base]
    read = study.test_logits(arm.arm_id, arm.seeds[0]).argmax(axis=1)
    labels = study.mnist.test_labels
    chosen = {
        "read correctly": np.flatnonzero(read == labels)[:EACH],
        "misread": np.flatnonzero(read != labels)[:EACH],
    }
    network = study.network(arm.arm_id)
    panels = []
    for index in np.concatenate(list(chosen.values())):
        raw = study.mnist.test_images[[index]]
        images = pixels(raw, arm.settings, torch.device("cpu"))
        row = rollout_of(network, images)[0]
        right = read[index] == labels[index]
        title = f"{labels[index]}" if right else f"{labels[index]} as {read[index]}"
        panels.append(Panel(raw[0], row, title=title))
    split = len(chosen["read correctly"])
    parts = (panels[:split], panels[split:])
    named = {name: row for name, row in zip(chosen, parts, strict=True) if row}
    drawn = list(named.values()), list(named)
    return draw_maps(*drawn, "share of the rollout"), weights_of(*drawn)
