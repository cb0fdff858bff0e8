"""Q7: attention whose cost is linear in the number of tokens, with the parameters of Q4's.

Both keep `qkv` and `proj`, so that an arm differs from the base ViT in what the heads do
and in nothing else.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.model.attention import MultiHeadSelfAttention
from vitrail.model.locality_attention import LocalitySelfAttention

AttentionKind = Literal["softmax", "linear", "window", "lsa"]


class LinearAttention(MultiHeadSelfAttention):
    """Attention with phi(q) . phi(k) in place of exp(q . k): (B, N, D) -> (B, N, D).

    Katharopoulos et al. 2020, phi(x) = elu(x) + 1. The product of keys and values comes
    first, a d_k x d_k matrix per head, so no N x N matrix is ever computed: O(N d_k^2).
    `fused_attn` has no effect.
    """

    def features(self, x: Tensor) -> Tensor:
        """phi, positive everywhere."""
        return F.elu(x) + 1

    def forward(self, x: Tensor) -> Tensor:
        # region: linear_attention
        query, key, value = self.split_heads(x)  # (B, H, N, d_k) each
        query, key = self.features(query), self.features(key)
        context = key.transpose(-2, -1) @ value  # (B, H, d_k, d_k): no N x N matrix
        total = query @ key.sum(dim=-2)[..., None]  # (B, H, N, 1): what the weights sum to
        heads = (query @ context) / total
        return self.proj(heads.transpose(1, 2).flatten(2))
        # endregion: linear_attention

    def weights(self, x: Tensor) -> Tensor:
        """The matrix that `forward` never computes, rows sum to one: (B, N, D) -> (B, H, N, N)."""
        query, key, _ = self.split_heads(x)
        products = self.features(query) @ self.features(key).transpose(-2, -1)
        return products / products.sum(dim=-1, keepdim=True)


def cut_windows(x: Tensor, window_size: int, shift: int = 0) -> Tensor:
    """Tokens of a square grid by windows: (B, N, D) -> (B, N / w^2, w^2, D).

    The grid is first moved up and left by `shift`, what leaves it comes back on the other
    side (Liu et al. 2021, section 3.2).

    Raises:
        ValueError: when N is not the square of a multiple of `window_size`.
    """
    batch, tokens, width = x.shape
    side, w = math.isqrt(tokens), window_size
    if side**2 != tokens or side % w:
        raise ValueError(
            f"window attention needs tokens on a square grid that window_size {w} divides, "
            f"not {tokens} tokens"
        )
    grid = x.view(batch, side, side, width).roll((-shift, -shift), dims=(1, 2))
    grid = grid.view(batch, side // w, w, side // w, w, width).transpose(2, 3)
    return grid.reshape(batch, -1, w**2, width)


def join_windows(windows: Tensor, shift: int = 0) -> Tensor:
    """The inverse of `cut_windows`: (B, N / w^2, w^2, D) -> (B, N, D)."""
    batch, count, size, width = windows.shape
    rows, w = math.isqrt(count), math.isqrt(size)
    grid = windows.view(batch, rows, rows, w, w, width).transpose(2, 3)
    grid = grid.reshape(batch, rows * w, rows * w, width).roll((shift, shift), dims=(1, 2))
    return grid.flatten(1, 2)


def neighbours(side: int, window_size: int, shift: int) -> Tensor:
    """Which tokens of a window may see each other: bool, (windows, w^2, w^2).

    A shifted window at the border holds tokens from two sides of the image; those that came
    back on the other side were less than `shift` from its upper or left edge.
    """
    wrapped = torch.arange(side) < shift
    rows, columns = torch.meshgrid(wrapped, wrapped, indexing="ij")
    piece = cut_windows((2 * rows + columns).view(1, -1, 1), window_size, shift)[0]
    return piece == piece.transpose(-2, -1)


class WindowAttention(MultiHeadSelfAttention):
    """Attention within windows of w x w tokens: (B, N, D) -> (B, N, D), O(N w^2).

    The tokens are a square grid of patches in reading order, without a class token. With
    `shift` the windows lie that many tokens further down and right, and masks keep apart
    what is no neighbour in the image (Swin, Liu et al. 2021). Without Swin's relative
    positions, so that the parameters are those of the base ViT.

    Raises:
        ValueError: as `MultiHeadSelfAttention`, and when `window_size` is not positive or
            `shift` is not smaller; in `forward`, when N does not fit the windows.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        fused_attn: bool = True,
        head_dim: int = 0,
        window_size: int = 7,
        shift: int = 0,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias, fused_attn, head_dim)
        if not 0 <= shift < window_size:
            raise ValueError(f"window_size {window_size} must be above shift {shift} and zero")
        self.window_size = window_size
        self.shift = shift

    def shift_on(self, tokens: int) -> int:
        """The shift on a grid of so many tokens: a single window has no border to cross."""
        return self.shift if tokens > self.window_size**2 else 0

    def mask(self, x: Tensor, shift: int) -> Tensor | None:
        """Who sees whom in each window, (windows, 1, w^2, w^2); None when all do."""
        if not shift:
            return None
        side = math.isqrt(x.shape[1])
        mask = neighbours(side, self.window_size, shift)[:, None]
        return mask.to(x.device, non_blocking=x.is_cuda)  # CUDA has its copy at once, and goes on

    def inside(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """The attention in each window, (B, windows, H, w^2, w^2)."""
        logits = (query / math.sqrt(self.head_dim)) @ key.transpose(-2, -1)
        if mask is not None:
            logits = logits.masked_fill(~mask, -math.inf)
        return logits.softmax(dim=-1)

    def split_windows(self, x: Tensor, shift: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by window, (B, windows, H, w^2, d_k) each."""
        windows = cut_windows(x, self.window_size, shift)
        parts = self.split_heads(windows.flatten(0, 1))
        query, key, value = (part.unflatten(0, windows.shape[:2]) for part in parts)
        return query, key, value

    def forward(self, x: Tensor) -> Tensor:
        # region: window_attention
        shift = self.shift_on(x.shape[1])
        query, key, value = self.split_windows(x, shift)  # (B, windows, H, w^2, d_k) each
        mask = self.mask(x, shift)  # keeps apart what is no neighbour in the image
        if self.fused_attn:
            heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            heads = self.inside(query, key, mask) @ value
        return self.proj(join_windows(heads.transpose(2, 3).flatten(3), shift))
        # endregion: window_attention

    def weights(self, x: Tensor) -> Tensor:
        """Attention of every token to every token, zero outside its window: (B, H, N, N)."""
        batch, tokens, _ = x.shape
        shift = self.shift_on(tokens)
        query, key, _ = self.split_windows(x, shift)
        inside = self.inside(query, key, self.mask(x, shift))
        order = torch.arange(tokens, device=x.device).view(1, -1, 1)
        place = cut_windows(order, self.window_size, shift)[0]  # (windows, w^2, 1)
        full = inside.new_zeros(batch, self.num_heads, tokens, tokens)
        full[:, :, place, place.transpose(-2, -1)] = inside.transpose(1, 2)
        return full


def make_attention(
    kind: AttentionKind,
    dim: int,
    num_heads: int,
    qkv_bias: bool = True,
    fused_attn: bool = True,
    head_dim: int = 0,
    window_size: int = 7,
    shift: int = 0,
) -> MultiHeadSelfAttention:
    """The attention of a block; `window_size` and `shift` are for windows alone.

    Raises:
        ValueError: when the kind is unknown.
    """
    common = (dim, num_heads, qkv_bias, fused_attn, head_dim)
    if kind == "window":
        return WindowAttention(*common, window_size, shift)
    kinds = {
        "softmax": MultiHeadSelfAttention,
        "linear": LinearAttention,
        "lsa": LocalitySelfAttention,
    }
    if kind not in kinds:
        known = ", ".join(get_args(AttentionKind))
        raise ValueError(f"attention must be one of {known}, not {kind!r}")
    return kinds[kind](*common)
