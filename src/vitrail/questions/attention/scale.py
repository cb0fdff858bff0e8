"""Q3's thought experiment: random queries and keys, with and without 1/sqrt(d_k)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitrail.questions.answer import markdown_table
from vitrail.questions.attention.measures import entropy_share, share

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (4, 16, 64, 256)
TOKENS = 16
TABLES = 256  # of TOKENS queries each


def scale_table(seed: int = 0) -> pd.DataFrame:
    """One row per d_k, from entries drawn from N(0, 1); `_scaled` columns are with the scale.

    `variance` of q.k; `entropy` of the softmax as a share of a uniform row's; `gradient`, the
    root mean square over the entries of a query of the gradient that a random gradient at the
    outputs sends to it, for the median query, and its mean as `gradient_mean`.
    """
    import torch

    from vitrail.model.attention import logit_variance

    rows = []
    for width in WIDTHS:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(4, TABLES, TOKENS, width, generator=generator)
        before, after = logit_variance(width)
        row = {"d_k": width, "variance": before, "variance_scaled": after}
        for suffix, scale in (("", 1.0), ("_scaled", 1 / math.sqrt(width))):
            attention, gradients = _through_softmax(drawn, scale)
            row[f"entropy{suffix}"] = float(entropy_share(attention).mean())
            row[f"gradient{suffix}"] = float(np.median(gradients))
            row[f"gradient_mean{suffix}"] = float(gradients.mean())
        rows.append(row)
    return pd.DataFrame(rows)


def _through_softmax(drawn: Tensor, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Attention (TABLES, 1, TOKENS, TOKENS), and the size of each query's gradient."""
    import torch

    query, key, value, upstream = drawn
    query = query.clone().requires_grad_()
    attention = (scale * query @ key.transpose(-2, -1)).softmax(dim=-1)
    (gradient,) = torch.autograd.grad(attention @ value, query, upstream)
    return attention.detach().unsqueeze(1).numpy(), gradient.square().mean(-1).sqrt().numpy()


def scale_markdown(scale: pd.DataFrame) -> str:
    """The table that the report prints."""
    after = "with $1/\\sqrt{d_k}$"
    printed = pd.DataFrame(
        {
            "$d_k$": scale["d_k"],
            "Variance of $q·k$": scale["variance"].map("{:.1f}".format),
            after: scale["variance_scaled"].map("{:.2f}".format),
            "Entropy of softmax": scale["entropy"].map(share),
            f"{after} ": scale["entropy_scaled"].map(share),
            "Gradient of a query": scale["gradient"].map("{:.3f}".format),
            f"{after}  ": scale["gradient_scaled"].map("{:.3f}".format),
        }
    )
    return markdown_table(
        printed,
        "Queries and keys drawn from a standard normal distribution: variance of their products, "
        f"entropy of the attention rows over {TOKENS} tokens as a share of the entropy of uniform "
        "attention, and gradient that reaches the median query (root mean square of its entries) "
        "from a standard normal one at the outputs.",
        "q3-scale",
        left=0,
    )
