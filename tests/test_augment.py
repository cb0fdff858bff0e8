"""Random affine maps: torchvision's, one per image, repeatable, and off when asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine as torchvision_affine

from vitrail.augment import affine, augmented
from vitrail.data import Mnist
from vitrail.train import moved, pixels

FILL = -0.4


def digits(mnist: Mnist, count: int = 32) -> Tensor:
    return torch.from_numpy(mnist.train_images[:count]).float()[:, None] / 255 + FILL


def amounts(count: int, seed: int) -> Tensor:
    """What `affine` draws: angle, size, right, down, each in -1..1, for every image."""
    return 2 * torch.rand(4, count, generator=torch.Generator().manual_seed(seed)) - 1


def map_all(images: Tensor, *sizes: float, seed: int = 0) -> Tensor:
    return affine(images, *sizes, fill=FILL, generator=torch.Generator().manual_seed(seed))


def test_it_is_torchvisions_map(mnist: Mnist) -> None:
    """Angle, size and shift of each image mean what they mean there."""
    images = digits(mnist, 8)
    made = map_all(images, 30.0, 0.0, 0.2)
    angle, size, *_ = amounts(8, 0)
    for index, image in enumerate(images):
        expected = torchvision_affine(
            image - FILL,
            angle=-float(30 * angle[index]),
            translate=[0, 0],
            scale=float(1 + 0.2 * size[index]),
            shear=[0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(made[index], expected + FILL, atol=1e-4, rtol=0)


def test_whole_shifts_move_pixels(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pixels to the right and one down are that, and the fill comes in behind."""
    drawn = torch.tensor([[0.5], [0.5], [0.0], [0.25]])  # 2 * rand - 1: 0, 0, -1, -0.5
    monkeypatch.setattr(torch, "rand", lambda *_, **__: drawn)
    image = digits(mnist, 1)
    made = map_all(image, 0.0, 2.0, 0.0)
    torch.testing.assert_close(made[..., 1:, 2:], image[..., :-1, :-2], atol=1e-5, rtol=0)
    assert torch.allclose(made[..., :, :2], torch.tensor(FILL))
    assert torch.allclose(made[..., :1, :], torch.tensor(FILL))


def test_every_image_has_its_own_map_and_every_seed_its_own(mnist: Mnist) -> None:
    image = digits(mnist, 1).expand(4, -1, -1, -1)
    made = map_all(image, 15.0, 2.0, 0.1)
    assert not any(torch.equal(made[0], other) for other in made[1:])
    assert torch.equal(made, map_all(image, 15.0, 2.0, 0.1))
    assert not torch.equal(made, map_all(image, 15.0, 2.0, 0.1, seed=1))


def test_no_amount_is_no_change(mnist: Mnist) -> None:
    images = digits(mnist)
    torch.testing.assert_close(map_all(images, 0.0, 0.0, 0.0), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["rotation", "translation", "scaling"])
def test_each_amount_moves_images(config: dict[str, Any], mnist: Mnist, name: str) -> None:
    still = config["defaults"]
    assert not augmented(still)
    moving = {**still, name: 0.5}
    assert augmented(moving)
    images = pixels(mnist.train_images[:4], still, torch.device("cpu"))
    assert moved(images, still, torch.Generator()) is images
    made = moved(images, moving, torch.Generator().manual_seed(0))
    assert made.shape == images.shape
    assert (made - images).abs().max() > 0.01


def test_outside_the_image_is_black(config: dict[str, Any], mnist: Mnist) -> None:
    settings = {**config["defaults"], "translation": 28.0}
    images = pixels(mnist.train_images[:64], settings, torch.device("cpu"))
    made = moved(images, settings, torch.Generator().manual_seed(0))
    black = -settings["pixel_mean"] / settings["pixel_std"]
    torch.testing.assert_close(made.min(), torch.tensor(black), atol=1e-5, rtol=0)
    corner = made[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corner - black).abs().min(dim=1).values.max() < 1e-5  # a corner is always outside
