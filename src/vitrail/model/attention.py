"""Q3 and Q4: self-attention with one head, then with many.

Both keep timm's parameter names: `qkv` holds the three projections side by side,
`proj` is the output projection W_O.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)): (..., N, d_k) twice -> (..., N, N), rows sum to one.

    Vaswani et al. 2017, equation 1. The scale keeps the variance of a logit at one
    when the entries of Q and K have variance one.
    """
    # region: attention_weights
    scale = 1 / math.sqrt(query.shape[-1])
    logits = (query * scale) @ key.transpose(-2, -1)  # (..., N, N)
    return logits.softmax(dim=-1)
    # endregion: attention_weights


def attend(query: Tensor, key: Tensor, value: Tensor, fused: bool = True) -> Tensor:
    """Weighted mean of the values: (..., N, d) three times -> (..., N, d).

    `fused` calls PyTorch's kernel, which computes the same without ever storing the
    N x N matrix; the written-out form is the one that the report explains.
    """
    if fused:
        return F.scaled_dot_product_attention(query, key, value)
    # region: attend
    return attention_weights(query, key) @ value  # (..., N, N) @ (..., N, d)
    # endregion: attend


class SelfAttention(nn.Module):
    """Self-attention with one head and its output projection: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, qkv_bias: bool = True, fused_attn: bool = True) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.fused_attn = fused_attn

    def forward(self, x: Tensor) -> Tensor:
        # region: self_attention
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # (B, N, D) each
        x = attend(query, key, value, self.fused_attn)  # (B, N, D)
        return self.proj(x)
        # endregion: self_attention

    def weights(self, x: Tensor) -> Tensor:
        """Attention of every token to every token: (B, N, D) -> (B, N, N)."""
        query, key, _ = self.qkv(x).chunk(3, dim=-1)
        return attention_weights(query, key)


class MultiHeadSelfAttention(nn.Module):
    """Self-attention with H heads of width d_k (Vaswani et al. 2017, section 3.2.2).

    (B, N, D) -> (B, N, D). Each head sees its own slice of the projected queries, keys
    and values; `proj` mixes what the heads found. d_k is `head_dim`, or D / H when that
    is 0: then the heads share the width, and their number changes neither the number
    of parameters nor the cost.

    Raises:
        ValueError: when `num_heads` is not positive, or `head_dim` is negative, or it is
            0 and `num_heads` does not divide `dim`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        fused_attn: bool = True,
        head_dim: int = 0,
    ) -> None:
        super().__init__()
        if num_heads <= 0:
            raise ValueError(f"num_heads must be positive, not {num_heads}")
        if head_dim < 0:
            raise ValueError(f"head_dim must be positive, or 0 for D / H, not {head_dim}")
        if not head_dim and dim % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide the width {dim}")
        self.num_heads = num_heads
        self.head_dim = head_dim or dim // num_heads
        heads_dim = num_heads * self.head_dim  # of all heads together
        self.qkv = nn.Linear(dim, 3 * heads_dim, bias=qkv_bias)
        self.proj = nn.Linear(heads_dim, dim)
        self.fused_attn = fused_attn

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, H, N, d_k) each."""
        # region: split_heads
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, N, d_k) each
        return query, key, value
        # endregion: split_heads

    def forward(self, x: Tensor) -> Tensor:
        # region: multi_head
        heads = attend(*self.split_heads(x), self.fused_attn)  # (B, H, N, d_k)
        heads = heads.transpose(1, 2).flatten(2)  # concatenated: (B, N, H * d_k)
        return self.proj(heads)  # (B, N, D)
        # endregion: multi_head

    def weights(self, x: Tensor) -> Tensor:
        """Attention of every token to every token in each head: (B, N, D) -> (B, H, N, N)."""
        query, key, _ = self.split_heads(x)
        return attention_weights(query, key)
