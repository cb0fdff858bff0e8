"""Statistics of the study: intervals over seeds, paired comparisons, McNemar's test.

Accuracies are fractions in [0, 1] here and percentages only where they are printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with the half width of its 95 % interval; NaN from fewer than two values."""

    mean: float
    half_width: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval by Student's t, for the few seeds that a study has."""
    from scipy.stats import t

    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, n)
    spread = float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean, float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * spread, n)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """Interval of first - second over the seeds that both have.

    Arms share seed and data order. Where that makes their accuracies rise and fall together
    the interval is narrower than that of two separate samples; it is valid in any case.
    """
    shared = sorted(set(first) & set(second))
    return estimate([first[seed] - second[seed] for seed in shared])


def accuracy_gap(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> Estimate:
    """Accuracy of the first classifier minus that of the second on the same N images.

    The interval is that of two paired proportions (Wald): it tells how far the difference
    would move with other images, not with other trainings.
    """
    gaps = first_right.astype(float) - second_right.astype(float)
    half_width = 1.96 * float(np.std(gaps)) / math.sqrt(len(gaps))
    return Estimate(float(gaps.mean()), half_width, len(gaps))


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two classifiers gets right, and the exact p-value."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> McNemar:
    """Exact test of two classifiers on the same images (McNemar 1947).

    Args:
        first_right: for each test image, whether the first classifier is right; (N,).
        second_right: the same for the second; (N,).
    """
    from scipy.stats import binomtest

    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(~first_right & second_right))
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, p_value)


def percent(value: Estimate, digits: int = 2) -> str:
    """An accuracy for print: "97.31 % ± 0.24", or what is missing for that."""
    if value.n == 0 or math.isnan(value.mean):
        return "not run"
    text = f"{100 * value.mean:.{digits}f} %"
    return text if math.isnan(value.half_width) else f"{text} ± {100 * value.half_width:.{digits}f}"


def points(value: Estimate, digits: int = 2) -> str:
    """A difference of accuracies for print, in percentage points: "+0.42 ± 0.20"."""
    if value.n == 0 or math.isnan(value.mean):
        return "not run"
    text = f"{100 * value.mean:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text if math.isnan(value.half_width) else f"{text} ± {100 * value.half_width:.{digits}f}"


def count(value: float) -> str:
    """A whole number for print, with a comma at the thousands."""
    return f"{round(value):,}"


def counted(number: float, noun: str) -> str:
    """A number with its noun: "1 seed", "3 seeds", "0.3 epochs"."""
    shown = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def p_words(value: float) -> str:
    """A p-value for print; what a float cannot tell from zero is not printed as zero."""
    return f"{value:.2g}" if value >= 1e-16 else "< 1e-16"


def difference_words(gap: float) -> str:
    """A tiny difference for print; exact equality is worth saying."""
    return f"{gap:.1e}" if gap else "0 (equal to the last bit)"
