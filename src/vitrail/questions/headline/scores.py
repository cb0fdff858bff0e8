"""What the test logits of one trained network say: errors, interval, calibration.

Accuracies and probabilities are fractions in [0, 1] here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vitrail.analysis import CONFIDENCE
from vitrail.label_errors import LABEL_ERRORS, corrected

FIRST_BIN = 50  # images of the least sure bin
DRAWS = 1000  # simulated test results of a perfectly calibrated network
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """One trained network on the test set: labels (images,) and chances (images, digits)."""

    labels: NDArray[np.uint8]
    chances: Floats

    @classmethod
    def from_logits(cls, logits: np.ndarray, labels: NDArray[np.uint8]) -> Predictions:
        """Softmax of logits (images, digits) in double precision."""
        from scipy.special import softmax

        return cls(labels, softmax(logits.astype(np.float64), axis=1))

    @cached_property
    def answers(self) -> NDArray[np.intp]:
        """The digit that the network names, (images,)."""
        return self.chances.argmax(axis=1)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether the answer is the given label, (images,)."""
        return self.answers == self.labels

    @cached_property
    def confidence(self) -> Floats:
        """The probability that the network gives to its answer, (images,)."""
        return self.chances.max(axis=1)

    @cached_property
    def doubt(self) -> Floats:
        """One minus the confidence, (images,); added up so that 1e-12 is not rounded away."""
        others = self.chances.copy()
        others[np.arange(len(others)), self.answers] = 0
        return others.sum(axis=1)

    @cached_property
    def losses(self) -> Floats:
        """Negative log-likelihood of the given label, in nats, (images,)."""
        given = self.chances[np.arange(len(self.labels)), self.labels]
        return -np.log(np.maximum(given, np.finfo(float).tiny))

    @property
    def wrong(self) -> NDArray[np.intp]:
        """Indices of the misread images, the surest first."""
        missed = np.flatnonzero(~self.right)
        return missed[np.argsort(self.doubt[missed], kind="stable")]

    def confusion(self) -> NDArray[np.int64]:
        """Images by given label (rows) and answer (columns), (digits, digits)."""
        digits = self.chances.shape[1]
        table = np.zeros((digits, digits), dtype=np.int64)
        np.add.at(table, (self.labels, self.answers), 1)
        return table


@dataclass(frozen=True)
class Share:
    """A number of images out of all, with Wilson's 95 % interval of the share (1927)."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.total

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    @property
    def words(self) -> str:
        """The interval for print, as in "99.21 to 99.51 %"."""
        return f"{100 * self.low:.2f} to {100 * self.high:.2f} %"

    @property
    def rest_words(self) -> str:
        """The interval of the images that are not counted, as in "65 to 101"."""
        low, high = (round(self.total * (1 - end)) for end in (self.high, self.low))
        return f"{low:,} to {high:,}"


def share(count: int, total: int) -> Share:
    """`count` of `total` images with the interval of sampling the images."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Share(count, total, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Calibration:
    """Whether the probabilities that a network gives to its answers come true.

    Attributes:
        bins: one row per bin of images, the least sure first.
        ece: expected calibration error over those bins (Guo et al. 2017).
        ece_by_chance: its mean for a network whose probabilities are exactly true.
        ece_limit: what such a network stays below in 95 of 100 test sets.
        expected_errors: sum of one minus the confidence over the images.
        errors_low: lower end of the 95 % range of errors if the probabilities are true.
        errors_high: upper end of that range.
    """

    bins: pd.DataFrame
    ece: float
    ece_by_chance: float
    ece_limit: float
    expected_errors: float
    errors_low: int
    errors_high: int


def calibrate(predictions: Predictions) -> Calibration:
    """Compare confidence and success in bins that double in size from the least sure image on.

    Nearly all confidences are close to one, so bins of equal width leave all but one nearly
    empty and bins of equal count hold all errors in the first. What chance alone gives is
    found by drawing the outcome of each image with the probability that the network states;
    the generator is seeded, so a report made twice has the same figures.
    """
    order = np.argsort(-predictions.doubt, kind="stable")
    doubt, wrong = predictions.doubt[order], ~predictions.right[order]
    starts = bin_starts(len(order))
    sizes = np.diff([*starts, len(order)])
    expected = np.add.reduceat(doubt, starts) / sizes
    missed = np.add.reduceat(wrong.astype(float), starts)
    observed = [share(int(count), int(size)) for count, size in zip(missed, sizes, strict=True)]
    rng = np.random.default_rng(0)
    gaps, totals = np.empty(DRAWS), np.empty(DRAWS)
    for draw in range(DRAWS):
        chance = np.add.reduceat((rng.random(len(doubt)) < doubt).astype(float), starts)
        gaps[draw] = _weighted_gap(chance, expected, sizes)
        totals[draw] = chance.sum()
    low, high = np.quantile(totals, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    bins = pd.DataFrame(
        {
            "images": sizes,
            "predicted_error": expected,
            "errors": missed.astype(int),
            "observed_error": [found.value for found in observed],
            "low": [found.low for found in observed],
            "high": [found.high for found in observed],
        }
    )
    return Calibration(
        bins,
        ece=_weighted_gap(missed, expected, sizes),
        ece_by_chance=float(gaps.mean()),
        ece_limit=float(np.quantile(gaps, CONFIDENCE)),
        expected_errors=float(doubt.sum()),
        errors_low=int(np.floor(low)),
        errors_high=int(np.ceil(high)),
    )


def bin_starts(images: int) -> list[int]:
    """First image of each bin: 0, 50, 100, 200, 400 and so on, the last bin not a small rest."""
    starts, edge = [0], FIRST_BIN
    while images - edge >= edge / 2:
        starts.append(edge)
        edge *= 2
    return starts


def _weighted_gap(missed: Floats, expected: Floats, sizes: NDArray[np.integer]) -> float:
    """Mean over the images of the distance between error rate and doubt in their bin."""
    return float(np.abs(missed - expected * sizes).sum() / sizes.sum())


@dataclass(frozen=True)
class OnLabelErrors:
    """A network on the images whose label is known to be wrong or doubtful.

    Attributes:
        known: images of the list.
        agreed: those on whose digit the raters agree.
        among_errors: the network's errors that are on the list.
        as_raters: answers that equal the digit of the raters.
        as_label: answers on the same images that equal the given label.
        corrected: share of images read right when judged by the corrected labels.
    """

    known: int
    agreed: int
    among_errors: int
    as_raters: int
    as_label: int
    corrected: Share


def on_label_errors(predictions: Predictions) -> OnLabelErrors:
    """Judge the answers by the raters' digits; see `vitrail.label_errors.corrected`."""
    labels, kept = corrected(predictions.labels)
    answers = predictions.answers
    agreed = [error for error in LABEL_ERRORS if error.agreed is not None]
    return OnLabelErrors(
        known=len(LABEL_ERRORS),
        agreed=len(agreed),
        among_errors=sum(not predictions.right[error.index] for error in LABEL_ERRORS),
        as_raters=sum(int(answers[error.index]) == error.agreed for error in agreed),
        as_label=sum(int(answers[error.index]) == error.given for error in agreed),
        corrected=share(int((answers == labels)[kept].sum()), int(kept.sum())),
    )
