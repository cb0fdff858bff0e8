"""A trained Vision Transformer whose tokens get fewer from block to block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vitrail.errors import VitrailError
from vitrail.model import VisionTransformer
from vitrail.model.block import Block
from vitrail.reduction.tokens import Tokens, start
from vitrail.reduction.ways import Seen, Way


@dataclass
class Passed:
    """What a reduced forward pass gives.

    Attributes:
        logits: (B, classes).
        attended: tokens that the attention of each block saw, (blocks, B).
        left: tokens that its MLP saw, (blocks, B).
        owners: where each token of the start is after each block, (blocks, B, N_0); see
            `Tokens.owner`. None unless asked for.
    """

    logits: Tensor
    attended: Tensor
    left: Tensor
    owners: Tensor | None = None


def check(vit: VisionTransformer) -> None:
    """Raise a `VitrailError` for a network whose tokens cannot be reduced here."""
    blocks = cast("list[Block]", list(vit.blocks))
    if vit.cls_token is None or vit.global_pool != "token":
        raise VitrailError("token reduction reads a class token: take a ViT with global_pool token")
    if any(block.norm != "pre" for block in blocks):
        raise VitrailError(
            "token reduction is written for pre-norm blocks: take a ViT with norm pre"
        )


@torch.no_grad()
def reduced(
    vit: VisionTransformer, images: Tensor, way: Way | None, follow: bool = False
) -> Passed:
    """Forward pass of images (B, C, height, width) with fewer and fewer tokens.

    `way` decides after the attention of every block what its MLP, and all that follows,
    still gets to see; None reduces nothing. `follow` keeps track of every token.
    """
    tokens = start(vit.embed(images), follow)
    attended, left, owners = [], [], []
    for layer, block in enumerate(vit.blocks):
        block = cast(Block, block)
        attended.append(tokens.counts)
        change, seen = attend(block, tokens)
        tokens.x = tokens.x + change
        if way is not None:
            tokens = way(layer, tokens, seen)
        left.append(tokens.counts)
        tokens.x = tokens.x + block.mlp(block.norm2(tokens.x))
        if tokens.owner is not None:
            owners.append(tokens.owner)
    logits = vit.head(vit.fc_norm(vit.norm(tokens.x[:, :1])[:, 0]))
    return Passed(
        logits, torch.stack(attended), torch.stack(left), torch.stack(owners) if owners else None
    )


def attend(block: Block, tokens: Tokens) -> tuple[Tensor, Seen]:
    """Attention of a block, (B, N, D), and what it saw.

    Proportional attention (Bolya et al. 2023, equation 1): a token that stands for s
    patches weighs as much as s equal ones, which adds log s to its logits. Padding gets no
    weight.
    """
    attn = block.attn
    query, key, value = attn.split_heads(block.norm1(tokens.x))  # (B, H, N, d_k) each
    bias = tokens.size.log().masked_fill(~tokens.alive, -torch.inf)  # (B, N)
    logits = query @ key.transpose(-2, -1) / attn.head_dim**0.5 + bias[:, None, None, :]
    weights = logits.softmax(dim=-1)  # (B, H, N, N)
    heads = (weights @ value).transpose(1, 2).flatten(2)
    rows = tokens.alive.to(weights.dtype)[:, None, :, None]  # padding asks, but does not count
    received = (weights * rows).sum(dim=2).mean(dim=1) / rows.sum(dim=2)[:, 0]
    return attn.proj(heads), Seen(key.mean(dim=1), received, weights[:, :, 0].mean(dim=1))
