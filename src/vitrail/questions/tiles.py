"""Images cut into patches for pictures and measures, in NumPy.

The network's own cutting is `vitrail.model.patch_embedding.cut_patches`.
"""

from __future__ import annotations

import numpy as np


def tiles(images: np.ndarray, patch: int) -> np.ndarray:
    """The patches of square images in reading order: (B, S, S) -> (B, N, patch, patch)."""
    count, size, _ = images.shape
    side = size // patch
    cells = images.reshape(count, side, patch, side, patch).swapaxes(2, 3)
    return cells.reshape(count, side * side, patch, patch)
