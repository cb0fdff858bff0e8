"""What the learned patch embedding looks for, beside the principal components of the patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import Estimate, counted, estimate
from vitrail.claims import Claim, holds
from vitrail.questions.study import Study
from vitrail.questions.tiles import tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 5000  # first training images whose patches are analysed
COMPARED = 8  # strongest directions


def learned_directions(network: Any) -> tuple[np.ndarray, np.ndarray]:
    """Directions in pixel space, (K, P*P), to which the projection responds most, with shares.

    Left singular vectors of E, (P*P, D), strongest first. A share is the squared singular value
    as a part of their sum, which is the squared length of E.
    """
    matrix = network.patch_embed.proj.weight.detach().numpy().T  # E: x_p E, (P*P, D)
    directions, strength, _ = np.linalg.svd(matrix, full_matrices=False)
    return directions.T, strength**2 / np.sum(strength**2)


def principal_components(images: np.ndarray, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the patches, (P*P, P*P), and their shares of the variance.

    Args:
        images: (N, H, H), cut into patches of `patch` pixels.
    """
    values = tiles(images, patch).reshape(-1, patch * patch)
    variance, vectors = np.linalg.eigh(np.cov(values, rowvar=False))
    variance, vectors = variance[::-1].clip(min=0), vectors[:, ::-1]
    return vectors.T, variance / variance.sum()


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """How much of one subspace lies in another: 0 to 1, for orthonormal rows (k, d) each.

    The mean squared cosine of the principal angles; k / d for a random subspace.
    """
    return float(np.sum((first @ second.T) ** 2) / len(first))


def excess(study: Study, components: np.ndarray) -> tuple[Estimate, Estimate, int]:
    """Overlap over the seeds of the base ViT, the same minus chance, and the k compared."""
    found, over = [], []
    k = 1
    for seed in study.plan.seeds:
        directions, _ = learned_directions(study.network(study.plan.base, seed))
        k = min(COMPARED, len(directions), len(components))
        value = overlap(directions[:k], components[:k])
        found.append(value)
        over.append(value - k / directions.shape[1])
    return estimate(found), estimate(over), k


def follows_pca(over: Estimate, shared: Estimate, k: int) -> Claim:
    """Has training turned the projection towards the principal components of its input?"""
    sentence = (
        f"The {counted(k, 'strongest direction')} of the learned projection overlap {{}} with the "
        "strongest principal components of the patches than random directions do."
    )
    return holds(
        "q1-filters-follow-pca",
        sentence.format("more"),
        "95 % interval over the seeds of the overlap of the two subspaces minus that by chance",
        f"overlap {shared.mean:.2f}, by chance {shared.mean - over.mean:.2f}, over "
        f"{counted(over.n, 'seed')}",
        over.mean > 0 if abs(over.mean) > over.half_width else None,
        sentence.format("less"),
    )


Directions = tuple[np.ndarray, np.ndarray]  # directions and shares


def frame(learned: Directions, components: Directions) -> pd.DataFrame:
    """What is drawn: a row per direction with its share, pixels in reading order as columns."""
    shown = min(COMPARED, len(learned[0]), len(components[0]))
    frames = []
    for name, (directions, shares) in {"learned": learned, "pca": components}.items():
        pixels = pd.DataFrame(directions[:shown]).add_prefix("pixel_").round(5)
        pixels.insert(0, "share", shares[:shown])
        pixels.insert(0, "rank", range(1, shown + 1))
        pixels.insert(0, "kind", name)
        frames.append(pixels)
    return pd.concat(frames, ignore_index=True)


def draw(directions: tuple[Directions, Directions], patch: int) -> Figure:
    """Above: strongest directions of the projection. Below: principal components."""
    import matplotlib.pyplot as plt

    learned, components = directions
    shown = min(COMPARED, len(learned[0]), len(components[0]))
    drawing, grid = plt.subplots(2, shown, figsize=(style.WIDTH, 1.9), squeeze=False)
    for line, (found, shares) in zip(grid, (learned, components), strict=True):
        for axes, direction, share in zip(line, found, shares, strict=False):
            # A direction and its opposite are the same; both rows show the brighter middle.
            direction = direction * (np.sign(direction.sum()) or 1)
            reach = np.abs(direction).max()
            axes.imshow(direction.reshape(patch, patch), cmap="RdBu_r", vmin=-reach, vmax=reach)
            axes.set_title(f"{100 * share:.0f} %", fontsize=style.SMALL, loc="center", pad=2)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for line, name in zip(grid, ("learned", "PCA of\npatches"), strict=True):
        line[0].set_ylabel(name)
    return drawing
