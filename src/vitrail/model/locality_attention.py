"""Q8: softmax attention in which no token sees itself, with a learned temperature."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.model.attention import MultiHeadSelfAttention


class LocalitySelfAttention(MultiHeadSelfAttention):
    """Locality self-attention (LSA): (B, N, D) -> (B, N, D), N at least 2.

    Lee et al. 2021 (arXiv 2112.13492), section 3.3: softmax(R^M / tau) V, where R = Q K^T has
    -inf on its diagonal, so that a token (the class token as well) attends to the others
    alone. tau, one number per layer, starts at sqrt(d_k) and is learned. Costs as much as
    softmax attention: the diagonal is computed and thrown away.

    Raises:
        ValueError: as `MultiHeadSelfAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        fused_attn: bool = True,
        head_dim: int = 0,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias, fused_attn, head_dim)
        self.temperature = nn.Parameter(torch.tensor(math.sqrt(self.head_dim)))

    def attention(self, query: Tensor, key: Tensor) -> Tensor:
        """The weights, (B, H, N, d_k) twice -> (B, H, N, N); zero on the diagonal."""
        # region: locality_weights
        logits = (query / self.temperature) @ key.transpose(-2, -1)
        oneself = torch.eye(query.shape[-2], dtype=torch.bool, device=query.device)
        return logits.masked_fill(oneself, -math.inf).softmax(dim=-1)
        # endregion: locality_weights

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split_heads(x)  # (B, H, N, d_k) each
        if self.fused_attn:
            others = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
            # The temperature is learned, and the kernel's own scale cannot be.
            heads = F.scaled_dot_product_attention(
                query / self.temperature, key, value, attn_mask=others, scale=1.0
            )
        else:
            heads = self.attention(query, key) @ value
        return self.proj(heads.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """Attention of every token to every other: (B, N, D) -> (B, H, N, N)."""
        query, key, _ = self.split_heads(x)
        return self.attention(query, key)
