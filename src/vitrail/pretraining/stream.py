"""The batches that a network is pretrained on, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail.formula import FORMULAS

# Added to a recipe's seed for what is drawn in each batch, and for the labels of the control:
# each has numbers of its own, so that the control sees the very same images.
IMAGES, LABELS = 2**32, 2 * 2**32
Batch = tuple[Tensor, Tensor]  # images (B, 1, 28, 28) in [0, 1], labels (B,)


def generators(recipe: dict[str, Any]) -> list[torch.Generator]:
    """Of what is drawn in each batch, and of the labels of the control."""
    return [torch.Generator().manual_seed(first + recipe["seed"]) for first in (IMAGES, LABELS)]


def batches(
    recipe: dict[str, Any], digits: np.ndarray | None, drawn_by: list[torch.Generator] | None = None
) -> Iterator[Batch]:
    """`steps` batches of a recipe, on the CPU; `digits` (N, 28, 28) uint8 for `images: digits`.

    A batch is drawn when it is asked for: whoever hands in the `generators` can go on from
    where they stood after any batch.

    With `shuffled_labels` each label is drawn anew, whatever the image shows: what such a
    pretraining gives comes from the images and the steps, and not from the task.
    """
    draws, others = drawn_by or generators(recipe)
    size = recipe["batch_size"]
    if recipe["images"] == "digits":
        assert digits is not None
        pool = torch.from_numpy(np.array(digits))
        for _ in range(recipe["steps"]):
            chosen = torch.randint(len(pool), (size,), generator=draws)
            yield pool[chosen].float().div_(255).unsqueeze_(1), torch.zeros(size).long()
        return
    formula = FORMULAS[recipe["images"]](recipe["classes"], recipe["seed"])
    for _ in range(recipe["steps"]):
        labels = torch.randint(recipe["classes"], (size,), generator=draws)
        images = formula.images(labels, draws)
        if recipe["shuffled_labels"]:
            labels = torch.randint(recipe["classes"], (size,), generator=others)
        yield images, labels
