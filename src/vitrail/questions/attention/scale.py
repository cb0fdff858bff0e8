"""Q3's thought experiment: random queries and keys, with and without 1/sqrt(d_k)."""

from __future__ import annotations

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
FEW = 0.1  # of the queries, those with the largest gradients


def scale_table(seed: int = 0) -> pd.DataFrame:
    """One row per d_k, from entries drawn from N(0, 1); `_scaled` columns are with the scale.

    `variance` of the logits of a row, q.k or what the model's own function makes of them;
    `entropy` of the softmax as a share of a uniform row's; `gradient`, the root mean square
    over the entries of a query of the gradient that a random gradient at the outputs sends to
    it, for the median query, and its mean as `gradient_mean`; `gradient_share`, the part of
    the squared gradient of all queries that the `FEW` with the largest get.
    """
    import torch

    rows = []
    for width in WIDTHS:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(4, TABLES, TOKENS, width, generator=generator)
        row: dict[str, float] = {"d_k": width}
        for suffix, scaled in (("", False), ("_scaled", True)):
            logits, attention, gradients = _through_softmax(drawn, scaled)
            row[f"variance{suffix}"] = float(logits.var(axis=-1, ddof=1).mean())
            row[f"entropy{suffix}"] = float(entropy_share(attention[:, None]).mean())
            row[f"gradient{suffix}"] = float(np.median(gradients))
            row[f"gradient_mean{suffix}"] = float(gradients.mean())
            row[f"gradient_share{suffix}"] = share_of_few(gradients**2)
        rows.append(row)
    return pd.DataFrame(rows).astype({"d_k": int})


def _through_softmax(drawn: Tensor, scaled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits and attention, (TABLES, TOKENS, TOKENS), and the size of each query's gradient.

    The scale is the model's own: its logits are the logarithms of its weights, but for what
    all of a row have in common.
    """
    import torch

    from vitrail.model.attention import attention_weights

    query, key, value, upstream = drawn
    query = query.clone().requires_grad_()
    products = query @ key.transpose(-2, -1)
    attention = attention_weights(query, key) if scaled else products.softmax(dim=-1)
    logits = attention.log() if scaled else products
    (gradient,) = torch.autograd.grad(attention @ value, query, upstream)
    sizes = gradient.square().mean(-1).sqrt()
    return logits.detach().numpy(), attention.detach().numpy(), sizes.numpy()


def share_of_few(values: np.ndarray) -> float:
    """The part of the sum of all values that the largest `FEW` of them make, in [0, 1]."""
    ordered = np.sort(values, axis=None)[::-1].astype(float)
    return float(ordered[: round(FEW * ordered.size)].sum() / ordered.sum())


def scale_markdown(scale: pd.DataFrame) -> str:
    """The table that the report prints."""
    after = "with $1/\\sqrt{d_k}$"
    printed = pd.DataFrame(
        {
            "$d_k$": scale["d_k"],
            "Variance of logits": scale["variance"].map("{:.1f}".format),
            after: scale["variance_scaled"].map("{:.2f}".format),
            "Entropy of softmax": scale["entropy"].map(share),
            f"{after} ": scale["entropy_scaled"].map(share),
            "Gradient of a query": scale["gradient"].map("{:.3f}".format),
            f"{after}  ": scale["gradient_scaled"].map("{:.3f}".format),
            f"Top {share(FEW)}": scale["gradient_share"].map(share),
            f"{after}   ": scale["gradient_share_scaled"].map(share),
        }
    )
    return markdown_table(
        printed,
        "Queries and keys drawn from a standard normal distribution: variance of the logits of a "
        f"row, entropy of the attention rows over {TOKENS} tokens as a share of the entropy of "
        "uniform attention, gradient that reaches the median query (root mean square of its "
        "entries) from a standard normal one at the outputs, and share of the squared gradient "
        f"of all queries that goes to the {share(FEW)} with the largest.",
        "q3-scale",
        left=0,
    )
