"""Images of pen strokes: a class is a few random curves, an image is one way to draw them.

Contours alone suffice for pretraining (Kataoka et al. 2022); these are curves with the line
width, size and place of MNIST's digits. Lengths are in pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitrail.settings import IMAGE_SIZE

COUNTS = (0.4, 0.4, 0.2)  # shares of the classes with one, two and three strokes
KNOTS = 5  # control points of a stroke, a Bezier curve of degree 4
POINTS = 32  # at which a stroke is drawn
BOX = 19.0  # the longer side of a class's curves, about that of MNIST's digits

# How an image differs from its class: standard deviations, chosen in docs/pretraining.md.
JITTER = 1.5  # of every control point
ROTATION = math.radians(12)
SHEAR = 0.25  # of the slant
SCALING = 0.15  # of the logarithm of either side's scale
TRANSLATION = 1.0  # of the centre of mass
WIDTH = (0.5, 1.0)  # smallest and largest standard deviation of the pen's profile


class Strokes:
    """Classes of drawn signs: the curves of a class are fixed by the seed.

    In an image of it the control points are jittered, the whole is turned, sheared, scaled
    and shifted, and the pen has a width of its own.

    Args:
        classes: how many.
        seed: of the classes' curves.
    """

    def __init__(self, classes: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.basis = bernstein(KNOTS, POINTS)
        self.knots, self.drawn = _classes(classes, generator, self.basis)

    def images(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One image of each label's class: (B,) -> (B, 1, 28, 28) in [0, 1]."""
        knots = self.knots[labels]  # (B, strokes, knots, 2)
        knots = knots + JITTER * torch.randn(knots.shape, generator=generator)
        maps = _maps(torch.randn(4, len(labels), generator=generator))
        points = torch.einsum("pk,bskc->bspc", self.basis, knots) @ maps[:, None]
        # A line has as much ink as it is long, wherever its points lie dense or sparse.
        ink = points.diff(dim=2).norm(dim=3) * self.drawn[labels][:, :, None]
        ink, points = ink.flatten(1), (points[:, :, 1:] + points[:, :, :-1]).flatten(1, 2) / 2
        centre = (ink[:, :, None] * points).sum(1) / ink.sum(1, keepdim=True)
        shift = TRANSLATION * torch.randn(len(labels), 2, generator=generator)
        low, high = WIDTH
        width = low + (high - low) * torch.rand(len(labels), generator=generator)
        return draw(points + (shift - centre)[:, None], ink, width)


def bernstein(knots: int, points: int) -> Tensor:
    """Weights of the control points along a Bezier curve, (points, knots)."""
    t = torch.linspace(0, 1, points)[:, None]
    k = torch.arange(knots)
    binomial = torch.tensor([math.comb(knots - 1, i) for i in range(knots)])
    return binomial * t**k * (1 - t) ** (knots - 1 - k)


def draw(points: Tensor, ink: Tensor, width: Tensor) -> Tensor:
    """Splats of a pen: points (B, P, 2) as (x, y) about the centre -> (B, 1, 28, 28).

    Every point leaves a Gaussian, `width` (B,) wide, with its share of `ink` (B, P), and the
    sum is saturated. A Gaussian is a product over its two axes, which makes the picture one
    product of matrices, (28, P) times (P, 28).
    """
    # region: draw_strokes
    pixel = torch.arange(IMAGE_SIZE) - (IMAGE_SIZE - 1) / 2
    apart = (points[:, None] - pixel[:, None, None]) / width[:, None, None, None]
    across, down = torch.exp(-0.5 * apart.square()).unbind(3)  # (B, 28, P) each
    dark = torch.bmm(down * (ink / width[:, None])[:, None], across.transpose(1, 2))
    # The middle of a line would have sqrt(2 pi), of any width: so it is twice saturated.
    return (0.8 * dark).clamp_(max=1).unsqueeze_(1)
    # endregion: draw_strokes


def _classes(classes: int, generator: torch.Generator, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Control points about the centre, (classes, strokes, knots, 2), and which strokes there are.

    The curves of a class fill the box along their longer side.
    """
    most = len(COUNTS)
    knots = 2 * torch.rand(classes, most, KNOTS, 2, generator=generator) - 1
    shares = torch.tensor(COUNTS)
    count = 1 + torch.multinomial(shares, classes, replacement=True, generator=generator)
    drawn = (torch.arange(most) < count[:, None]).float()  # (classes, strokes)
    curves = torch.einsum("pk,cskd->cspd", basis, knots)
    left_out = (drawn == 0)[:, :, None, None]
    low = curves.masked_fill(left_out, math.inf).amin(dim=(1, 2))
    high = curves.masked_fill(left_out, -math.inf).amax(dim=(1, 2))
    size = (high - low).amax(dim=1)[:, None, None, None]
    return (knots - ((high + low) / 2)[:, None, None]) * (BOX / size), drawn


def _maps(normal: Tensor) -> Tensor:
    """Random linear maps, from (4, B) normal numbers to (B, 2, 2), for points as rows."""
    angle, slant, wide, high = normal
    cosine, sine = (ROTATION * angle).cos(), (ROTATION * angle).sin()
    turn = torch.stack([cosine, sine, -sine, cosine], dim=1).view(-1, 2, 2)
    wide, high = (SCALING * wide).exp(), (SCALING * high).exp()
    stretch = torch.stack([wide, torch.zeros_like(wide), SHEAR * slant, high], dim=1)
    return stretch.view(-1, 2, 2) @ turn
