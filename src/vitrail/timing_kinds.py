"""The kinds of attention that Q7 times."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from vitrail.efficiency import attention_macs, linear_attention_macs, window_attention_macs
from vitrail.model import LinearAttention, MultiHeadSelfAttention, WindowAttention
from vitrail.model.attention import attend

WINDOW_SIZE = 4  # side of a window in tokens, 16 tokens each: short lengths then have windows


def fits_windows(n: int) -> bool:
    """Whether so many tokens are a square grid that windows of WINDOW_SIZE cover."""
    side = math.isqrt(n)
    return side**2 == n and side % WINDOW_SIZE == 0


@dataclass(frozen=True)
class Variant:
    """A way to compute attention.

    Attributes:
        build: (embed_dim, num_heads) -> module, (B, N, D) -> (B, N, D).
        macs: (n, embed_dim) -> MACs of the module for one sequence.
        matrices: N x N matrices per head that are alive together.
        products: what lies between the projections, on queries, keys and values of shape
            (B, H, N, d_k); None where it is not timed on its own.
    """

    build: Callable[[int, int], nn.Module]
    macs: Callable[[int, int], int] = attention_macs
    matrices: int = 0
    products: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None


VARIANTS: dict[str, Variant] = {
    # Logits, weights and, in training, the gradient of one of them.
    "naive": Variant(
        partial(MultiHeadSelfAttention, fused_attn=False),
        matrices=3,
        products=partial(attend, fused=False),
    ),
    "fused": Variant(
        partial(MultiHeadSelfAttention, fused_attn=True), products=partial(attend, fused=True)
    ),
}


@dataclass(frozen=True)
class OtherKind:
    """Attention that is no softmax over all tokens, beside which `VARIANTS` are set.

    Attributes:
        build: (embed_dim, num_heads) -> module, (B, N, D) -> (B, N, D).
        macs: (n, embed_dim, num_heads) -> MACs of the module for one sequence.
        fits: whether it is defined for a sequence of so many tokens.
    """

    build: Callable[[int, int], nn.Module]
    macs: Callable[[int, int, int], int]
    fits: Callable[[int], bool] = lambda n: True


OTHER_KINDS: dict[str, OtherKind] = {
    "linear": OtherKind(LinearAttention, linear_attention_macs),
    # Written out: the fused kernel of the CPU does not take windows, and would fall back to
    # a slower form of the same.
    "window": OtherKind(
        partial(WindowAttention, window_size=WINDOW_SIZE, fused_attn=False),
        lambda n, d, heads: window_attention_macs(n, d, WINDOW_SIZE),
        fits_windows,
    ),
}
