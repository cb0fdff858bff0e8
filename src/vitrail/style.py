"""One look for every figure: its width, its type, and a colour per kind of model.

Kinds have the colours of Okabe and Ito, and black. The tones of the variants were chosen so that
all pairs stay apart under protanopia and deuteranopia too (`tests/test_style.py` measures it).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.settings import Settings, takes_patches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

    from vitrail.runs import Member

# Inches. The text column of the PDF, in which a figure is shown at its own size, and what two
# figures side by side (`layout-ncol=2`) have of it.
WIDTH, HALF = 6.22, 3.04
# Points: ticks, legends and notes; labels and titles.
SMALL, TEXT = 8.0, 9.0
INK = "#22313f"
GRID = "#e3e7ea"
GUIDE = "#7a8288"  # lines to compare with, and what no model stands for
MARK = "#e0245e"  # frames and lines that point at something in an image
DIGITS = "Greys"  # colour map of images
HEAT = "viridis"  # colour map of attention


@dataclass(frozen=True)
class Look:
    """How one series of a figure looks; no two of a figure are the same."""

    colour: str
    marker: str
    line: Any = "-"

    @property
    def plot(self) -> dict[str, Any]:
        """The look as arguments of `Axes.plot`."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line}


KINDS = {  # of models, each with its look in every figure
    "vit": Look("#0072b2", "o"),
    "cnn": Look("#d55e00", "s"),
    "timm": Look("#009e73", "^"),  # a ViT of timm
    "timm_cnn": Look("#cc79a7", "P"),
    "mlp": Look("#e69f00", "D"),
    "logistic": Look("#000000", "X"),
}
VIT = KINDS["vit"].colour
VARIANTS = (
    Look("#4b1a78", "v"),
    Look("#56b4e9", "<"),
    Look("#8a4653", ">"),
    Look("#8f7be8", "p"),
    Look("#401500", "h"),
)
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))


def kind_of(settings: Settings) -> str:
    """The key of `KINDS` of an arm's network."""
    model = str(settings["model"])
    return "timm_cnn" if model == "timm" and not takes_patches(settings) else model


def vits(number: int) -> list[Look]:
    """Looks of this many ViTs: the first is that of the base ViT, the others are variants."""
    return [KINDS["vit"], *(_variant(place) for place in range(number - 1))]


def _variant(place: int) -> Look:
    """Every tone with the first line, then every tone with the next; then other markers."""
    row, tone = divmod(place, len(VARIANTS))
    turn, line = divmod(row, len(LINES))
    marker = VARIANTS[(tone + turn) % len(VARIANTS)].marker
    return Look(VARIANTS[tone].colour, marker, LINES[line])


def looks_of(members: Sequence[Member], base: Settings) -> dict[str, Look]:
    """The looks of the arms of an experiment, by name.

    The ViT nearest to the `base` settings looks as the base ViT does everywhere, and the others
    are its variants. Where ViTs combine the values of two settings, one is told by the tone and
    one by the line. Every other kind has one colour: its arms differ in line and marker.
    """

    def unlike(member: Member) -> int:
        return sum(base.get(key) != value for key, value in member.arm.settings.items())

    looks: dict[str, Look] = {}
    for kind in dict.fromkeys(kind_of(member.arm.settings) for member in members):
        mine = [member for member in members if kind_of(member.arm.settings) == kind]
        if kind == "vit":
            mine.sort(key=unlike)
            looks |= _crossed(mine) or dict(zip(_names(mine), vits(len(mine)), strict=True))
        else:
            markers = [KINDS[kind].marker, *(look.marker for look in VARIANTS)]
            for place, name in enumerate(_names(mine)):
                turn, line = divmod(place, len(LINES))
                marker = markers[(place + turn) % len(markers)]
                looks[name] = replace(KINDS[kind], marker=marker, line=LINES[line])
    return {member.name: looks[member.name] for member in members}


def _names(members: Iterable[Member]) -> list[str]:
    return [member.name for member in members]


def _crossed(members: list[Member]) -> dict[str, Look]:
    """Tones and lines for ViTs that combine the values of two settings; else nothing."""
    every = [member.arm.settings for member in members]
    keys = [key for key in every[0] if any(own.get(key) != every[0][key] for own in every)]
    if len(keys) != 2:
        return {}
    first, second = (list(dict.fromkeys(own.get(key) for own in every)) for key in keys)
    if len(members) <= max(len(first), len(second)) or len(second) > len(LINES):
        return {}
    tones = vits(len(first))
    return {
        member.name: replace(
            tones[first.index(own.get(keys[0]))], line=LINES[second.index(own.get(keys[1]))]
        )
        for member, own in zip(members, every, strict=True)
    }


def use() -> None:
    """Set the house style for the figures that this process draws."""
    import matplotlib as mpl
    import seaborn as sns

    mpl.use("Agg")
    sns.set_theme(
        style="whitegrid",
        palette=[look.colour for look in vits(1 + len(VARIANTS))],
        rc={
            "font.family": "DejaVu Sans",
            "font.size": SMALL,
            "axes.titlesize": TEXT,
            "axes.labelsize": TEXT,
            "figure.titlesize": TEXT,
            "figure.labelsize": TEXT,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "legend.fontsize": SMALL,
            "legend.title_fontsize": SMALL,
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
    """Write a figure as SVG without a date in it, and free it.

    Raises:
        ValueError: it is not as wide as it is shown, or has text of another size than the others.
    """
    import matplotlib.pyplot as plt

    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    told = faults(figure)
    plt.close(figure)
    if told:
        raise ValueError(f"{path.name}: {'; '.join(told)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(named_in_order(written.getvalue(), path.stem))


def named_in_order(svg: bytes, name: str) -> bytes:
    """The same drawing, with its clipping paths named by their order.

    Matplotlib names them by a hash of all digits of their corners, of which the last may differ
    from one process to another, though the drawing rounds them to the same six decimals.
    """
    found = dict.fromkeys(re.findall(rb'(?<=clipPath id=")p[0-9a-f]{10}(?=")', svg))
    found |= dict.fromkeys(re.findall(rb"(?<=url\(#)p[0-9a-f]{10}(?=\))", svg))
    first = {old: svg.index(old) for old in found}
    for number, old in enumerate(sorted(found, key=first.__getitem__)):
        new = hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:10]
        svg = svg.replace(b"#" + old, b"#P" + new.encode())
        svg = svg.replace(b'id="' + old, b'id="P' + new.encode())
    return svg


def faults(figure: Figure) -> list[str]:
    """What keeps a drawn figure from being shown at its own size with text of one size."""
    from matplotlib.text import Text

    width = figure.get_figwidth()
    told = []
    if width not in (WIDTH, HALF):
        told.append(f"{width:.2f} inches wide, but is shown {WIDTH} or {HALF} wide")
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if (
            text.get_visible()
            and text.get_text().strip()
            and text.get_fontsize() not in (SMALL, TEXT)
        ):
            told.append(
                f"{text.get_text()!r} is {text.get_fontsize():g} pt, not {SMALL:g} or {TEXT:g}"
            )
    return told


def set_apart(figure: Figure) -> None:
    """Room between panels side by side, where each has labels of its own at its left."""
    figure.set_layout_engine("constrained", wspace=0.06)


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
