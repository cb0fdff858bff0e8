"""LTMP while it learns: masks in place of dropping, so that gradients reach the thresholds.

Bonnaerens and Dambre 2023 (arXiv 2307.10780). The network stays as it is; each block has
two parameters, the similarity above which a token merges and the importance below which
it is pruned. `ways.Threshold` does the same by really dropping tokens; a test holds the
two equal.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vitrail.model import VisionTransformer
from vitrail.model.block import Block
from vitrail.reduction.ways import Importance, Seen, Threshold

TEMPERATURE = 0.1  # tau of the paper, for similarities, which go from -1 to 1
# Importances add up to one: with 50 tokens they differ by hundredths. At 0.1 the sigmoid would
# be flat, and tokens far from the threshold would move it as much as those beside it.
PRUNE_TEMPERATURE = 0.005
MERGE_START, PRUNE_START = 0.9, 0.0  # nothing is pruned at first, only near twins merge
EPSILON = 1e-6


class Thresholds(nn.Module):
    """Two learned thresholds per block, and the masks that they make."""

    def __init__(self, depth: int, importance: Importance = "received") -> None:
        super().__init__()
        self.importance = importance
        self.merge = nn.Parameter(torch.full((depth,), MERGE_START))
        self.prune = nn.Parameter(torch.full((depth,), PRUNE_START))

    def as_way(self) -> Threshold:
        """The thresholds as they are now, for inference."""
        return Threshold(tuple(self.merge.tolist()), tuple(self.prune.tolist()), self.importance)


def mask(score: Tensor, threshold: Tensor, temperature: float) -> Tensor:
    """1 where the score is above the threshold, else 0; backward a sigmoid (straight-through)."""
    # region: straight_through
    soft = torch.sigmoid((score - threshold) / temperature)
    hard = (score > threshold).to(soft.dtype)
    return hard + (soft - soft.detach())  # in this order exactly 0 or 1
    # endregion: straight_through


def masked_softmax(logits: Tensor, alive: Tensor) -> Tensor:
    """exp(A_ij) m_j / sum_k exp(A_ik) m_k: logits (B, H, N, N), mask (B, N)."""
    highest = logits.masked_fill(alive[:, None, None, :] == 0, -torch.inf).amax(-1, keepdim=True)
    # A dead token may lie far above the rest; its weight is zero, and so must be its excess.
    exponentials = (logits - highest.detach()).clamp(max=0).exp() * alive[:, None, None, :]
    return exponentials / (exponentials.sum(-1, keepdim=True) + EPSILON)


def forward(
    vit: VisionTransformer, thresholds: Thresholds, images: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, classes) and the soft counts of tokens that attention and MLP see.

    The counts are (blocks, B) each, and carry the gradient of the cost to the thresholds.
    """
    x = vit.embed(images)  # (B, N, D)
    batch, n, _ = x.shape
    size, alive = x.new_ones(batch, n), x.new_ones(batch, n)
    patches = x.new_ones(n)
    patches[0] = 0  # all but the class token
    attended, left = [], []
    for layer, block in enumerate(vit.blocks):
        block = cast(Block, block)
        attended.append(alive.sum(dim=1))
        change, seen = _attend(block, x, size, alive)
        x = x + change
        importance = seen.importance(thresholds.importance)
        x, size, alive, importance = _merge(
            x, size, alive, importance, seen.keys, thresholds.merge[layer]
        )
        pruned = 1 - mask(importance, thresholds.prune[layer], PRUNE_TEMPERATURE)
        alive = alive * (1 - pruned * patches)  # the class token stays
        left.append(alive.sum(dim=1))
        x = x + block.mlp(block.norm2(x))
    logits = vit.head(vit.fc_norm(vit.norm(x[:, :1])[:, 0]))
    return logits, torch.stack(attended), torch.stack(left)


def _attend(block: Block, x: Tensor, size: Tensor, alive: Tensor) -> tuple[Tensor, Seen]:
    """Masked proportional attention, as `network.attend`."""
    attn = block.attn
    query, key, value = attn.split_heads(block.norm1(x))
    logits = query @ key.transpose(-2, -1) / attn.head_dim**0.5 + size.log()[:, None, None, :]
    weights = masked_softmax(logits, alive)  # (B, H, N, N)
    heads = (weights @ value).transpose(1, 2).flatten(2)
    rows = alive.detach()[:, None, :, None]  # what is dropped asks nobody
    received = (weights * rows).sum(dim=2).mean(dim=1) / rows.sum(dim=2)[:, 0]
    return attn.proj(heads), Seen(key.mean(dim=1), received, weights[:, :, 0].mean(dim=1))


def _merge(
    x: Tensor, size: Tensor, alive: Tensor, importance: Tensor, keys: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Merge in place: sources that merge get mask 0, their targets the mean of both."""
    there = alive.detach() > 0
    # Places as they would be if the dropped tokens were gone: even sources, odd targets.
    place = there.cumsum(dim=1) - 1
    source, target = there & (place % 2 == 0), there & (place % 2 == 1)
    source[:, 0] = False  # the class token
    metric = nn.functional.normalize(keys, dim=-1)
    similarity = metric @ metric.transpose(1, 2)
    similarity = similarity.masked_fill(~target[:, None, :], -torch.inf)
    best, into = similarity.max(dim=-1)  # (B, N)
    best = best.masked_fill(~source, -torch.inf)
    merging = mask(best, threshold, TEMPERATURE)
    chosen = merging.detach()
    weight = chosen * size
    held = x * size.unsqueeze(-1)
    places = into.unsqueeze(-1).expand_as(x)
    size = size.scatter_add(1, into, weight)
    x = held.scatter_add(1, places, x * weight.unsqueeze(-1)) / size.unsqueeze(-1)
    moved = torch.where(chosen > 0, importance, -torch.inf)
    importance = importance.scatter_reduce(1, into, moved, "amax")
    return x, size, alive * (1 - merging), importance
