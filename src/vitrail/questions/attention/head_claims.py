"""What Q4 claims of heads, each decided by a table of measurements."""

from __future__ import annotations

import math

import pandas as pd

from vitrail.analysis import difference_words, estimate
from vitrail.claims import Claim, holds
from vitrail.questions.attention.claims import EXACT, by_seed, over_seeds, paired
from vitrail.questions.attention.measures import START, TRAINED, share


def equals_torch(gap: float | None) -> Claim:
    """`gap` to PyTorch's module; None where it cannot have heads of this width."""
    return holds(
        "q4-equals-torch",
        "Our multi-head attention computes what torch.nn.MultiheadAttention computes.",
        f"largest difference with copied weights below {EXACT:.0e}",
        "torch's module has no heads of this width"
        if gap is None
        else f"largest difference {difference_words(gap)} over all blocks of the base ViT",
        None if gap is None else gap < EXACT,
        "Our multi-head attention does not compute what torch.nn.MultiheadAttention computes.",
    )


def heads_add_up(gap: float) -> Claim:
    """`gap` between the concatenation and the sum of the heads' own outputs."""
    return holds(
        "q4-heads-add-up",
        "Concatenating the heads and multiplying by $W_O$ is the same as adding what each head "
        "writes through its own rows of $W_O$.",
        f"largest difference below {EXACT:.0e}",
        f"largest difference {difference_words(gap)} over all blocks of the base ViT",
        gap < EXACT,
        "Concatenating the heads and multiplying by $W_O$ is not the sum of what they write.",
    )


def heads_part(measures: pd.DataFrame, arm: str) -> Claim:
    """Textbooks say that heads learn to look at different things."""
    before, after = by_seed(measures, "tv_heads", arm, START), by_seed(measures, "tv_heads", arm)
    return over_seeds(
        "q4-training-parts-the-heads",
        "Training makes the heads of a block look at more different patches.",
        "total variation distance of a row between two heads of a block, after minus before "
        "training",
        f"two heads differ in {share(before.mean())} of a row's weight before, in "
        f"{share(after.mean())} after training",
        paired(after, before),
        "Training makes the heads of a block look at more similar patches.",
    )


def of_distance(
    measures: pd.DataFrame, arm: str, uniform: float, window: float | None
) -> list[Claim]:
    """What Dosovitskiy et al. (2021) saw in large ViTs, tried on the base ViT.

    `uniform` and `window` are the distances of uniform attention and of a 3 x 3 window of
    patches, None where the window holds the whole grid.
    """
    chosen = measures[(measures["arm"] == arm) & (measures["state"] == TRAINED)]
    mean = chosen.pivot_table("distance", "seed", "block")
    spread = chosen.pivot_table("distance", "seed", "block", aggfunc=_spread)
    first, last = mean.columns[0], mean.columns[-1]
    return [
        over_seeds(
            "q4-distance-grows-with-depth",
            "The heads of the last block look further than those of the first.",
            "mean distance in the last block minus that in the first",
            f"{mean[last].mean():.2f} patches in the last, {mean[first].mean():.2f} in the first",
            paired(mean[last], mean[first]),
            "The heads of the last block look less far than those of the first.",
        ),
        over_seeds(
            "q4-early-heads-differ-more",
            "The heads of the first block differ more in how far they look than those of the last.",
            "standard deviation over the heads in the first block minus that in the last",
            f"{spread[first].mean():.2f} patches in the first, {spread[last].mean():.2f} in the "
            "last",
            paired(spread[first], spread[last]),
            "The heads of the first block differ less in how far they look than those of the last.",
        ),
        _nearer_than_uniform(chosen, uniform),
        *([] if window is None else [_some_head_is_local(chosen, window)]),
    ]


def _spread(distances: pd.Series) -> float:
    """Standard deviation over the heads; zero for a single one."""
    return float(distances.std(ddof=0))


def _nearer_than_uniform(chosen: pd.DataFrame, uniform: float) -> Claim:
    means = chosen.groupby("seed")["distance"].mean()
    return over_seeds(
        "q4-attention-prefers-near-patches",
        "On average over its heads the base ViT reads nearer patches than uniform attention would.",
        "distance of uniform attention minus mean distance",
        f"{means.mean():.2f} patches, uniform {uniform:.2f}",
        estimate([uniform - value for value in means]),
        "On average over its heads the base ViT reads patches further away than uniform "
        "attention would.",
    )


def _some_head_is_local(chosen: pd.DataFrame, window: float) -> Claim:
    nearest = float(chosen["distance"].min())
    return holds(
        "q4-some-head-is-local",
        "Some head of the base ViT looks no further than a 3 × 3 window of patches.",
        "smallest mean distance of any head of any seed against that of the window",
        f"{nearest:.2f} patches, window {window:.2f}",
        nearest <= window,
        "No head of the base ViT looks as near as a 3 × 3 window of patches does.",
    )


def reads_ink(gains: list[float]) -> Claim:
    """`gains`: share of the rollout on ink beyond uniform weights, one per seed."""
    gap = estimate(gains)
    mean = "not run" if math.isnan(gap.mean) else f"{100 * gap.mean:+.1f} %".replace("-", "−")
    return over_seeds(
        "q4-rollout-finds-the-ink",
        "Followed through all blocks, the attention of the base ViT prefers patches with ink.",
        "share of the rollout on patches with ink minus their share of the patches",
        f"{mean} of the weight beyond uniform",
        gap,
        "Followed through all blocks, the attention of the base ViT prefers patches without ink.",
    )
