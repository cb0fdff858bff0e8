"""Labelled images made by formula, on the fly: what a network can be pretrained on without data.

Nothing is stored and nothing is read. The classes depend on a seed alone, the images on the
generator that is handed in: on one machine and one build of torch the same seeds give the
same bits.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vitrail.formula.fractals import Fractals
from vitrail.formula.strokes import Strokes


class Formula(Protocol):
    """Some classes of images."""

    def images(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One image of each label's class: (B,) -> (B, 1, 28, 28) in [0, 1], on the CPU."""
        ...


FORMULAS: dict[str, type[Strokes] | type[Fractals]] = {"strokes": Strokes, "fractals": Fractals}


def images_of(
    kind: str, labels: Tensor, generator: torch.Generator, *, classes: int, class_seed: int = 0
) -> Tensor:
    """Images of a kind, "strokes" or "fractals": labels (B,) below `classes` -> (B, 1, 28, 28).

    Makes the classes each time; whoever wants many batches keeps `FORMULAS[kind](...)`.
    """
    return FORMULAS[kind](classes, class_seed).images(labels, generator)


__all__ = ["FORMULAS", "Formula", "Fractals", "Strokes", "images_of"]
