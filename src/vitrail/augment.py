"""Random affine maps of training images, on tensors, one map per image.

torchvision's RandomAffine draws one map for a whole batch; called image by image it costs
more than the training step.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.device import sent
from vitrail.settings import AUGMENTATIONS, Settings


def augmented(settings: Settings) -> bool:
    """Whether an arm's training images are moved at all."""
    return any(settings[name] for name in AUGMENTATIONS)


def moved(images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """Training images (B, 1, 28, 28) after the random affine maps that the arm asks for."""
    if not augmented(settings):
        return images
    black = -settings["pixel_mean"] / settings["pixel_std"]
    return affine(
        images,
        settings["rotation"],
        settings["translation"],
        settings["scaling"],
        fill=black,
        generator=generator,
    )


def affine(
    images: Tensor,
    rotation: float,
    translation: float,
    scaling: float,
    fill: float,
    generator: torch.Generator,
) -> Tensor:
    """Rotate, scale and shift each image by its own random amounts: (B, C, H, W) -> the same.

    Args:
        rotation: largest angle in degrees, either way.
        translation: largest shift in pixels along each axis, either way; drawn as where the
            pixels come from, so a positive amount moves the digit to the left or up.
        scaling: largest change of size as a fraction, either way.
        fill: value of the pixels that come from outside the image.
        generator: of the random amounts, on the CPU.
    """
    batch, _, height, width = images.shape
    # Drawn on the CPU, so that a seed means the same maps on every device.
    angle, size, right, down = 2 * torch.rand(4, batch, generator=generator) - 1
    angle = angle * math.radians(rotation)
    size = 1 + scaling * size
    # Rows of the inverse map: from a pixel of the result to where it comes from.
    cosine, sine = angle.cos() / size, angle.sin() / size
    inverse = torch.stack(
        [
            torch.stack([cosine, -sine, 2 * translation * right / width], dim=1),
            torch.stack([sine, cosine, 2 * translation * down / height], dim=1),
        ],
        dim=1,
    )
    inverse = sent(inverse, images.device).to(images.dtype)
    grid = F.affine_grid(inverse, list(images.shape), align_corners=False)
    # Outside the image grid_sample knows zero only, so the fill is made zero meanwhile.
    moved = F.grid_sample(images - fill, grid, mode="bilinear", align_corners=False)
    return moved + fill
