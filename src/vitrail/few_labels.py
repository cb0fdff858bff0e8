"""Few labels: which images keep theirs, and which of those early stopping holds out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitrail.data import Bytes, Split
from vitrail.errors import VitrailError
from vitrail.settings import HELD_OUT, NUM_CLASSES

Places = NDArray[np.int64]


def labelled(labels: Bytes, budget: int, seed: int) -> Places:
    """Places of `budget` labels, the same number of each class, in ascending order.

    Every class has a random order that depends on the seed alone, of which the first are
    taken: a smaller budget of the same seed is a part of a larger one. A budget of all labels
    is all of them, as many of each class as there are.

    Raises:
        VitrailError: a class has not so many images.
    """
    if budget == len(labels):
        return np.arange(budget)
    share = budget // NUM_CLASSES
    found = []
    for digit in range(NUM_CLASSES):
        places = np.flatnonzero(labels == digit)
        if len(places) < share:
            raise VitrailError(
                f"label_budget {budget} asks for {share} images of each class, but there are "
                f"{len(places)} of the digit {digit} among the {len(labels)} of train_size; "
                "lower label_budget or raise train_size"
            )
        found.append(np.random.default_rng([seed, digit]).permutation(places)[:share])
    return np.sort(np.concatenate(found))


def with_labels(data: Split, budget: int, seed: int) -> Split:
    """The split with only the labelled images to train on; all of them for a budget of 0."""
    if not budget:
        return data
    return _part(data, labelled(data.train_labels, budget, seed))


def hold_out(data: Split, seed: int) -> tuple[Split, Split]:
    """Take one in `HELD_OUT` of the labelled images of each class, at random, out of training.

    Returns:
        The split without them and the split with them alone. The study's validation images
        are no part of this: labels are what is scarce.
    """
    labels, out = data.train_labels, np.zeros(len(data.train_labels), dtype=bool)
    for digit in np.unique(labels):
        mine = np.flatnonzero(labels == digit)
        order = np.random.default_rng([seed, int(digit), 1]).permutation(mine)
        out[order[: len(mine) // HELD_OUT]] = True
    return _part(data, ~out), _part(data, out)


def _part(data: Split, chosen: NDArray[np.bool_] | Places) -> Split:
    """The split with these of its training images alone."""
    return replace(
        data, train_images=data.train_images[chosen], train_labels=data.train_labels[chosen]
    )
