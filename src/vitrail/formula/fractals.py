"""Images of fractals: a class is a set of affine maps, an image the set that they draw.

After FractalDB (Kataoka et al. 2020, 2021) with the sampling of Anderson and Farrell
(2022) and the small perturbations within a class of Nakamura et al. (2024).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.settings import IMAGE_SIZE

MAPS = 4  # at most; a class has two, three or four
CHAINS, STEPS, FORGOTTEN = 64, 30, 10  # of the chaos game: 64 x (30 - 10) points
BOX = 22.0  # pixels: the longer side of a fractal


class Fractals:
    """Classes of iterated function systems.

    Args:
        classes: how many.
        seed: of the classes' maps.
        perturbation: largest change of every entry of an image's maps, either way.
        translation: standard deviation of the shift along each axis, in pixels.
    """

    def __init__(
        self, classes: int, seed: int, perturbation: float = 0.1, translation: float = 0.7
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.perturbation, self.translation = perturbation, translation
        self.maps, self.chances = _classes(classes, generator)

    def images(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One image of each label's class: (B,) -> (B, 1, 28, 28) in [0, 1]."""
        maps = self.maps[labels]
        change = 2 * torch.rand(maps.shape, generator=generator) - 1
        shift = self.translation * torch.randn(len(labels), 1, 2, generator=generator)
        points = chaos_game(maps + self.perturbation * change, self.chances[labels], generator)
        low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
        size = (high - low).amax(dim=2, keepdim=True).clamp_(min=1e-6)
        return histogram((points - (low + high) / 2) * (BOX / size) + shift)


def _classes(classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Maps (classes, MAPS, 2, 3) and how often each is taken, (classes, MAPS).

    The singular values of a class's N maps sum, the smaller ones counted twice, to
    between (5 + N) / 2 and (6 + N) / 2: Anderson and Farrell (2022) found systems
    outside that range to be dust or blots. A map is taken as often as its area says.
    """
    count = torch.randint(2, MAPS + 1, (classes, 1), generator=generator)
    used = torch.arange(MAPS) < count
    target = (5 + count + torch.rand(classes, 1, generator=generator)) / 2
    values = torch.rand(classes, MAPS, 2, generator=generator).sort(dim=2, descending=True).values
    # Moved towards 1 or towards 0 by a common share, all stay in [0, 1].
    total = ((values[..., 0] + 2 * values[..., 1]) * used).sum(dim=1, keepdim=True)
    up = (target - total) / (3 * count - total)
    values = torch.where(
        (target > total)[..., None], values + (1 - values) * up[..., None],
        values * (target / total)[..., None],
    )  # fmt: skip
    values = values.clamp(max=0.95)  # a map that does not contract leads nowhere
    first, second = (
        _turns(2 * math.pi * torch.rand(classes, MAPS, generator=generator)) for _ in range(2)
    )
    signs = 2.0 * torch.randint(2, (classes, MAPS, 2), generator=generator) - 1
    linear = first @ torch.diag_embed(values * signs) @ second
    offset = 2 * torch.rand(classes, MAPS, 2, 1, generator=generator) - 1
    area = values.prod(dim=2).clamp(min=0.02) * used
    return torch.cat([linear, offset], dim=3), area / area.sum(dim=1, keepdim=True)


def _turns(angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine, -sine, sine, cosine], dim=-1).unflatten(-1, (2, 2))


def chaos_game(maps: Tensor, chances: Tensor, generator: torch.Generator) -> Tensor:
    """Points of the sets that maps (B, N, 2, 3) draw: (B, points, 2).

    Some chains start at the origin and go where a random map sends them; their first
    steps, not yet on the set, are forgotten.
    """
    batch = len(maps)
    lots = torch.rand(batch, STEPS * CHAINS, generator=generator)
    taken = torch.searchsorted(chances.cumsum(dim=1)[:, :-1].contiguous(), lots)
    each = maps.flatten(2).gather(1, taken[..., None].expand(-1, -1, 6))
    each = each.view(batch, STEPS, CHAINS, 6)
    point, points = torch.zeros(batch, CHAINS, 2), []
    for step in range(STEPS):
        a, b, right, c, d, down = each[:, step].unbind(dim=2)
        x, y = point.unbind(dim=2)
        # A perturbed map may grow; bounded, its image is a blot and no infinity.
        point = torch.stack([a * x + b * y + right, c * x + d * y + down], dim=2).clamp_(-50, 50)
        if step >= FORGOTTEN:
            points.append(point)
    return torch.cat(points, dim=1)


def histogram(points: Tensor) -> Tensor:
    """Points (B, P, 2) in pixels about the centre -> (B, 1, 28, 28), blurred and saturated."""
    batch, count = points.shape[:2]
    cell = (points + IMAGE_SIZE / 2).long().clamp_(0, IMAGE_SIZE - 1)
    index = cell[..., 1] * IMAGE_SIZE + cell[..., 0]
    index += IMAGE_SIZE**2 * torch.arange(batch)[:, None]
    counts = torch.bincount(index.flatten(), minlength=batch * IMAGE_SIZE**2).float()
    picture = counts.view(batch, 1, IMAGE_SIZE, IMAGE_SIZE)
    line = torch.tensor([0.25, 0.5, 0.25])
    blurred = F.conv2d(picture, torch.outer(line, line)[None, None], padding=1)
    return (blurred * (300 / count)).clamp_(max=1)
