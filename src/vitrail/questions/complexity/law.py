"""What the formula predicts beside what was measured: exponents, crossover, memory.

Two predictions stand beside each measured exponent, and neither is fitted to it. The first
is the formula in MACs alone. The second weighs its two terms with how long they take: the
linear layers of a block and the products between the projections, timed apart from it at
one length. The second so counts what MACs do not, above all the softmax, and the rate at
which the processor multiplies matrices of each shape.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd

from vitrail.efficiency import crossover
from vitrail.questions.complexity.clock import Clock, near_reference
from vitrail.scaling import log_slopes, predicted_slopes

# A wider interval would hold nearly any prediction, so its step decides nothing.
WIDEST = 0.25
SERIES = (("block", "fused"), ("attention", "fused"), ("attention", "naive"))


def exponents(clock: Clock) -> pd.DataFrame:
    """One row per width, series and step between two lengths.

    `slope`, `low` and `high` are measured, `predicted` is the formula's and `weighted` that
    of the separately timed terms; `inside` and `weighted_inside` say whether the measured
    interval holds them, and `sharp` whether it is narrow enough for that to mean something.
    """
    frames = []
    for width in clock.widths:
        for what, variant in SERIES:
            found = clock.slopes(what, variant, width)
            sizes = [found[0].n_from, *(slope.n_to for slope in found)]
            ratio = clock.mlp_ratio if what == "block" else None
            frame = pd.DataFrame(
                {
                    "embed_dim": width,
                    "what": what,
                    "variant": variant,
                    "n_from": sizes[:-1],
                    "n_to": sizes[1:],
                    "slope": [slope.slope for slope in found],
                    "low": [slope.low for slope in found],
                    "high": [slope.high for slope in found],
                    "predicted": predicted_slopes(sizes, width, ratio),
                    "weighted": log_slopes(sizes, _weighted(clock, width, what, variant, sizes)),
                }
            )
            frame["inside"] = frame["predicted"].between(frame["low"], frame["high"])
            frame["weighted_inside"] = frame["weighted"].between(frame["low"], frame["high"])
            frame["sharp"] = frame["high"] - frame["low"] <= WIDEST
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _weighted(clock: Clock, width: int, what: str, variant: str, sizes: list[int]) -> list[float]:
    """Seconds by the two terms' own rates, each read at one length."""
    linear = clock.seconds("linear", "", width)
    products = clock.seconds("products", variant, width)
    n = near_reference(sorted(set(linear) & set(products)))
    # Of a block's (4 + 2r) n d^2 attention has 4, and is taken to have as much of their time.
    part = 1.0 if what == "block" else 4 / (4 + 2 * clock.mlp_ratio)
    per_token, per_pair = part * linear[n] / n, products[n] / n**2
    return [per_token * size + per_pair * size**2 for size in sizes]


def inside(steps: pd.DataFrame, what: str, variant: str, column: str = "inside") -> tuple[int, int]:
    """(sharp intervals that hold their prediction, sharp ones) of a series, over all widths."""
    mine = steps[(steps["what"] == what) & (steps["variant"] == variant) & steps["sharp"]]
    return int(mine[column].sum()), len(mine)


def largest_miss(steps: pd.DataFrame, what: str, variant: str) -> float:
    """Largest difference between a sharply measured exponent and the formula's; NaN for none."""
    mine = steps[(steps["what"] == what) & (steps["variant"] == variant) & steps["sharp"]]
    return float((mine["slope"] - mine["predicted"]).abs().max())


def inside_words(steps: pd.DataFrame, what: str, variant: str, title: str) -> str:
    """How often both predictions of a series' exponents held, as a sentence about `title`."""
    formula, all_ = inside(steps, what, variant)
    if not all_:
        return f"No exponent of {title} was measured narrowly enough to tell."
    weighted, _ = inside(steps, what, variant, "weighted_inside")
    return (
        f"Of the formula's exponents for {title} {formula} of {all_} lie in the measured interval, "
        f"of the second prediction's {weighted}; the largest difference from the formula is "
        f"{largest_miss(steps, what, variant):.2f}."
    )


def crossovers(clock: Clock) -> pd.DataFrame:
    """Where the two terms are equal: by the formula, and by the clock for each variant.

    By the clock: the length at which the products between the projections take as long as
    the linear layers of a block, both timed on their own, interpolated between two lengths on
    log-log axes. NaN where one takes longer at all lengths.
    """
    rows = []
    for width in clock.widths:
        row: dict[str, float] = {"embed_dim": width, "predicted": crossover(width, clock.mlp_ratio)}
        for variant in ("fused", "naive"):
            linear = clock.seconds("linear", "", width)
            products = clock.seconds("products", variant, width)
            row[variant] = crossing({n: products[n] / linear[n] for n in products if n in linear})
        rows.append(row)
    return pd.DataFrame(rows)


def crossing(ratio: dict[int, float]) -> float:
    """Where a rising ratio passes one, on log-log axes; NaN where it does not."""
    for (n1, r1), (n2, r2) in pairwise(sorted(ratio.items())):
        if r1 < 1 <= r2:
            return float(n1 * (n2 / n1) ** (math.log(1 / r1) / math.log(r2 / r1)))
    return math.nan


def memory_exponents(clock: Clock) -> dict[str, float]:
    """Exponent of peak memory of attention between its two longest lengths, by variant."""
    found = {}
    for variant in ("naive", "fused"):
        rows = clock.rows("attention", variant, clock.widths[0])
        (n1, m1), (n2, m2) = rows[["n", "peak_mib"]].to_numpy()[-2:]
        found[variant] = float(np.log(m2 / m1) / np.log(n2 / n1))
    return found


def fused_over_naive(clock: Clock, what: str = "attention") -> dict[int, float]:
    """How many times as long the written-out form takes, by n, at the first width."""
    naive = clock.seconds(what, "naive", clock.widths[0])
    fused = clock.seconds(what, "fused", clock.widths[0])
    return {n: naive[n] / fused[n] for n in sorted(set(naive) & set(fused))}
