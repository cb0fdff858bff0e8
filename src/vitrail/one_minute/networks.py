"""The two networks: the ViT of the study, and the CNN of a hundred tutorials."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn

from vitrail.errors import VitrailError
from vitrail.model import VisionTransformer
from vitrail.one_minute.recipes import Recipe
from vitrail.optimizers import make_optimizers
from vitrail.settings import NUM_CLASSES


class TutorialCnn(nn.Sequential):
    """Two 3x3 convolutions, each with ReLU and max-pooling, and two linear layers.

    (B, 1, 28, 28) -> (B, classes), with 32 and 64 maps and 128 hidden units: the usual first
    network on MNIST.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, kernel_size=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, kernel_size=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 5 * 5, 128),
            nn.ReLU(),
            nn.Linear(128, NUM_CLASSES),
        )
        self.to(memory_format=torch.channels_last)  # what CPU convolutions are fastest in

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.contiguous(memory_format=torch.channels_last))


def build(recipe: Recipe, seed: int) -> nn.Module:
    """The network of a recipe at its start, which depends on the seed alone."""
    torch.manual_seed(seed)
    return VisionTransformer(**recipe.network) if recipe.network else TutorialCnn()


def check(recipe: Recipe) -> None:
    """Make sure that the network of a recipe can be built, reads its images and can be trained.

    Raises:
        VitrailError: it cannot; in the words of the part that refuses.
    """
    try:
        network = build(recipe, 0)
        logits = network(torch.zeros(2, 1, recipe.crop, recipe.crop))
        make_optimizers(network, asdict(recipe))
    except (ValueError, TypeError, RuntimeError, ArithmeticError, AssertionError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VitrailError(
            f"--set: {recipe.label} cannot be trained with these settings ({said}); change them"
        ) from error
    if logits.shape != (2, NUM_CLASSES):
        raise VitrailError(
            f"--set: {recipe.label} gives {tuple(logits.shape[1:])} numbers for an image with "
            f"these settings, and a digit needs {NUM_CLASSES}; leave num_classes as it is"
        )
