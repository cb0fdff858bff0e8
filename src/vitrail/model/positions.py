"""Q6b: positional embeddings, fixed ones by formula.

The learned one is a plain parameter of `VisionTransformer`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoidal(positions: Tensor, embed_dim: int) -> Tensor:
    """Sines and cosines of Vaswani et al. 2017, section 3.5: (N,) -> (N, embed_dim).

    Column 2i holds sin(k / 10000^(2i/d)), column 2i+1 the cosine of the same angle.

    Raises:
        ValueError: when `embed_dim` is odd.
    """
    if embed_dim % 2:
        raise ValueError(f"sinusoidal positions need an even embed_dim, got {embed_dim}")
    # region: sinusoidal
    pair_index = torch.arange(embed_dim // 2, dtype=torch.float64)  # i of the formula
    angle = positions.double()[:, None] / 10000 ** (2 * pair_index / embed_dim)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()  # interleaved
    # endregion: sinusoidal


def sinusoidal_1d(num_patches: int, embed_dim: int) -> Tensor:
    """One position per patch in reading order: (num_patches, embed_dim)."""
    return sinusoidal(torch.arange(num_patches), embed_dim)


def sinusoidal_2d(grid_size: tuple[int, int], embed_dim: int) -> Tensor:
    """Row in the first half of the width, column in the second: (rows*columns, embed_dim).

    Raises:
        ValueError: when `embed_dim` is not a multiple of four.
    """
    if embed_dim % 4:
        raise ValueError(f"sinusoidal_2d positions need embed_dim in fours, got {embed_dim}")
    rows, columns = torch.meshgrid(
        torch.arange(grid_size[0]), torch.arange(grid_size[1]), indexing="ij"
    )
    half = embed_dim // 2
    return torch.cat([sinusoidal(rows.flatten(), half), sinusoidal(columns.flatten(), half)], dim=1)


def resized(table: Tensor, rms: float) -> Tensor:
    """What differs from place to place, at a given size: (N, D) -> (N, D).

    The mean row is taken off, which tells no place from another, and the rest is brought to
    the root mean square `rms`. Most of a sinusoid's own size is that mean row on a small grid.
    """
    own = table - table.mean(dim=0)
    return own * (rms / own.square().mean().sqrt().clamp_min(1e-12))
