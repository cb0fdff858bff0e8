"""Images of pen strokes: a class is a few random curves, an image is one way to draw them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitrail.settings import IMAGE_SIZE

STROKES = 3  # at most; a class has one, two or three
KNOTS = 5  # control points of a stroke, a Bezier curve of degree 4
POINTS = 32  # at which a stroke is drawn
BOX = 19.0  # pixels: the longer side of a class's curves, as MNIST's digits have it


class Strokes:
    """Classes of drawn signs.

    The curves of a class are fixed by the seed. In an image of it the control points are
    jittered, the whole is turned, sheared, scaled and shifted, and the pen has a width of
    its own.

    Args:
        classes: how many.
        seed: of the classes' curves.
        jitter: standard deviation of the control points, in pixels.
        rotation: standard deviation of the angle, in degrees.
        shear: of the slant, as a share of the height.
        scaling: of the logarithm of each side's scale.
        translation: of the shift along each axis, in pixels.
        width: smallest and largest standard deviation of the pen's profile, in pixels.
    """

    def __init__(
        self,
        classes: int,
        seed: int,
        jitter: float = 1.0,
        rotation: float = 8.0,
        shear: float = 0.15,
        scaling: float = 0.1,
        translation: float = 0.7,
        width: tuple[float, float] = (0.5, 1.0),
        strokes: tuple[float, float, float] = (0.4, 0.4, 0.2),
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.jitter, self.rotation, self.shear = jitter, math.radians(rotation), shear
        self.scaling, self.translation, self.width = scaling, translation, width
        self.basis = bernstein(KNOTS, POINTS)
        self.knots, self.drawn = _classes(classes, generator, self.basis, strokes)

    def images(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One image of each label's class: (B,) -> (B, 1, 28, 28) in [0, 1]."""
        batch = len(labels)
        knots = self.knots[labels]  # (B, strokes, knots, 2)
        knots = knots + self.jitter * torch.randn(knots.shape, generator=generator)
        points = torch.einsum("pk,bskc->bspc", self.basis, knots)
        angle, slant, right, down, wide, high = torch.randn(6, batch, generator=generator)
        points = points @ self._maps(angle, slant, wide, high)[:, None]
        steps = points.diff(dim=2)
        ink = steps.norm(dim=3) * self.drawn[labels][:, :, None]  # (B, strokes, points - 1)
        middle = (points[:, :, 1:] + points[:, :, :-1]) / 2
        ink, middle = ink.flatten(1), middle.flatten(1, 2)
        centre = (ink[:, :, None] * middle).sum(1) / ink.sum(1, keepdim=True)
        shift = self.translation * torch.stack([right, down], dim=1)
        middle = middle - (centre - shift)[:, None]
        low, top = self.width
        width = low + (top - low) * torch.rand(batch, generator=generator)
        return draw(middle, ink, width)

    def _maps(self, angle: Tensor, slant: Tensor, wide: Tensor, high: Tensor) -> Tensor:
        """Linear maps of the points, (B, 2, 2), to be multiplied from the right."""
        cosine, sine = (self.rotation * angle).cos(), (self.rotation * angle).sin()
        wide, high = (self.scaling * wide).exp(), (self.scaling * high).exp()
        slant = self.shear * slant
        turn = torch.stack([cosine, sine, -sine, cosine], dim=1).view(-1, 2, 2)
        stretch = torch.stack([wide, torch.zeros_like(wide), slant, high], dim=1).view(-1, 2, 2)
        return stretch @ turn


def bernstein(knots: int, points: int) -> Tensor:
    """Weights of the control points along a Bezier curve, (points, knots)."""
    t = torch.linspace(0, 1, points)[:, None]
    k = torch.arange(knots)
    binomial = torch.tensor([math.comb(knots - 1, i) for i in range(knots)])
    return binomial * t**k * (1 - t) ** (knots - 1 - k)


def _classes(
    classes: int, generator: torch.Generator, basis: Tensor, strokes: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Control points in pixels about the centre, and which strokes there are."""
    knots = 2 * torch.rand(classes, STROKES, KNOTS, 2, generator=generator) - 1
    share = torch.tensor(strokes)
    count = 1 + torch.multinomial(share, classes, replacement=True, generator=generator)
    drawn = (torch.arange(STROKES) < count[:, None]).float()  # (classes, strokes)
    curves = torch.einsum("pk,cskd->cspd", basis, knots)
    hidden = (drawn == 0)[:, :, None, None]
    low = curves.masked_fill(hidden, math.inf).amin(dim=(1, 2))
    high = curves.masked_fill(hidden, -math.inf).amax(dim=(1, 2))
    size = (high - low).amax(dim=1)[:, None, None, None]
    middle = ((high + low) / 2)[:, None, None]
    return (knots - middle) * (BOX / size), drawn


def draw(points: Tensor, ink: Tensor, width: Tensor) -> Tensor:
    """Splats of a pen: points (B, P, 2) as (x, y) about the centre -> (B, 1, 28, 28).

    Every point leaves a Gaussian with its share of ink, so that a line has the same
    blackness wherever its points lie dense or sparse, and the sum is saturated. A
    Gaussian is a product of its two axes, which makes the picture one product of matrices.
    """
    pixel = torch.arange(IMAGE_SIZE) - (IMAGE_SIZE - 1) / 2
    apart = (points[:, None] - pixel[:, None, None]) / width[:, None, None, None]
    profile = torch.exp(-0.5 * apart.square())  # (B, 28, P, 2)
    across, down = profile.unbind(3)
    # Without saturation the middle of a line would have sqrt(2 pi) times `width` of ink.
    dark = torch.bmm(down * (ink / width[:, None])[:, None], across.transpose(1, 2))
    return (0.8 * dark).clamp_(max=1).unsqueeze_(1)
