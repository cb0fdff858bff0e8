"""Images made by formula: repeatable, in classes, quick, and never on disk."""

from __future__ import annotations

import builtins
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail.formula import FORMULAS, images_of
from vitrail.formula.fractals import chaos_game, histogram
from vitrail.formula.strokes import bernstein, draw

torch.set_num_threads(1)
KINDS = list(FORMULAS)
both = pytest.mark.parametrize("kind", KINDS)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(
    kind: str, labels: Tensor, seed: int = 1, classes: int = 20, class_seed: int = 0
) -> Tensor:
    return images_of(kind, labels, generator(seed), classes=classes, class_seed=class_seed)


@both
def test_same_seeds_same_bits(kind: str) -> None:
    """Whatever was drawn in between; another seed gives other images of the same class."""
    labels = torch.arange(20)
    first = made(kind, labels)
    torch.rand(17)
    assert torch.equal(first, made(kind, labels))
    assert not torch.equal(first, made(kind, labels, seed=2))
    assert not torch.equal(first, made(kind, labels, class_seed=1))


@both
def test_images_are_gray_and_fill_the_range(kind: str) -> None:
    images = made(kind, torch.arange(20).repeat(10))
    assert images.shape == (200, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert images.max() == 1
    # As much ink as digits have (0.13), within a factor; and none of them blank.
    assert 0.08 < images.mean() < 0.3
    assert images.mean(dim=(1, 2, 3)).min() > 0.01


@both
def test_images_of_a_class_are_alike(kind: str) -> None:
    """Closer to each other, pixel by pixel, than to those of other classes; no two the same."""
    labels = torch.arange(20).repeat_interleave(10)
    apart = torch.cdist(made(kind, labels).flatten(1), made(kind, labels, seed=2).flatten(1))
    same = labels[:, None] == labels
    assert apart[same].mean() < 0.9 * apart[~same].mean()
    assert apart.min() > 0


@both
def test_nearest_mean_tells_classes_apart_but_not_shuffled_labels(kind: str) -> None:
    """Of 20 classes, from 20 images each; chance is one in twenty."""
    labels = torch.arange(20).repeat(20)
    seen, new = made(kind, labels).flatten(1), made(kind, labels, seed=2).flatten(1)

    def right(taught: Tensor) -> float:
        means = torch.stack([seen[taught == label].mean(dim=0) for label in range(20)])
        return (torch.cdist(new, means).argmin(dim=1) == labels).float().mean().item()

    assert right(labels) > 0.5
    assert right(labels[torch.randperm(400, generator=generator(3))]) < 0.15


def test_strokes_are_centred_lines_as_wide_as_those_of_digits() -> None:
    """MNIST's digits are centred by mass; a line of theirs is two to four pixels wide."""
    images = made("strokes", torch.arange(20).repeat(20))[:, 0]
    pixel = torch.arange(28) - 13.5
    mass = images.sum(dim=(1, 2))
    across = (images.sum(dim=1) * pixel).sum(dim=1) / mass
    down = (images.sum(dim=2) * pixel).sum(dim=1) / mass
    for centre in (across, down):
        assert centre.mean().abs() < 0.3
        assert centre.abs().max() < 4
    straight = torch.stack([torch.linspace(-9, 9, 60), torch.zeros(60)], dim=1)[None]
    ink = torch.full((1, 60), 18 / 59)
    narrow, wide = (draw(straight, ink, torch.tensor([width]))[0, 0] for width in (0.5, 1.0))
    assert 1.5 < narrow[:, 14].sum() < wide[:, 14].sum() < 4.5


def test_curves_start_and_end_at_their_outer_control_points() -> None:
    basis = bernstein(5, 32)
    assert torch.allclose(basis.sum(dim=1), torch.ones(32))
    assert torch.equal(basis[0], torch.eye(5)[0])
    assert torch.equal(basis[-1], torch.eye(5)[-1])


def test_chaos_game_draws_the_sierpinski_triangle() -> None:
    """The attractor of three halvings: every point has y <= 1 - x and none is in the hole."""
    half = torch.tensor([[0.5, 0.0], [0.0, 0.5]])
    corners = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    maps = torch.cat([half.expand(3, 2, 2), corners[:, :, None]], dim=2)[None]
    points = chaos_game(maps, torch.full((1, 3), 1 / 3), generator(0))[0]
    x, y = points.unbind(1)
    assert points.min() >= 0
    assert (x + y).max() <= 1
    hole = (x < 0.499) & (y < 0.499) & (x + y > 0.501)
    assert not hole.any()
    assert x.max() > 0.9
    assert y.max() > 0.9


def test_a_point_falls_into_its_pixel() -> None:
    """Column by x, row by y, both from the left upper corner."""
    picture = histogram(torch.tensor([[[3.5, -6.5]]]))[0, 0]
    assert picture[7, 17] == 1
    assert (picture > 0).nonzero().float().mean(dim=0).tolist() == [7, 17]


@both
def test_nothing_is_written(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError(f"opened {arguments}")

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        patch.setattr(Path, "open", refuse)
        made(kind, torch.arange(20))
    assert not list(tmp_path.iterdir())


@both
def test_faster_than_a_small_vit_trains(kind: str) -> None:
    """Core-seconds of the best of five, so that a busy machine does not decide."""
    formula, draws = FORMULAS[kind](300, 0), generator(0)
    labels = torch.arange(256)
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        formula.images(labels, draws)
        seconds.append(time.process_time() - begun)
    assert 256 / min(seconds) > 2000
