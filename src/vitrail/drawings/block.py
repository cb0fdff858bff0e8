"""Q5: the two forms of a transformer block, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail import style
from vitrail.drawings.canvas import NAME, PLUS, TITLE, Canvas, Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 5.05
NORM, PART = (0.85, 0.28), (1.3, 0.32)  # a norm; attention or MLP
# Heights, in inches, of one half of a block; the second half lies STEP above the first.
START, STEP = 0.16, 2.04
FORK, ON_BRANCH, MIDDLE, WITH_NORM, JOIN, ON_TRUNK = 0.4, 0.76, 1.02, 1.28, 1.66, 2.08
END = 4.52


def block() -> Figure:
    """Pre-norm and post-norm block from input (bottom) to output, residual paths thick.

    Left: Dosovitskiy et al. (2021), equations 2 and 3. Right: Vaswani et al. (2017),
    section 3.1. The symbols are those of the report's equations.
    """
    canvas = Canvas(HEIGHT)
    _pre_norm(canvas, trunk=0.95, branch=2.3)
    _post_norm(canvas, trunk=4.4, branch=5.75)
    return canvas.figure


def _pre_norm(canvas: Canvas, trunk: float, branch: float) -> None:
    _titles(canvas, trunk, branch, "Pre-norm", "Vision Transformer, 2021")
    for base, start, norm, part, label in (
        (0, START, "LN$_1$", "MSA", "MSA(LN$_1$($z$))"),
        (STEP, JOIN + PLUS, "LN$_2$", "MLP", "MLP(LN$_2$($z'$))"),
    ):
        bottom, top = ON_BRANCH + base, WITH_NORM + base
        canvas.arrow((trunk, start), (trunk, JOIN + base - PLUS), residual=True)
        canvas.arrow((trunk, FORK + base), (branch, FORK + base), (branch, bottom - NORM[1] / 2))
        canvas.box((branch, bottom), NORM, "norm", norm)
        canvas.arrow((branch, bottom + NORM[1] / 2), (branch, top - PART[1] / 2))
        _add_part(canvas, trunk, (branch, top), part, label, base)
    canvas.arrow((trunk, JOIN + STEP + PLUS), (trunk, END), residual=True)
    _symbols(canvas, trunk, ("$z$", "$z'$", "$z''$"))


def _post_norm(canvas: Canvas, trunk: float, branch: float) -> None:
    _titles(canvas, trunk, branch, "Post-norm", "Transformer, 2017")
    for base, start, norm, part, label in (
        (0, START, "LN$_1$", "MSA", "MSA($x$)"),
        (STEP, ON_TRUNK + NORM[1] / 2, "LN$_2$", "MLP", "MLP($y$)"),
    ):
        middle, on_trunk = MIDDLE + base, ON_TRUNK + base
        canvas.arrow((trunk, start), (trunk, JOIN + base - PLUS), residual=True)
        canvas.arrow((trunk, FORK + base), (branch, FORK + base), (branch, middle - PART[1] / 2))
        _add_part(canvas, trunk, (branch, middle), part, label, base)
        canvas.arrow((trunk, JOIN + base + PLUS), (trunk, on_trunk - NORM[1] / 2))
        canvas.box((trunk, on_trunk), NORM, "norm", norm)
    canvas.arrow((trunk, ON_TRUNK + STEP + NORM[1] / 2), (trunk, END))
    _symbols(canvas, trunk, ("$x$", "$y$", "$z$"))


def _titles(canvas: Canvas, trunk: float, branch: float, name: str, source: str) -> None:
    middle = (trunk + branch) / 2
    canvas.text((middle, HEIGHT - 0.12), name, size=TITLE, colour=style.INK, bold=True)
    canvas.text((middle, HEIGHT - 0.3), source)
    canvas.text((trunk - 0.12, MIDDLE), "residual\npath", ha="right")


def _add_part(
    canvas: Canvas, trunk: float, centre: Point, name: str, label: str, base: float
) -> None:
    """Attention or MLP, and its way back to the plus node."""
    (x, y), join = centre, JOIN + base
    canvas.box(centre, PART, "attention" if name == "MSA" else "mlp", name)
    canvas.arrow((x, y + PART[1] / 2), (x, join), (trunk + PLUS, join))
    canvas.plus((trunk, join))
    canvas.text(((trunk + PLUS + x) / 2, join + 0.05), label, size=NAME, va="bottom")


def _symbols(canvas: Canvas, trunk: float, symbols: tuple[str, str, str]) -> None:
    """The names of input, middle and output beside the trunk."""
    for symbol, y in zip(symbols, (START + 0.03, FORK + STEP, END - 0.03), strict=True):
        canvas.text((trunk - 0.12, y), symbol, size=TITLE, colour=style.INK, ha="right")
