"""The list of label errors, and the scores of the headline run."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_headline import IMAGES, noise
from vitrail.data import Mnist, read_idx
from vitrail.errors import VitrailError
from vitrail.label_errors import LABEL_ERRORS, MAJORITY, RATERS, check_labels, corrected
from vitrail.questions.headline.figures import (
    AS_RATERS,
    KNOWN,
    mark,
    votes,
)
from vitrail.questions.headline.scores import Predictions, bin_starts, calibrate, share

ROOT = Path(__file__).parents[1]
AGREED = [error for error in LABEL_ERRORS if error.agreed is not None]


@pytest.fixture(scope="module")
def digits() -> Mnist:
    return noise()


# --- The list of label errors


def test_the_list_is_the_published_one() -> None:
    """15 images, each without a majority for its label; on 10 there is one for another digit."""
    assert len({error.index for error in LABEL_ERRORS}) == 15
    rows = [(e.index, e.given, e.proposed, e.votes_given, e.votes_proposed, e.votes_neither)
            for e in LABEL_ERRORS]  # fmt: skip
    # SHA-256 of the 15 rows as JSON, in the order of the index: those of mturk/mnist_mturk.json
    # of cleanlab/label-errors (commit 5457895) for which fewer than three raters saw the label.
    content = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert content == "6a5c331862d1d83c2bd5370d9f94a006db305f22ae6fe7cd3c39057acb788ec5"
    for error in LABEL_ERRORS:
        assert error.votes_given + error.votes_proposed + error.votes_neither == RATERS
        assert error.votes_given < MAJORITY
        assert error.given != error.proposed
    assert len(AGREED) == 10


def test_the_list_fits_mnist() -> None:
    path = ROOT / "results" / "data" / "t10k-labels-idx1-ubyte"
    if not path.is_file():
        pytest.skip("MNIST is not in results/data; snakemake results/data/source.json obtains it")
    check_labels(read_idx(path))


def test_other_labels_are_refused(digits: Mnist) -> None:
    check_labels(digits.test_labels)
    with pytest.raises(VitrailError, match="test image 947 should have the label 8"):
        check_labels(np.roll(digits.test_labels, 1))
    with pytest.raises(VitrailError, match="should have the label"):
        check_labels(digits.test_labels[:9000])


def test_corrected_labels(digits: Mnist) -> None:
    labels, kept = corrected(digits.test_labels)
    changed = np.flatnonzero(labels != digits.test_labels)
    assert changed.tolist() == [error.index for error in AGREED]
    assert labels[6651] == 6
    assert np.flatnonzero(~kept).tolist() == [2130, 2654, 3520, 8527, 9679]


def test_marks_and_votes() -> None:
    by_index = {error.index: error for error in LABEL_ERRORS}
    assert mark(None, 3) == ""
    assert mark(by_index[947], 9) == AS_RATERS
    assert mark(by_index[947], 3) == KNOWN
    assert mark(by_index[2130], 9) == KNOWN  # the raters do not agree
    assert votes(by_index[947]) == "99999"
    assert votes(by_index[2654]) == "???11"


# --- Scores


@pytest.mark.parametrize("count", [9904, 9950, 9965, 10_000])
def test_interval_is_wilsons(count: int) -> None:
    """The closed form of Wilson (1927)."""
    p, z = count / IMAGES, 1.959964
    centre = (p + z * z / (2 * IMAGES)) / (1 + z * z / IMAGES)
    reach = z * math.sqrt(p * (1 - p) / IMAGES + (z / (2 * IMAGES)) ** 2) / (1 + z * z / IMAGES)
    found = share(count, IMAGES)
    assert found.low == pytest.approx(centre - reach, abs=1e-7)
    assert found.high == pytest.approx(centre + reach, abs=1e-7)
    assert found.half_width == pytest.approx(reach, abs=1e-7)


def test_interval_for_print() -> None:
    assert share(9950, IMAGES).words == "99.34 to 99.62 %"
    assert share(9919, IMAGES).words == "98.99 to 99.35 %"
    assert share(9919, IMAGES).rest_words == "65 to 101"
    assert share(IMAGES, IMAGES).rest_words == "0 to 4"


def test_doubt_of_a_very_sure_network() -> None:
    """One minus a rounded probability would be zero here."""
    logits = np.zeros((1, 10), dtype=np.float32)
    logits[0, 3] = 40
    seen = Predictions.from_logits(logits, np.array([3], dtype=np.uint8))
    assert seen.doubt[0] == pytest.approx(9 * math.exp(-40), rel=1e-6, abs=0)
    assert seen.losses[0] == pytest.approx(0, abs=1e-12)


def test_errors_and_confusions_by_hand() -> None:
    chances = np.zeros((4, 10))
    for image, (answer, sure) in enumerate([(1, 0.6), (2, 0.8), (5, 0.7), (5, 0.9)]):
        chances[image] = (1 - sure) / 9
        chances[image, answer] = sure
    seen = Predictions(np.array([1, 7, 5, 3], dtype=np.uint8), chances)
    assert seen.wrong.tolist() == [3, 1]  # the surest first
    table = seen.confusion()
    assert table.sum() == 4
    assert (table[1, 1], table[7, 2], table[5, 5], table[3, 5]) == (1, 1, 1, 1)
    assert seen.losses[1] == pytest.approx(-math.log(0.2 / 9))


@given(st.integers(1, 70_000))
def test_bins_double_and_cover_all_images(images: int) -> None:
    sizes = np.diff([*bin_starts(images), images])
    assert sizes.sum() == images
    assert (sizes > 0).all()
    if len(sizes) > 2:
        assert (sizes[2:-1] == 2 * sizes[1:-2]).all()
        assert sizes[-1] >= sizes[-2] / 2


def drawn_from(stated: np.ndarray, true: np.ndarray) -> Predictions:
    """Images whose answer 0 has doubt `stated` and is wrong with probability `true`."""
    rng = np.random.default_rng(1)
    chances = np.zeros((len(stated), 10))
    chances[:, 0], chances[:, 1] = 1 - stated, stated
    return Predictions((rng.random(len(true)) < true).astype(np.uint8), chances)


def test_calibration_tells_a_true_network_from_others() -> None:
    doubt = np.random.default_rng(0).uniform(0, 0.3, 4000) ** 2
    true, bold, shy = (
        calibrate(drawn_from(stated, doubt)) for stated in (doubt, doubt / 3, doubt * 3)
    )
    assert true.ece <= true.ece_limit
    errors = true.bins["errors"].sum()
    assert true.errors_low <= errors <= true.errors_high
    assert true.expected_errors == pytest.approx(doubt.sum())
    assert true.bins["images"].sum() == 4000
    assert bold.ece > bold.ece_limit
    assert errors > bold.errors_high
    assert shy.ece > shy.ece_limit
    assert errors < shy.errors_low


def test_calibration_error_of_one_bin_by_hand() -> None:
    """Ten images with doubt 0.1, three of them wrong: |0.3 - 0.1|."""
    chances = np.zeros((10, 10))
    chances[:, 0], chances[:, 1] = 0.9, 0.1
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=np.uint8)
    found = calibrate(Predictions(labels, chances))
    assert found.ece == pytest.approx(0.2)
    assert found.expected_errors == pytest.approx(1)
