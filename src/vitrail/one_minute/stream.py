"""The batches of a training, in two halves: which images, and how each is moved."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vitrail.augment import affine
from vitrail.one_minute.recipes import Recipe

HALVES = 2
MOVES = 2**32  # added to the seed for the random maps, whose numbers are not those of the order
MEAN, STD = 0.1307, 0.3081  # of the pixels of MNIST's training images


def normalised(images: Tensor) -> Tensor:
    """uint8 (N, 28, 28) -> float32 (N, 1, 28, 28)."""
    return images.float().div_(255).sub_(MEAN).div_(STD).unsqueeze_(1)


def middle(images: Tensor, crop: int) -> Tensor:
    """The middle of images, (B, 1, 28, 28) -> (B, 1, crop, crop)."""
    border = (images.shape[-1] - crop) // 2
    return images[..., border : border + crop, border : border + crop].contiguous()


def chosen(samples: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Indices of each step, (batch_size,), without end: a new order in each epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(samples, generator=generator)
        yield from order[: samples // batch_size * batch_size].split(batch_size)


class Stream:
    """The batches, or those halves of each that a process is to work on.

    Each half has random numbers of its own: one process that works on both sees the images that
    two processes see, moved in the same way.

    Args:
        images: of training, normalised, (N, 1, 28, 28).
        labels: theirs, (N,).
        halves: which of 0 and 1.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, recipe: Recipe, seed: int, halves: range
    ) -> None:
        self.images, self.labels, self.recipe, self.halves = images, labels, recipe, halves
        self.order = chosen(len(images), recipe.batch_size, seed)
        self.moves = {
            half: torch.Generator().manual_seed(MOVES + HALVES * seed + half) for half in halves
        }

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Images (B, 1, crop, crop) and labels (B,) of this process's part of the next batch."""
        halves = next(self.order).chunk(HALVES)
        mine = torch.cat([halves[half] for half in self.halves])
        moved = [self._moved(self.images[halves[half]], half) for half in self.halves]
        return middle(torch.cat(moved), self.recipe.crop), self.labels[mine]

    def _moved(self, images: Tensor, half: int) -> Tensor:
        recipe = self.recipe
        if not (recipe.rotation or recipe.translation or recipe.scaling):
            return images
        return affine(
            images,
            recipe.rotation,
            recipe.translation,
            recipe.scaling,
            fill=-MEAN / STD,
            generator=self.moves[half],
        )
