"""Attention drawn on digits: the maps that Q3 and Q4 share."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.questions.tiles import tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

LETTER = 0.08  # inches, of a heading
GAP = 1.5  # pixels between the image and the cell of the class token
# Inches: margins, the space of titles, between panels and between groups, the largest digit.
LEFT, BAR, TITLE, GROUP_TITLE, PAD, GROUP_GAP, LARGEST = 0.3, 0.72, 0.22, 0.2, 0.08, 0.22, 1.0


@dataclass(frozen=True)
class Panel:
    """One row of attention over a digit.

    Attributes:
        image: the digit, (28, 28) with values 0 to 255.
        weights: of the patches in reading order, (patches,).
        token: weight of the class token, where there is one.
        query: index of the patch that attends, to be outlined; -1 for the class token.
        title: printed above it.
    """

    image: np.ndarray
    weights: np.ndarray
    token: float | None = None
    query: int | None = None
    title: str = ""


def row_of(
    attention: np.ndarray, image: np.ndarray, query: int, prefix: int, title: str = ""
) -> Panel:
    """The panel of one query of an attention table (N, N); query -1 is the class token."""
    row = attention[prefix + query]
    return Panel(image, row[prefix:], float(row[0]) if prefix else None, query, title)


def most_ink(image: np.ndarray, patch: int) -> int:
    """The patch with most of the stroke: a query that has something to ask."""
    return int(tiles(image[None], patch)[0].sum(axis=(1, 2), dtype=float).argmax())


def weights_of(panels: list[list[Panel]], rows: list[str]) -> pd.DataFrame:
    """What `draw_maps` draws: a row per panel and token.

    `column` counts the panels of a row from 1; `query` and `patch` count patches from 0, and
    -1 is the class token.
    """
    found = []
    for line, name in zip(panels, rows, strict=True):
        for column, panel in enumerate(line, start=1):
            weights = dict(enumerate(panel.weights.tolist()))
            weights |= {} if panel.token is None else {-1: panel.token}
            found += [
                (name, column, panel.title, panel.query, patch, round(weight, 6))
                for patch, weight in sorted(weights.items())
            ]
    return pd.DataFrame(found, columns=["row", "column", "title", "query", "patch", "weight"])


def draw_maps(
    panels: list[list[Panel]],
    rows: list[str],
    label: str,
    groups: dict[int, str] | None = None,
    power: float = 1,
) -> Figure:
    """A grid of maps on one colour scale, from zero to the largest weight of all.

    `groups` gives a heading to the columns from an index on, and sets them apart. Colours
    follow weight ** `power`: less than one shows small weights beside large ones.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import PowerNorm

    groups = groups or {}
    columns = max(map(len, panels))
    top = max(max(panel.weights.max(), panel.token or 0) for row in panels for panel in row)
    norm = PowerNorm(power, 0, top)
    cell = _cell(panels[0][0])
    gaps = [GROUP_GAP * sum(0 < start <= column for start in groups) for column in range(columns)]
    width = style.WIDTH - LEFT - BAR
    side = min(LARGEST, (width - gaps[-1]) / columns / (1 + cell) - PAD)  # inches, of a digit
    step_x, step_y = side * (1 + cell) + PAD, side + PAD
    titled = any(panel.title for row in panels[1:] for panel in row)
    groups = _wrapped(groups, columns, step_x)
    lines = max((text.count("\n") + 1 for text in groups.values()), default=0)
    head = GROUP_TITLE * lines + (0 if titled else TITLE)
    step_y += TITLE if titled else 0
    height = head + step_y * len(panels)
    drawing = plt.figure(figsize=(style.WIDTH, height))
    drawing.set_layout_engine("none")  # every position is given in inches below

    def place(x: float, y: float, wide: float, high: float) -> Axes:
        """Axes from inches, y from the top down."""
        inches = (x / style.WIDTH, 1 - (y + high) / height, wide / style.WIDTH, high / height)
        return drawing.add_axes(inches)

    for line, (row, name) in enumerate(zip(panels, rows, strict=True)):
        y = head + line * step_y + (TITLE if titled else 0)
        drawing.text(
            (LEFT - 0.07) / style.WIDTH, 1 - (y + side / 2) / height, name,
            rotation=90, ha="right", va="center",
        )  # fmt: skip
        for column, panel in enumerate(row):
            x = LEFT + column * step_x + gaps[column]
            axes = place(x, y, side * (1 + cell), side)
            _draw(axes, panel, norm, side)
            axes.set_title(panel.title, loc="center", x=(cell + (1 + cell)) / 2 / (1 + cell), pad=3)
            axes.title.set_fontsize(style.SMALL)
            if line == 0 and column in groups:
                drawing.text(
                    x / style.WIDTH,
                    1 - 0.02 / height,
                    groups[column],
                    va="top",
                    fontsize=style.TEXT,
                )
    used = head + step_y * len(panels) - PAD
    right = LEFT + columns * step_x + gaps[-1] + 0.08
    bar_height = min(2.2, used - head - (TITLE if titled else 0))
    _colour_bar(
        place(right, (head + used - bar_height) / 2, 0.1, bar_height),
        norm,
        label,
        0.13 / bar_height,
    )
    return drawing


def _wrapped(groups: dict[int, str], columns: int, step: float) -> dict[int, str]:
    """The headings of the groups in lines as wide as their columns of `step` inches."""
    starts = [*sorted(groups), columns]
    return {
        start: textwrap.fill(groups[start], max(1, round((end - start) * step / LETTER)))
        for start, end in pairwise(starts)
    }


def _cell(panel: Panel) -> float:
    """Width that the class token takes beside a digit, as a share of the digit's."""
    if panel.token is None:
        return 0
    pixels, side = len(panel.image), round(len(panel.weights) ** 0.5)
    return (min(pixels // side, pixels // 5) + GAP) / pixels


def _draw(axes: Axes, panel: Panel, norm: Normalize, inches: float) -> None:
    """The heat of the patches, the outline of the digit, the query, the class token's cell."""
    pixels = len(panel.image)
    side = round(len(panel.weights) ** 0.5)
    patch, thin = pixels // side, 0.55 + 0.4 * inches
    frame = (-0.5, pixels - 0.5, pixels - 0.5, -0.5)
    heat = panel.weights.reshape(side, side)
    axes.imshow(heat, cmap=style.HEAT, norm=norm, extent=frame, interpolation="nearest")
    for colour, width in (("black", 2 * thin), ("white", thin)):  # seen on dark and on bright
        axes.contour(panel.image, levels=[127], colors=colour, linewidths=width)
    outline: dict[str, Any] = {
        "fill": False,
        "edgecolor": style.MARK,
        "linewidth": 1.7 * thin,
        "clip_on": False,
    }
    if panel.token is not None:
        corner = (-0.5 - pixels * _cell(panel), -0.5)
        cell = pixels * _cell(panel) - GAP
        _rectangle(axes, corner, cell, facecolor=_colour(norm(panel.token)), linewidth=0)
        if panel.query == -1:
            _rectangle(axes, corner, cell, **outline)
        axes.set_xlim(corner[0], pixels - 0.5)
    if panel.query is not None and panel.query >= 0:
        row, column = divmod(panel.query, side)
        _rectangle(axes, (patch * column - 0.5, patch * row - 0.5), patch, **outline)
    axes.set_axis_off()


def _rectangle(axes: Axes, corner: tuple[float, float], side: float, **look: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, side, side, zorder=3, **look))


def _colour(share: float) -> tuple[float, float, float, float]:
    import matplotlib as mpl

    return mpl.colormaps[style.HEAT](share)


def _colour_bar(axes: Axes, norm: Normalize, label: str, apart: float) -> None:
    """A scale of weights with a few round numbers, this share of its height apart or more."""
    from matplotlib.cm import ScalarMappable

    bar = axes.figure.colorbar(ScalarMappable(norm, style.HEAT), cax=axes)
    top = float(norm.vmax or 1)
    shown = [0, *(tick for tick in (0.01, 0.05, 0.1, 0.2, 0.5, 1) if tick <= top)]
    heights = np.asarray(norm(shown))
    far = [i for i, height in enumerate(heights) if i == 0 or height - heights[i - 1] > apart]
    bar.set_ticks([shown[i] for i in far], labels=[f"{shown[i]:g}" for i in far])
    bar.set_label(label)
    bar.ax.tick_params(length=2)
    bar.outline.set_visible(False)
