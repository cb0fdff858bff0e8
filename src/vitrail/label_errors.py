"""The known label errors of MNIST's test set, as facts that a run can be held against.

Northcutt, Athalye and Mueller (2021, arXiv:2103.14749) let confident learning propose test
images whose label may be wrong, and five people looked at each of them. They count a label
error where fewer than three of the five found the given label in the image: 15 of the 100
MNIST images that were looked at. Images that were never proposed may be mislabelled too.

Source: https://github.com/cleanlab/label-errors, file ``mturk/mnist_mturk.json`` as of commit
5457895eee26e49187de5c4d6617b9de6f172221 (2021-06-07; the repository is under Apache-2.0).
Taken over are the index, the two digits in question and the votes, for these 15 images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import VitrailError

RATED = 100  # images of MNIST's test set that were shown to people
RATERS = 5
MAJORITY = 3


@dataclass(frozen=True)
class LabelError:
    """One test image whose given label most raters did not find in it.

    Attributes:
        index: position in the test set, from 0.
        given: the label of the file.
        proposed: the digit that the raters were asked about beside the given one.
        votes_given: raters who saw the given digit.
        votes_proposed: raters who saw the proposed digit.
        votes_neither: raters who saw neither of the two.
    """

    index: int
    given: int
    proposed: int
    votes_given: int
    votes_proposed: int
    votes_neither: int

    @property
    def agreed(self) -> int | None:
        """The digit that most raters saw instead; None when no digit has a majority."""
        return self.proposed if self.votes_proposed >= MAJORITY else None


LABEL_ERRORS = (
    LabelError(947, 8, 9, 0, 5, 0),
    LabelError(1621, 0, 6, 2, 3, 0),
    LabelError(1901, 9, 4, 2, 3, 0),
    LabelError(2130, 4, 9, 2, 2, 1),
    LabelError(2462, 2, 0, 0, 4, 1),
    LabelError(2597, 5, 3, 0, 4, 1),
    LabelError(2654, 6, 1, 0, 2, 3),
    LabelError(3520, 6, 4, 2, 0, 3),
    LabelError(3558, 5, 0, 1, 4, 0),
    LabelError(5937, 5, 3, 1, 3, 1),
    LabelError(6651, 0, 6, 0, 5, 0),
    LabelError(6783, 1, 6, 2, 3, 0),
    LabelError(8527, 4, 9, 2, 2, 1),
    LabelError(9679, 6, 3, 2, 0, 3),
    LabelError(9729, 5, 6, 2, 3, 0),
)


def check_labels(labels: NDArray[np.integer]) -> None:
    """Make sure that the list speaks of these test labels, (images,).

    Raises:
        VitrailError: an image of the list is not there or has another label.
    """
    for error in LABEL_ERRORS:
        if error.index >= len(labels) or labels[error.index] != error.given:
            raise VitrailError(
                f"test image {error.index} should have the label {error.given}, as in the list of "
                "known label errors; these are not the labels of MNIST's test set, in its order"
            )


def corrected(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Labels with the raters' digit where they agree on one, and which images to keep.

    Images on whose digit the raters do not agree have no known label and are not kept.

    Args:
        labels: of the test set, (images,).

    Returns:
        The corrected labels, (images,), and a mask of the images that have one, (images,).
    """
    check_labels(labels)
    mended, kept = labels.copy(), np.ones(len(labels), dtype=bool)
    for error in LABEL_ERRORS:
        if error.agreed is None:
            kept[error.index] = False
        else:
            mended[error.index] = error.agreed
    return mended, kept
