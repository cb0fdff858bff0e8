"""MACs of a Vision Transformer whose blocks see fewer and fewer tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vitrail.model import PatchEmbed, VisionTransformer
from vitrail.model.block import Block


@dataclass(frozen=True)
class ReducedCost:
    """The cost formula of a network with its numbers filled in.

    Attributes:
        tokens: at the start, with the class token.
        fixed: MACs that no reduction lowers, of patch embedding and head.
        width: of a token; `heads_width`: of all heads together; `hidden`: of the MLP.
        head_dim: width of a key, by which tokens are compared.
    """

    tokens: int
    fixed: int
    width: int
    heads_width: int
    hidden: int
    head_dim: int
    depth: int

    def macs(self, attended: Tensor, left: Tensor, matches: bool) -> Tensor:
        """MACs per image, (B,), from the tokens that attention and MLP saw, (blocks, B) each.

        `matches` adds what comparing sources with targets costs: a quarter of n^2 products
        of width `head_dim` in each block. Counts may be soft, as in training.
        """
        n, m = attended, left
        attention = 4 * n * self.width * self.heads_width + 2 * n**2 * self.heads_width
        matching = n**2 / 4 * self.head_dim if matches else 0 * n
        mlp = 2 * m * self.width * self.hidden
        return self.fixed + (attention + matching + mlp).sum(dim=0)

    @property
    def whole(self) -> float:
        """MACs of the network as it was trained."""
        n = torch.full((self.depth, 1), self.tokens, dtype=torch.float64)
        return self.macs(n, n, matches=False).item()


def cost_of(vit: VisionTransformer) -> ReducedCost:
    """The cost formula of a network."""
    block = cast(Block, vit.blocks[0])
    patches = vit.patch_embed.num_patches
    width = block.norm1.normalized_shape[0]
    embed = cast(PatchEmbed, vit.patch_embed)
    pixels = embed.proj.weight[0].numel()  # of a patch, in all channels
    return ReducedCost(
        tokens=patches + vit.num_prefix_tokens,
        fixed=patches * pixels * width + cast(nn.Linear, vit.head).weight.numel(),
        width=width,
        heads_width=block.attn.num_heads * block.attn.head_dim,
        hidden=block.mlp.fc1.out_features,
        head_dim=block.attn.head_dim,
        depth=len(vit.blocks),
    )
