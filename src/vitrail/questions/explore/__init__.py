"""The data of the page's interactive views; `report/explore/` draws them.

Each function gives what becomes ``explore/<view>.json``, or None where this study has nothing to
explore: then the static figure stands alone.
"""

from __future__ import annotations

import base64

import numpy as np

# Bytes of one view's arrays; the page keeps the digits that fit and says how many these are.
BUDGET = 450_000


def packed(values: np.ndarray) -> str:
    """An array of uint8 or uint16 as base64 of its bytes, the low byte first."""
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode("ascii")
