"""Pictures and figures of attention that Q3 and Q4 share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vitrail import style
from vitrail.settings import IMAGE_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor


def maps_of(network: Any, images: Tensor) -> list[np.ndarray]:
    """Attention of each block, (B, H, N, N) arrays."""
    return [attention.numpy() for attention in network.attention_maps(images)]


def entropy_share(attention: np.ndarray) -> float:
    """Mean entropy of the rows over that of a uniform row, in [0, 1]."""
    rows = np.clip(attention, 1e-12, None)
    entropy = -(rows * np.log(rows)).sum(axis=-1)
    return float(entropy.mean() / np.log(attention.shape[-1]))


def overlay(axes: Axes, image: np.ndarray, row: np.ndarray, patch: int) -> None:
    """Draw a row of attention over patches, (patches,), on top of its digit."""
    side = IMAGE_SIZE // patch
    heat = np.kron(row.reshape(side, side), np.ones((patch, patch)))
    axes.imshow(heat, cmap=style.HEAT, vmin=0)
    # The digit as ink on the heat, so that both are seen.
    ink = np.zeros((*image.shape, 4))
    ink[..., :3] = 1
    ink[..., 3] = 0.75 * image / 255
    axes.imshow(ink)
    axes.set_axis_off()
