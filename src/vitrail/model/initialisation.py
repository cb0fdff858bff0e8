"""Where the weights of the blocks start: four rules to compare (Q7).

The rest of the network (embedding, class token, positions, head) starts in one way, see
`VisionTransformer`.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vitrail.model.attention import MultiHeadSelfAttention

Init = Literal["xavier", "timm", "zero_residual", "mimetic"]

TIMM_STD = 0.02
# alpha and beta of Trockman and Kolter's closed form for ViTs: the product of queries and keys
# starts at 0.7 Z + 0.7 I, that of values and projection at 0.4 Z - 0.4 I.
QUERY_KEY = (0.7, 0.7)
VALUE_PROJECTION = (0.4, -0.4)


def initialise_blocks(blocks: nn.Module, init: Init) -> None:
    """Start the linear layers of the blocks; biases start at zero.

    Args:
        blocks: the module that holds them.
        init: "xavier" (the paper's own code): each matrix, those of queries, keys and values
            by themselves. "timm": normal with standard deviation 0.02, cut at +-2.
            "zero_residual": Xavier with the last layer of both branches at zero, so that every
            block starts as the identity: that rule of Fixup (Zhang et al. 2019) without its
            others; ReZero and SkipInit have a factor that starts at zero instead.
            "mimetic": Xavier, and the attention as in `mimetic`.

    Raises:
        ValueError: when `init` is unknown, or `mimetic` has heads of a width of their own.
    """
    if init not in get_args(Init):
        raise ValueError(f"init must be one of {', '.join(get_args(Init))}, not {init!r}")
    for name, module in blocks.named_modules():
        if isinstance(module, nn.Linear):
            # queries, keys and values are three matrices that share one tensor
            parts = module.weight.chunk(3) if name.endswith("qkv") else [module.weight]
            for part in parts:
                if init == "timm":
                    nn.init.trunc_normal_(part, std=TIMM_STD)
                else:
                    nn.init.xavier_uniform_(part)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if init == "zero_residual" and name.endswith(("attn.proj", "mlp.fc2")):
                nn.init.zeros_(module.weight)
    if init == "mimetic":
        for module in blocks.modules():
            if isinstance(module, MultiHeadSelfAttention):
                mimetic(module)


def near_identity(dim: int, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """L and R, (dim, dim) each, with L R^T = alpha Z + beta I and Z ~ N(0, 1 / dim).

    Both take the root of each singular value; the columns come with the largest first.
    """
    wanted = alpha * torch.randn(dim, dim) / dim**0.5 + beta * torch.eye(dim)
    left, values, right = torch.linalg.svd(wanted)
    return left * values.sqrt(), right.mT * values.sqrt()


@torch.no_grad()
def mimetic(attention: MultiHeadSelfAttention) -> None:
    """Products of the matrices near plus and minus the identity, as after pre-training.

    Trockman and Kolter 2023 (arXiv 2305.09828): in each head W_Q W_K^T is the best matrix of
    rank d_k to alpha Z + beta I; W_V W_O of all heads together is alpha Z - beta I. Positions stay
    as the arm has them.

    Raises:
        ValueError: when the heads together are not as wide as the tokens.
    """
    dim, width = attention.qkv.in_features, attention.head_dim
    if attention.num_heads * width != dim:
        raise ValueError("init 'mimetic' needs heads that share the width: set head_dim to 0")
    queries, keys, values = attention.qkv.weight.chunk(3)  # (D, D) each; x W^T is the product
    for head in range(attention.num_heads):
        rows = slice(head * width, (head + 1) * width)
        left, right = near_identity(dim, *QUERY_KEY)
        queries[rows].copy_(left[:, :width].mT)
        keys[rows].copy_(right[:, :width].mT)
    left, right = near_identity(dim, *VALUE_PROJECTION)
    values.copy_(left.mT)
    attention.proj.weight.copy_(right)
