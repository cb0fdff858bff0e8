"""Q5: the transformer block, in the form of ViT (pre-norm) and of 2017 (post-norm)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vitrail.efficiency import hidden_width
from vitrail.model.efficient_attention import AttentionKind, make_attention
from vitrail.model.mlp import Activation, Mlp

Norm = Literal["pre", "post"]
NORM_EPS = 1e-6  # timm's value for ViT; PyTorch's default is 1e-5


class Block(nn.Module):
    """Attention then MLP, each with its own residual path: (B, N, D) -> (B, N, D).

    `norm="pre"` is Dosovitskiy et al. 2021, equations 2 and 3; `norm="post"` is
    Vaswani et al. 2017, section 3.1. `head_dim` is the width of one head, 0 for
    D / `num_heads`; `attention`, `window_size` and `shift` as in `make_attention`.
    `drop_rate` is the dropout after both branches and inside the MLP; 0 is none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        act: Activation = "gelu",
        norm: Norm = "pre",
        fused_attn: bool = True,
        head_dim: int = 0,
        attention: AttentionKind = "softmax",
        window_size: int = 7,
        shift: int = 0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = make_attention(
            attention, dim, num_heads, qkv_bias, fused_attn, head_dim, window_size, shift
        )
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, hidden_width(dim, mlp_ratio), act, drop_rate)
        self.drop = nn.Dropout(drop_rate)

    def attention_input(self, x: Tensor) -> Tensor:
        """What the attention of this block reads."""
        return self.norm1(x) if self.norm == "pre" else x

    def forward(self, x: Tensor) -> Tensor:
        if self.norm == "post":
            # region: block_post
            x = self.norm1(x + self.drop(self.attn(x)))
            return self.norm2(x + self.drop(self.mlp(x)))
            # endregion: block_post
        # region: block_pre
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))
        # endregion: block_pre
