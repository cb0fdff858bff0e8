"""One look for every figure: size, type, and a colour per kind of model.

The palette is Okabe and Ito's, made for colour-blind readers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

WIDTH = 6.6  # inches; the text column of the PDF
INK = "#22313f"
GRID = "#e3e7ea"
COLOURS = {
    "vit": "#0072b2",
    "cnn": "#d55e00",
    "timm": "#009e73",
    "mlp": "#e69f00",
    "logistic": "#cc79a7",
    "reference": "#7a8288",
    "accent": "#cc79a7",
}
MARKERS = {"vit": "o", "cnn": "s", "timm": "^", "mlp": "D", "logistic": "X"}
SERIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a8288"]
DIGITS = "Greys"  # colour map of images
HEAT = "viridis"  # colour map of attention


def use() -> None:
    """Set the house style for the figures that this process draws."""
    import matplotlib as mpl
    import seaborn as sns

    mpl.use("Agg")
    sns.set_theme(
        style="whitegrid",
        palette=SERIES,
        rc={
            "font.family": "DejaVu Sans",
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.labelsize": 9,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "grid.color": GRID,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "figure.constrained_layout.use": True,
            "lines.linewidth": 1.6,
            # Identical bytes for identical figures, and text that needs no font to show.
            "svg.hashsalt": "vitrail",
            "svg.fonttype": "path",
        },
    )


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG without a date in it, and free it."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def token_ticks(axes: Axes, sizes: list[int]) -> None:
    """Logarithmic axis of token counts with a tick at each size that was measured."""
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
    axes.xaxis.set_minor_locator(no_ticks())


def plain_log_ticks(axes: Axes) -> None:
    """Numbers as words read them (0.5, 2, 10) on a logarithmic y axis."""
    axes.set_yscale("log")
    _plain(axes.yaxis, (1, 2, 5))


def plain_log_ticks_x(axes: Axes, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """The same on the x axis, at these multiples of each power of ten."""
    axes.set_xscale("log")
    _plain(axes.xaxis, subs)


def _plain(axis: Axis, subs: tuple[int, ...]) -> None:
    import matplotlib.ticker as ticker

    axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_major_formatter(lambda value, _: short(value))
    axis.set_minor_locator(no_ticks())


def short(value: float) -> str:
    """A number in few letters: 0.5, 20, 5k, 2M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def no_ticks() -> Locator:
    """For an axis whose minor ticks would only crowd it."""
    from matplotlib.ticker import NullLocator

    return NullLocator()
