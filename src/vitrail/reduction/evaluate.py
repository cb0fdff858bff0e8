"""Accuracy, MACs and speed of one network under several ways to reduce its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vitrail.model import VisionTransformer
from vitrail.reduction.cost import cost_of
from vitrail.reduction.network import reduced
from vitrail.reduction.ways import Way

BATCH = 100
ROUNDS = 5  # of the clock


@dataclass
class Scored:
    """A network under one way.

    Attributes:
        right: which images it gets right, (N,) bool.
        macs: mean MACs of an image.
        left: mean number of tokens after each block, (blocks,).
    """

    right: np.ndarray
    macs: float
    left: np.ndarray


def score(vit: VisionTransformer, way: Way | None, images: Tensor, labels: Tensor) -> Scored:
    """Classify images (N, C, height, width) and count what that takes."""
    cost, matches = cost_of(vit), way is not None and way.matches
    right, macs, left = [], [], []
    for part, wanted in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        passed = reduced(vit, part, way)
        right.append(passed.logits.argmax(dim=1) == wanted)
        # float64, which Apple's GPUs do not have
        seen, kept = passed.attended.cpu().double(), passed.left.cpu().double()
        macs.append(cost.macs(seen, kept, matches=matches))
        left.append(kept)
    return Scored(
        torch.cat(right).cpu().numpy(),
        torch.cat(macs).mean().item(),
        torch.cat(left, dim=1).mean(dim=1).numpy(),
    )


@torch.no_grad()
def speeds(
    vit: VisionTransformer, ways: Sequence[Way | None], images: Tensor, batch: int
) -> list[float]:
    """Images per second of each way, the median of rounds in which all take turns.

    None is the network itself, without what following its tokens adds. With a way, tokens are
    really dropped; in a batch, images that keep fewer than the longest are padded to it.
    """
    from vitrail.meters import seconds_per_call

    parts = images.split(batch)

    def classify(way: Way | None, chosen: Sequence[Tensor]) -> None:
        for part in chosen:
            if way is None:
                vit(part)
            else:
                reduced(vit, part, way)

    taken: list[list[float]] = [[] for _ in ways]
    for way in ways:
        classify(way, parts[:1])  # warm-up
    for _ in range(ROUNDS):
        for seconds, way in zip(taken, ways, strict=True):
            call = partial(classify, way, parts)
            seconds.append(seconds_per_call(call, 1, images.device))
    return [len(images) / float(np.median(seconds)) for seconds in taken]
