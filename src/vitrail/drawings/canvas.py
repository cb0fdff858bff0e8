"""The primitives of the drawings: boxes, arrows, plus nodes, cells and labels.

Places and sizes are in units of which `WIDE` make the width of a figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitrail import style

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.path import Path

Point = tuple[float, float]

ROLES = {
    "attention": "#0072b2",
    "mlp": "#009e73",
    "norm": "#e69f00",
    "embedding": "#cc79a7",
    "head": "#d55e00",
    "plain": "#7a8288",  # no parameters
}
WIDE = 6.6  # units
NAME = NOTE = style.SMALL  # points: the name of a part, in ink, and everything beside it
TITLE = style.TEXT  # of a whole
SOFT = "#4d5a66"  # notes; still 7:1 against white
LINE, THICK = 1.1, 2.4  # points
HEAD_LENGTH, HEAD_WIDTH = 0.085, 0.085  # the same for every arrow
BEND = 0.07  # radius of the corners of an arrow
PLUS = 0.1  # radius of a plus node


class Canvas:
    """An empty figure, `height` units high; y goes up."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure

        inch = style.WIDTH / WIDE
        self.figure = Figure(figsize=(style.WIDTH, inch * height), facecolor="white")
        self.height = height
        # Positions are set by hand, so the house's automatic layout stays off.
        self.figure.set_layout_engine("none")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDE), ylim=(0, height))
        self.axes.set_axis_off()

    def text(
        self,
        at: Point,
        text: str,
        *,
        size: float = NOTE,
        colour: str = SOFT,
        ha: str = "center",
        va: str = "center",
        bold: bool = False,
    ) -> None:
        """A line of text; `ha` and `va` say which of its points lies on `at`."""
        weight = "bold" if bold else "normal"
        self.axes.text(
            *at, text, size=size, color=colour, ha=ha, va=va, weight=weight, zorder=5
        )  # fmt: skip

    def box(
        self,
        centre: Point,
        size: Point,
        role: str,
        name: str = "",
        note: str = "",
        *,
        tint: float = 0.2,
        copies: int = 0,
    ) -> None:
        """A rounded box with a name and, below it, a note; `copies` more lie behind it."""
        from matplotlib.patches import FancyBboxPatch

        (x, y), (width, height) = centre, size
        for copy in range(copies, -1, -1):
            shift = 0.055 * copy
            patch = FancyBboxPatch(
                (x - width / 2 + shift, y - height / 2 + shift), width, height,
                boxstyle="round,pad=0,rounding_size=0.05", linewidth=1,
                facecolor=tinted(ROLES[role], tint), edgecolor=ROLES[role], zorder=2,
            )  # fmt: skip
            patch.set_label(f"copy of {role}" if copy else role)
            self.axes.add_patch(patch)
        lift = 0.075 if note else 0
        if name:
            self.text((x, y + lift), name, size=NAME, colour=style.INK, va="center_baseline")
        if note:
            self.text((x, y - lift), note, va="center_baseline")

    def arrow(self, *points: Point, residual: bool = False, head: bool = True) -> None:
        """A line along horizontal and vertical stretches, ending in an arrow head."""
        from matplotlib.patches import PathPatch, Polygon

        (x0, y0), (x1, y1) = points[-2:]
        length = abs(x1 - x0) + abs(y1 - y0)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        end = (x1 - ux * HEAD_LENGTH * 0.8, y1 - uy * HEAD_LENGTH * 0.8) if head else (x1, y1)
        line = PathPatch(
            rounded([*points[:-1], end]), fill=False, capstyle="butt", joinstyle="round",
            linewidth=THICK if residual else LINE, edgecolor=style.INK, zorder=3,
        )  # fmt: skip
        line.set_label("residual" if residual else "arrow")
        self.axes.add_patch(line)
        if head:
            back, side = (x1 - ux * HEAD_LENGTH, y1 - uy * HEAD_LENGTH), HEAD_WIDTH / 2
            corners = [
                (x1, y1),
                (back[0] - uy * side, back[1] + ux * side),
                (back[0] + uy * side, back[1] - ux * side),
            ]
            self.axes.add_patch(
                Polygon(corners, facecolor=style.INK, linewidth=0, zorder=4, label="head")
            )

    def plus(self, centre: Point) -> None:
        """A node that adds what arrives."""
        from matplotlib.patches import Circle

        self.axes.add_patch(
            Circle(centre, PLUS, facecolor="white", edgecolor=style.INK, linewidth=LINE, zorder=4)
        )
        (x, y), arm = centre, PLUS * 0.55
        for dx, dy in ((arm, 0), (0, arm)):
            self.axes.plot(
                [x - dx, x + dx], [y - dy, y + dy], color=style.INK, linewidth=LINE, zorder=5,
                solid_capstyle="butt", marker="",
            )  # fmt: skip

    def cell(self, left: Point, size: Point, role: str, text: str = "") -> None:
        """A small rectangle with its lower left corner at `left`: one token or one logit."""
        from matplotlib.patches import Rectangle

        patch = Rectangle(
            left, *size, facecolor=tinted(ROLES[role], 0.3), edgecolor=ROLES[role],
            linewidth=0.8, zorder=2,
        )  # fmt: skip
        patch.set_label(role)
        self.axes.add_patch(patch)
        if text:
            at = (left[0] + size[0] / 2, left[1] + size[1] / 2)
            self.text(at, text, colour=style.INK, va="center_baseline")

    def picture(self, image: np.ndarray, left: Point, side: float) -> None:
        """A square image of values 0 to 255, its lower left corner at `left`."""
        import numpy as np

        # Enlarged here: some viewers blur the few pixels of a small image.
        self._image(np.kron(image, np.ones((8, 8), dtype=image.dtype)), left, side)
        self._frames([(left, side)])

    def patches(self, apart: np.ndarray, left: Point, side: float, grid: int, gap: int) -> None:
        """An image whose grid x grid patches lie `gap` of its pixels apart, each framed."""
        self._image(apart, left, side)
        step = side * (len(apart) + gap) / grid / len(apart)
        width = step - side * gap / len(apart)
        x, y = left
        self._frames(
            [
                ((x + column * step, y + row * step), width)
                for row in range(grid)
                for column in range(grid)
            ]
        )

    def _image(self, image: np.ndarray, left: Point, side: float) -> None:
        (x, y) = left
        self.axes.imshow(
            image, cmap=style.DIGITS, vmin=0, vmax=255, extent=(x, x + side, y, y + side),
            interpolation="none", aspect="auto", zorder=1,
        )  # fmt: skip
        # imshow moves the limits to its image.
        self.axes.set(xlim=(0, WIDE), ylim=(0, self.height))

    def _frames(self, squares: list[tuple[Point, float]]) -> None:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        # Thinner where squares are small, so that the image stays what is seen.
        width = min(0.6, 2.5 * squares[0][1])
        frames = PatchCollection(
            [Rectangle(left, side, side) for left, side in squares],
            facecolor="none", edgecolor=SOFT, linewidth=width, zorder=2,
        )  # fmt: skip
        frames.set_snap(False)
        self.axes.add_collection(frames, autolim=False)


def tinted(colour: str, share: float) -> tuple[float, float, float]:
    """A colour mixed with white; `share` is its part in the mixture."""
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def shape(*sizes: int | str) -> str:
    """A tensor's shape as the drawings print it: B × 17 × 64."""
    return " × ".join(str(size) for size in ("B", *sizes))


def rounded(points: Sequence[Point]) -> Path:
    """The path through the points, with its corners rounded."""
    from matplotlib.path import Path

    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _towards(corner: Point, other: Point) -> Point:
    """The point where the rounding of a corner begins, on its way to `other`."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    part = BEND / max(abs(dx) + abs(dy), 2 * BEND)
    return corner[0] + part * dx, corner[1] + part * dy
