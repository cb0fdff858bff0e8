"""What Q7 asserts of the law, decided by the measured exponents."""

from __future__ import annotations

import math

import pandas as pd

from vitrail.claims import Claim, holds
from vitrail.efficiency import crossover
from vitrail.questions.complexity.law import WIDEST, inside, largest_miss
from vitrail.scaling import Slope

# Exponents that count as "nearly quadratic" and as "clearly not".
LONG, SHORT = 1.7, 1.5
MNIST_TOKENS = 28 * 28 // 4 + 1  # patches of 2 pixels and a class token
# Intervals of 95 % that are right hold more; a formula that leaves out what is cheap, fewer.
ENOUGH, LEAST_STEPS = 0.8, 5
FACTOR = 2.0  # within which the crossover has to be found


def claims(steps: pd.DataFrame, crossings: pd.DataFrame, memory: dict[str, float]) -> list[Claim]:
    """Undecided where the timed lengths are not short, long or many enough for a claim."""
    return [*_exponents(steps), _memory(memory), _predicted(steps), _crossover(crossings)]


def _exponents(steps: pd.DataFrame) -> list[Claim]:
    width = int(steps["embed_dim"].iloc[0])
    naive, fused = (slopes(steps, width, "attention", name) for name in ("naive", "fused"))
    block = [s for s in slopes(steps, width, "block", "fused") if s.n_to <= MNIST_TOKENS]
    last, fused_last = naive[-1], fused[-1]
    steepest = max(block, key=lambda slope: slope.slope, default=None)
    long = crossover(width, 0)
    return [
        holds(
            "q7-quadratic-for-long-sequences",
            "For long sequences the time of attention grows nearly with n².",
            f"exponent of the written-out form between the two longest sequences above {LONG}, "
            f"width {width}",
            told(last),
            above(last, LONG) if last.n_from > long else None,
        ),
        holds(
            "q7-not-quadratic-at-mnist-sizes",
            "At the sizes of MNIST the time of a block does not grow with n².",
            f"all exponents up to {MNIST_TOKENS} tokens below {SHORT}, width {width}",
            "no step that short was timed" if steepest is None else f"at most {told(steepest)}",
            _all_below(block, SHORT),
        ),
        holds(
            "q7-fused-keeps-the-exponent",
            "The fused kernel does not change the exponent of the time for long sequences.",
            f"its exponent between the two longest sequences above {LONG} as well, width {width}",
            told(fused_last),
            above(fused_last, LONG) if fused_last.n_from > long else None,
        ),
    ]


def _memory(memory: dict[str, float]) -> Claim:
    return holds(
        "q7-fused-memory-is-linear",
        "The fused kernel needs memory linear in n; the written-out form needs n².",
        "exponent of peak memory between the two longest sequences below 1.2 and above 1.8",
        f"fused n^{memory['fused']:.2f}^, written out n^{memory['naive']:.2f}^",
        memory["fused"] < 1.2 and memory["naive"] > 1.8,
    )


def _predicted(steps: pd.DataFrame) -> Claim:
    hits, count = inside(steps, "block", "fused")
    miss = largest_miss(steps, "block", "fused")
    blunt = int((steps["what"] == "block").sum()) - count
    widths = " and ".join(str(width) for width in steps["embed_dim"].unique())
    return holds(
        "q7-slopes-as-predicted",
        "The exponents of a block are those of the formula in multiply-accumulates.",
        f"at least {100 * ENOUGH:.0f} % of the formula's exponents lie in the 95 % intervals of "
        f"the measured ones, widths {widths}; intervals wider than {WIDEST:g} do not count, and "
        "may be half of all at most",
        f"{hits} of {count}, and {blunt} with too wide an interval"
        + (f"; the largest difference is {miss:.2f}" if count else ""),
        hits >= ENOUGH * count if count >= max(LEAST_STEPS, blunt) else None,
        f"Only {hits} of the {count} exponents of a block are those of the formula in "
        "multiply-accumulates to within the spread of the repeats; the largest difference is "
        f"{miss:.2f}.",
    )


def _crossover(crossings: pd.DataFrame) -> Claim:
    known = crossings.dropna(subset=["fused"])
    factors = [max(m / p, p / m) for m, p in zip(known["fused"], known["predicted"], strict=True)]
    return holds(
        "q7-crossover-as-predicted",
        f"The quadratic part takes as long as the linear one within a factor of {FACTOR:g} of "
        "n = (2 + r) d.",
        "length at which the products of the fused kernel take as long as the linear layers of "
        "a block, each timed on its own, over (2 + r) d or its inverse",
        "; ".join(
            f"width {row['embed_dim']:.0f}: {row['fused']:,.0f} for {row['predicted']:,.0f}"
            for row in known.to_dict("records")
        )
        or "not among the timed lengths",
        all(factor <= FACTOR for factor in factors) if factors else None,
    )


def slopes(steps: pd.DataFrame, width: int, what: str, variant: str) -> list[Slope]:
    """The measured exponents of one curve, in rising order of length."""
    mine = (steps["embed_dim"] == width) & (steps["what"] == what) & (steps["variant"] == variant)
    return [
        Slope(row["n_from"], row["n_to"], row["slope"], row["low"], row["high"])
        for row in steps[mine].to_dict("records")
    ]


def told(slope: Slope) -> str:
    """A measured exponent for evidence."""
    return (
        f"n^{slope.slope:.2f}^ ({slope.low:.2f} to {slope.high:.2f}) between {slope.n_from:,} "
        f"and {slope.n_to:,} tokens"
    )


def above(slope: Slope, bound: float) -> bool | None:
    """Whether the interval lies above a bound; None when it holds the bound or is missing."""
    if slope.low > bound:
        return True
    return False if slope.high <= bound else None


def _all_below(slopes: list[Slope], bound: float) -> bool | None:
    if not slopes or any(math.isnan(slope.low) for slope in slopes):
        return None
    if any(slope.low >= bound for slope in slopes):
        return False
    return True if all(slope.high < bound for slope in slopes) else None
