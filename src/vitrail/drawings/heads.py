"""Q4: multi-head self-attention, from the tokens to the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitrail import style
from vitrail.drawings.canvas import NAME, Canvas, shape
from vitrail.drawings.sizes import Sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 4.63
LANES = {"Q": 0.47, "K": 1.6, "V": 2.73}  # left half, flow goes down
RIGHT = 4.99  # right half, flow goes up
WIDE, MATRIX, SCORES_HEIGHT = (1.7, 0.34), (0.85, 0.42), 0.5
# Heights. What one half does, the other undoes at the same level.
ENDS, BUS, MATRICES, SPLIT = 4.42, 3.99, 3.57, 2.81
SCORES, SOFTMAX, VALUES = 0.68, 1.34, 1.96
PANEL_LEFT, PANEL_WIDTH, PANEL_BOTTOM, PANEL_TOP = 4.05, 2.37, 0.33, 2.23


def multi_head(settings: dict[str, Any]) -> Figure:
    """Multi-head self-attention of an arm of model `vit` (Vaswani et al. 2017, figure 2).

    The shape of the tensor stands at every arrow; `head_dim` 0 (or none) means
    embed_dim / num_heads columns a head.
    """
    canvas, sizes = Canvas(HEIGHT), Sizes(settings)
    _project_and_split(canvas, sizes)
    _attend(canvas, sizes)
    _merge(canvas, sizes)
    return canvas.figure


def _project_and_split(canvas: Canvas, sizes: Sizes) -> None:
    """Left half: X, three matrices, and the columns of each product shared out to the heads."""
    middle = LANES["K"]
    canvas.box((middle, ENDS), (1.1, 0.3), "embedding", "tokens $X$")
    below = ENDS - 0.15
    top, bottom = MATRICES + MATRIX[1] / 2, MATRICES - MATRIX[1] / 2
    split_top, split_bottom = SPLIT + WIDE[1] / 2, SPLIT - WIDE[1] / 2
    for name, x in LANES.items():
        if x == middle:
            canvas.arrow((x, below), (x, top))
        else:
            canvas.arrow((middle, BUS), (x, BUS), (x, top))
        canvas.box(
            (x, MATRICES), MATRIX, "attention", f"$W_{name}$", f"{sizes.dim} × {sizes.heads_dim}"
        )
        canvas.arrow((x, bottom), (x, split_top))
        at = (bottom + split_top) / 2
        canvas.text((x - 0.07, at), f"${name}$", size=NAME, colour=style.INK, ha="right")
        canvas.text((x + 0.07, at), shape(sizes.tokens, sizes.heads_dim), ha="left")
        # The rightmost lane turns first, so that no lines cross.
        y, edge = _entry(name), RIGHT - WIDE[0] / 2
        canvas.arrow((x, split_bottom), (x, y), (edge, y))
        canvas.text(
            (PANEL_LEFT - 0.08, y + 0.04), shape(sizes.heads, sizes.tokens, sizes.head_dim),
            ha="right", va="bottom",
        )  # fmt: skip
    canvas.text((middle + 0.07, (below + BUS) / 2), shape(sizes.tokens, sizes.dim), ha="left")
    heads = f"{sizes.heads} heads" if sizes.heads > 1 else "1 head"
    span = LANES["V"] - LANES["Q"] + MATRIX[0]
    canvas.box(
        (middle, SPLIT), (span, WIDE[1]), "plain", f"split into {heads} of width {sizes.head_dim}"
    )


def _entry(lane: str) -> float:
    """Height at which a lane enters the right half."""
    return {"Q": SCORES - 0.13, "K": SCORES + 0.13, "V": VALUES}[lane]


def _attend(canvas: Canvas, sizes: Sizes) -> None:
    """Right half, below: what every head computes by itself."""
    height = PANEL_TOP - PANEL_BOTTOM
    canvas.box(
        (PANEL_LEFT + PANEL_WIDTH / 2, PANEL_BOTTOM + height / 2), (PANEL_WIDTH, height),
        "attention", tint=0.05, copies=min(sizes.heads, 4) - 1,
    )  # fmt: skip
    canvas.text((PANEL_LEFT + PANEL_WIDTH / 2, PANEL_BOTTOM - 0.14), _each(sizes))
    half, table = WIDE[1] / 2, shape(sizes.heads, sizes.tokens, sizes.tokens)
    canvas.box((RIGHT, SCORES), (WIDE[0], SCORES_HEIGHT), "plain", r"$QK^\top/\sqrt{d_k}$")
    _up(canvas, SCORES + SCORES_HEIGHT / 2, SOFTMAX - half, table)
    canvas.box((RIGHT, SOFTMAX), WIDE, "plain", "softmax over each row")
    _up(canvas, SOFTMAX + half, VALUES - half, table)
    canvas.box((RIGHT, VALUES), WIDE, "plain", "weights times $V$")


def _merge(canvas: Canvas, sizes: Sizes) -> None:
    """Right half, above: the heads side by side, mixed by the output matrix."""
    half, matrix = WIDE[1] / 2, MATRIX[1] / 2
    start, end = VALUES + half, SPLIT - half
    canvas.arrow((RIGHT, start), (RIGHT, end))
    label = shape(sizes.heads, sizes.tokens, sizes.head_dim)
    canvas.text((RIGHT + 0.08, end - 0.11), label, ha="left")  # above the stack of heads
    canvas.box((RIGHT, SPLIT), WIDE, "plain", "concatenate the heads")
    _up(canvas, SPLIT + half, MATRICES - matrix, shape(sizes.tokens, sizes.heads_dim))
    canvas.box((RIGHT, MATRICES), MATRIX, "attention", "$W_O$", f"{sizes.heads_dim} × {sizes.dim}")
    _up(canvas, MATRICES + matrix, ENDS - 0.15, shape(sizes.tokens, sizes.dim))
    canvas.box((RIGHT, ENDS), (1.1, 0.3), "embedding", "MSA$(X)$")


def _each(sizes: Sizes) -> str:
    return f"each of {sizes.heads} heads" if sizes.heads > 1 else "one head"


def _up(canvas: Canvas, start: float, end: float, label: str) -> None:
    """An arrow of the right half with the shape of what it carries."""
    canvas.arrow((RIGHT, start), (RIGHT, end))
    canvas.text((RIGHT + 0.08, (start + end) / 2), label, ha="left")
