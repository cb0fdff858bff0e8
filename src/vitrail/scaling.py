"""How a cost grows with the number of tokens: slopes on log-log axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrail.efficiency import attention_macs, block_macs


@dataclass(frozen=True)
class Slope:
    """Growth between two neighbouring sizes: cost ~ n^slope from `n_from` to `n_to`.

    `low` and `high` bound the slope at the asked confidence; NaN without repeats.
    """

    n_from: int
    n_to: int
    slope: float
    low: float = math.nan
    high: float = math.nan

    @property
    def n_middle(self) -> float:
        """Where to draw it: the geometric mean of the two sizes."""
        return math.sqrt(self.n_from * self.n_to)


def log_slopes(n: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
    """Slopes of log(cost) against log(n) between neighbours; `cost` may be (..., len(n))."""
    steps = np.diff(np.log(np.asarray(n, dtype=float)))
    return np.asarray(np.diff(np.log(np.asarray(cost, dtype=float)), axis=-1) / steps)


def local_slopes(
    n: Sequence[int],
    seconds: Sequence[ArrayLike],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Slope]:
    """Slopes between neighbouring sizes, from the median time at each.

    Args:
        n: sizes in rising order.
        seconds: for each size one number or all its repeats. With at least two repeats
            at every size each slope gets an interval: percentile bootstrap, resampling
            the repeats of each size on their own.

    Raises:
        ValueError: when there are fewer than two sizes, or they do not rise, or a time
            is missing or not above zero.
    """
    sizes = [int(size) for size in n]
    samples = [np.atleast_1d(np.asarray(values, dtype=float)) for values in seconds]
    if len(sizes) != len(samples):
        raise ValueError(f"local_slopes got {len(sizes)} sizes and {len(samples)} sets of times")
    if len(sizes) < 2 or any(a >= b for a, b in pairwise(sizes)):
        raise ValueError(f"local_slopes needs two or more sizes in rising order, got {sizes}")
    if any(values.size == 0 or not (values > 0).all() for values in samples):
        raise ValueError("local_slopes needs a time above zero at every size")

    slopes = log_slopes(sizes, [np.median(values) for values in samples])
    low = high = np.full(len(slopes), np.nan)
    if min(values.size for values in samples) >= 2:
        generator = np.random.default_rng(seed)
        medians = [
            np.median(generator.choice(values, size=(resamples, values.size)), axis=1)
            for values in samples
        ]
        draws = log_slopes(sizes, np.stack(medians, axis=1))  # (resamples, slopes)
        tail = (1 - confidence) / 2
        low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return [
        Slope(sizes[i], sizes[i + 1], float(slopes[i]), float(low[i]), float(high[i]))
        for i in range(len(slopes))
    ]


def predicted_slopes(n: Sequence[int], d: int, r: float | None = 4.0) -> NDArray[np.float64]:
    """What the cost formula gives between the same neighbours, for a block.

    `r` is the MLP ratio; None leaves the MLP out and gives attention alone.
    """
    cost = [attention_macs(size, d) if r is None else block_macs(size, d, r) for size in n]
    return log_slopes(n, cost)
