"""Images cut into patches for pictures and measures, in NumPy.

The network's own cutting is `vitrail.model.patch_embedding.cut_patches`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def tiles(images: np.ndarray, patch: int) -> np.ndarray:
    """The patches of square images in reading order: (B, S, S) -> (B, N, patch, patch)."""
    count, size, _ = images.shape
    side = size // patch
    cut = images.reshape(count, side, patch, side, patch).swapaxes(2, 3)
    return cut.reshape(count, side * side, patch, patch)


def cells(image: np.ndarray) -> pd.DataFrame:
    """An image (H, W) as data of a figure: row, column, value."""
    row, column = np.indices(image.shape)
    columns = {"row": row.ravel(), "column": column.ravel(), "value": image.ravel()}
    return pd.DataFrame(columns)
