"""How a figure looks, for tests: which of its texts overlap or are cut off."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def clashes(figure: Figure) -> list[str]:
    """Texts of a figure that overlap or leave it; slanted ones take less room than their box."""
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    # Ticks beyond the ends of an axis, or of none, have labels too, which are never drawn.
    beyond: set[Any] = set()
    for axis in figure.findobj(Axis):
        assert isinstance(axis, Axis)
        low, high = sorted(axis.get_view_interval())
        for ticks in (axis.get_major_ticks(), axis.get_minor_ticks()):
            for tick in ticks:
                if not low <= tick.get_loc() <= high or not tick.get_visible():
                    beyond |= {tick.label1, tick.label2}
    for axes in figure.findobj(Axes):
        assert isinstance(axes, Axes)
        if not axes.axison:
            beyond |= {*axes.xaxis.findobj(Text), *axes.yaxis.findobj(Text)}
    placed: list[tuple[str, Any]] = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        shown = text.get_visible() and text.get_text().strip() and text not in beyond
        shown = shown and text.get_rotation() % 90 == 0
        box = Text.get_window_extent(text, renderer)  # of an annotation without its arrow
        if shown and box.width:
            placed.append((text.get_text(), box.padded(-1)))
    page = figure.bbox.padded(1)
    told = [
        f"{text!r} leaves the figure" for text, box in placed
        if min(box.x0 - page.x0, box.y0 - page.y0, page.x1 - box.x1, page.y1 - box.y1) < 0
    ]  # fmt: skip
    return told + [
        f"{one!r} and {other!r} overlap"
        for (one, box), (other, elsewhere) in combinations(placed, 2)
        if box.overlaps(elsewhere)
    ]
