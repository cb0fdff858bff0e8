"""What Q3 and Q4 claim of attention, each decided by a table of measurements.

The networks of several seeds decide by the 95 % interval of a paired difference; what
holds of a single computation is decided by its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from vitrail.analysis import Estimate, counted, difference_words, estimate
from vitrail.claims import Claim, holds
from vitrail.questions.attention.measures import START, TRAINED, share
from vitrail.questions.attention.scale import FEW

EXACT = 1e-5  # rounding of float32 sums
SAME_ENTROPY, LOST_ENTROPY = 0.05, 0.1
NEAR_ONE = (0.5, 2.0)


def by_seed(measures: pd.DataFrame, column: str, arm: str, state: str = TRAINED) -> pd.Series:
    """Mean of a measure over blocks and heads, one value per seed."""
    chosen = measures[(measures["arm"] == arm) & (measures["state"] == state)]
    return chosen.groupby("seed")[column].mean()


def paired(first: pd.Series, second: pd.Series) -> Estimate:
    """Interval of first - second over the seeds that both have."""
    return estimate((first - second).dropna().tolist())


def over_seeds(
    claim_id: str, sentence: str, test: str, evidence: str, gap: Estimate, otherwise: str
) -> Claim:
    """Holds when the interval of `gap` lies above zero, fails when it lies below."""
    outcome = True if gap.low > 0 else False if gap.high < 0 else None
    if math.isnan(gap.half_width):
        evidence += "; one seed has no interval" if gap.n else "; no run to compare"
    else:
        evidence += f"; difference {signed(gap)} over {counted(gap.n, 'seed')}"
    return holds(claim_id, sentence, f"95 % interval of {test}", evidence, outcome, otherwise)


def signed(gap: Estimate) -> str:
    """ "+0.21 ± 0.04" """
    return f"{gap.mean:+.2f} ± {gap.half_width:.2f}".replace("-", "\N{MINUS SIGN}")


# Q3: random queries and keys


def of_random_logits(scale: pd.DataFrame) -> list[Claim]:
    """The scale as it is usually explained, tried on the table of `scale_table`."""
    first, last = scale.iloc[0], scale.iloc[-1]
    wide = int(last["d_k"])
    kept = abs(last["entropy_scaled"] - first["entropy_scaled"]) < SAME_ENTROPY
    lost = first["entropy"] - last["entropy"] > LOST_ENTROPY
    near = (abs(scale["variance"] / scale["d_k"] - 1) < 0.1) & (
        abs(scale["variance_scaled"] - 1) < 0.1
    )
    return [
        holds(
            "q3-scale-keeps-variance",
            "Dividing by $\\sqrt{d_k}$ brings the variance of the logits from $d_k$ to one.",
            "variance of the logits of a row within 10 % of d_k, and of those that the model's own "
            "function makes within 10 % of one",
            f"$d_k = {wide}$: {last['variance']:.1f} before, {last['variance_scaled']:.2f} after",
            bool(near.all()),
            "Dividing by $\\sqrt{d_k}$ does not bring the variance of the logits to one.",
        ),
        holds(
            "q3-scale-keeps-entropy",
            "Without the scale the softmax gets sharper as heads get wider; with it, it does not.",
            f"entropy between the narrowest and the widest head: {share(LOST_ENTROPY)} lost "
            f"without the scale, less than {share(SAME_ENTROPY)} changed with it",
            f"$d_k = {first['d_k']:.0f}$ to ${wide}$: {share(first['entropy'])} to "
            f"{share(last['entropy'])} without, {share(first['entropy_scaled'])} to "
            f"{share(last['entropy_scaled'])} with",
            bool(kept and lost),
            "How sharp the softmax is does not depend on the width of the head as the scale "
            "assumes.",
        ),
        _smaller_gradient(last, "gradient", "median", "the median query"),
        _smaller_gradient(last, "gradient_mean", "mean", "a query on average"),
        _few_get_most(last),
    ]


def _smaller_gradient(last: pd.Series, column: str, name: str, whose: str) -> Claim:
    width, without, scaled = int(last["d_k"]), last[column], last[f"{column}_scaled"]
    return holds(
        f"q3-unscaled-{name}-gradient-is-smaller",
        f"At $d_k = {width}$ the gradient that reaches {whose} is smaller without the scale.",
        "root mean square of its entries, for a random gradient at the outputs",
        f"{without:.3f} without, {scaled:.3f} with",
        bool(without < scaled),
        f"At $d_k = {width}$ the gradient that reaches {whose} is larger without the scale: "
        f"{without:.3f} against {scaled:.3f}.",
    )


def _few_get_most(last: pd.Series) -> Claim:
    """Whether few queries make the gradient without the scale, and the scale spreads it out."""
    width, few = int(last["d_k"]), share(FEW)
    without, scaled = last["gradient_share"], last["gradient_share_scaled"]
    parts = f"{share(without)} without the scale and {share(scaled)} with it"
    return holds(
        "q3-few-queries-get-most-of-the-gradient",
        f"At $d_k = {width}$ few queries get most of the gradient without the scale, and with it "
        "they do not.",
        f"share of the squared gradient that the {few} of the queries with the largest get: more "
        "than half without the scale, at most half with it",
        parts,
        bool(without > 0.5 >= scaled),
        f"At $d_k = {width}$ it is not the scale that decides whether few queries get most of the "
        f"gradient: the top {few} get {parts}.",
    )


# Q3: networks


def of_networks(measures: pd.DataFrame, base: str) -> list[Claim]:
    """Of the base ViT in the table of `measured`."""
    return [
        _needs_its_scale(measures, base),
        _training_sharpens(measures, base),
        _variance_stays(measures, base),
        _follows_image(measures, base),
    ]


def of_widths(
    measures: pd.DataFrame, pair: tuple[str, str] | None, labels: Sequence[str]
) -> list[Claim]:
    """Of a wide head and narrow heads trained with one budget, where there are such arms."""
    if pair is None:
        return []
    return [_wide_needs_more(measures, pair, labels, state) for state in (START, TRAINED)]


def _wide_needs_more(
    measures: pd.DataFrame, pair: tuple[str, str], labels: Sequence[str], state: str
) -> Claim:
    wide, narrow = (
        by_seed(measures, "entropy", arm, state) - by_seed(measures, "entropy_unscaled", arm, state)
        for arm in pair
    )
    when = "Before training" if state == START else "After training"
    return over_seeds(
        f"q3-wide-head-needs-the-scale-more-{state}",
        f"{when}, taking out the scale costs {labels[0]} more entropy than {labels[1]}.",
        "the difference in entropy lost, paired by seed",
        f"{labels[0]} loses {share(wide.mean())} of a uniform row's entropy, {labels[1]} "
        f"{share(narrow.mean())}",
        paired(wide, narrow),
        f"{when}, taking out the scale costs {labels[0]} less entropy than {labels[1]}.",
    )


def _needs_its_scale(measures: pd.DataFrame, arm: str) -> Claim:
    chosen = measures[(measures["arm"] == arm) & (measures["state"] == TRAINED)]
    whole, without = chosen["entropy"].mean(), chosen["entropy_unscaled"].mean()
    return holds(
        "q3-trained-entropy-falls-without-the-scale",
        "Taken out of the trained base ViT, the scale leaves sharper attention in every head.",
        "entropy of each head of each block and seed, with and without the scale; it must fall, "
        "as the entropy of a softmax never rises when its logits grow",
        f"mean over all heads {share(whole)} with, {share(without)} without",
        bool((chosen["entropy_unscaled"] <= chosen["entropy"] + EXACT).all()),
        "Taken out of the trained base ViT, the scale leaves a head whose attention is not "
        "sharper: the computation contradicts the proof.",
    )


def _training_sharpens(measures: pd.DataFrame, arm: str) -> Claim:
    before, after = by_seed(measures, "entropy", arm, START), by_seed(measures, "entropy", arm)
    return over_seeds(
        "q3-training-sharpens-attention",
        "Training makes the attention of the base ViT sharper.",
        "entropy before minus after training",
        f"entropy {share(before.mean())} before, {share(after.mean())} after training",
        paired(before, after),
        "Training makes the attention of the base ViT flatter.",
    )


def _variance_stays(measures: pd.DataFrame, arm: str) -> Claim:
    before, after = by_seed(measures, "variance", arm, START), by_seed(measures, "variance", arm)
    inside = after.between(*NEAR_ONE)
    return holds(
        "q3-trained-variance-stays-one",
        "The scaled logits of the base ViT keep a variance near one while it is trained.",
        f"variance within a row, mean over blocks and heads, between {NEAR_ONE[0]:g} and "
        f"{NEAR_ONE[1]:g} in every seed",
        f"{before.mean():.2f} before, {after.mean():.2f} after training",
        True if inside.all() else None if inside.any() else False,
        f"Training takes the variance of the scaled logits of the base ViT from "
        f"{before.mean():.2f} to {after.mean():.2f}: one is where the scale starts it, not where "
        "it stays.",
    )


def _follows_image(measures: pd.DataFrame, arm: str) -> Claim:
    before, after = by_seed(measures, "tv_images", arm, START), by_seed(measures, "tv_images", arm)
    return over_seeds(
        "q3-training-makes-attention-follow-the-image",
        "Training makes the weights of attention depend more on the image.",
        "total variation distance of a row between two digits, after minus before training",
        f"{share(before.mean())} of a row's weight before, {share(after.mean())} after training",
        paired(after, before),
        "Training makes the weights of attention depend less on the image.",
    )


def equivariant(gap: float) -> Claim:
    """`gap` between shuffling the tokens before and after attention."""
    return holds(
        "q3-attention-is-equivariant",
        "Shuffling the tokens shuffles the outputs of attention and changes nothing else.",
        f"largest difference below {EXACT:.0e}",
        f"largest difference {difference_words(gap)} over all blocks of the base ViT",
        gap < EXACT,
        "Shuffling the tokens changes the outputs of attention beyond their order.",
    )
