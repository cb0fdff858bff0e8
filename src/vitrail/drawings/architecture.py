"""Q6: the whole Vision Transformer, from a digit to its logits."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrail import style
from vitrail.drawings.canvas import NAME, PLUS, TITLE, Canvas, shape
from vitrail.drawings.sizes import Sizes, counted
from vitrail.settings import IMAGE_SIZE, NUM_CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 4.7
# Left half, flow goes down: the class token in one lane, the patches in the other.
CLASS_LANE, PATCH_LANE, EDGE = 0.58, 2.55, 3.36
DIGIT, CUT = 0.76, 0.96  # sides of the two pictures
SOURCE, EMBED = (1.06, 0.42), (1.5, 0.42)
CELL, CLASS_CELL = 0.22, 0.26
EMBEDDING, TOKENS = 2.72, 1.78  # heights
SUM = 0.92  # the plus node, where the flow turns to the right half
POSITIONS = 0.28
ALL_SHOWN = 16  # more patches than this are drawn with a gap
# Right half, flow goes up.
RIGHT, PART, BLOCK, INNER = 4.9, (2.1, 0.42), (2.1, 1.3), (1.9, 0.3)
BLOCK_BOTTOM, LOGITS = 0.3, HEIGHT - 0.46
POSITION_NAMES = {
    "learned": "learned positional embedding",
    "sinusoidal": "sinusoidal positional embedding, fixed",
    "sinusoidal_2d": "2D sinusoidal positional embedding, fixed",
}
POOLING_NAMES = {
    "token": "take the class token",
    "avg": "mean of the patch tokens",
    "seq": "weighted mean of the patches",
}


def vit(settings: dict[str, Any], image: np.ndarray | None = None) -> Figure:
    """The Vision Transformer of an arm, with the shape of the tensor at every arrow.

    Dosovitskiy et al. (2021), figure 1. `image` is the digit to show, (28, 28) with values
    0 to 255; without one a seven is drawn.
    """
    canvas, sizes = Canvas(HEIGHT), Sizes(settings)
    _embed(canvas, sizes, seven() if image is None else image)
    _encode(canvas, sizes)
    return canvas.figure


def seven() -> np.ndarray:
    """A plain seven, (28, 28) with values 0 to 255, drawn with a round pen."""
    corners = np.array([[7, 8], [20, 7], [12, 22]])
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    share = np.linspace(0, 1, 60)[:, None]
    strokes = np.concatenate([a + share * (b - a) for a, b in pairwise(corners)])
    distance = np.hypot(x - strokes[:, :1, None], y - strokes[:, 1:, None]).min(axis=0)
    return (255 * np.clip(2.1 - distance, 0, 1)).astype(np.uint8)


def cut(image: np.ndarray, patch: int) -> tuple[np.ndarray, int]:
    """The image with its patches moved apart, and the width of the gaps, in eighths of a pixel."""
    grid = IMAGE_SIZE // patch
    gap, side = max(2, 24 // grid), 8 * patch
    apart = np.zeros((grid * (side + gap) - gap,) * 2, dtype=image.dtype)
    fine = np.kron(image, np.ones((8, 8), dtype=image.dtype))
    for row in range(grid):
        for column in range(grid):
            y, x = row * (side + gap), column * (side + gap)
            source = fine[row * side : (row + 1) * side, column * side : (column + 1) * side]
            apart[y : y + side, x : x + side] = source
    return apart, gap


def _embed(canvas: Canvas, sizes: Sizes, image: np.ndarray) -> None:
    """Left half: the digit, its patches, the tokens, their positions."""
    parameters, dim = sizes.parameters(), sizes.dim
    level = HEIGHT - 0.05 - CUT / 2  # of the two pictures
    canvas.picture(image, (CLASS_LANE - DIGIT / 2, level - DIGIT / 2), DIGIT)
    start, end = CLASS_LANE + DIGIT / 2, PATCH_LANE - CUT / 2
    canvas.arrow((start + 0.03, level), (end - 0.03, level))
    middle = (start + end) / 2
    canvas.text((middle, level + 0.05), shape(1, IMAGE_SIZE, IMAGE_SIZE), va="bottom")
    what = "1 patch" if sizes.patches == 1 else f"{sizes.patches} patches"
    canvas.text((middle, level - 0.06), f"{what}\n{sizes.patch} × {sizes.patch} pixels", va="top")
    apart, gap = cut(image, sizes.patch)
    canvas.patches(apart, (end, level - CUT / 2), CUT, sizes.grid, gap)

    upper = EMBEDDING + EMBED[1] / 2
    _down(canvas, PATCH_LANE, level - CUT / 2 - 0.03, upper, shape(sizes.patches, sizes.patch**2))
    canvas.box(
        (PATCH_LANE, EMBEDDING), EMBED, "embedding", "linear projection",
        counted(parameters["projection"]),
    )  # fmt: skip
    lower, row = EMBEDDING - EMBED[1] / 2, TOKENS + CELL
    _down(canvas, PATCH_LANE, lower, row, shape(sizes.patches, dim))
    if parameters["class_token"]:
        canvas.box(
            (CLASS_LANE, EMBEDDING), SOURCE, "head", "class token",
            counted(parameters["class_token"]),
        )  # fmt: skip
        _down(canvas, CLASS_LANE, lower, row, shape(1, dim))
    _tokens(canvas, sizes, TOKENS, numbered=False)
    _add_positions(canvas, sizes)


def _add_positions(canvas: Canvas, sizes: Sizes) -> None:
    """The sum of tokens and positions, and its way to the blocks."""
    label, edge = shape(sizes.tokens, sizes.dim), RIGHT - BLOCK[0] / 2
    canvas.text(((PATCH_LANE + PLUS + edge) / 2, SUM + 0.05), label, va="bottom")
    kind = sizes.settings["pos_embed"]
    if kind == "none":
        canvas.arrow((PATCH_LANE, TOKENS), (PATCH_LANE, SUM), (edge, SUM))
        return
    _down(canvas, PATCH_LANE, TOKENS, SUM + PLUS, label)
    canvas.plus((PATCH_LANE, SUM))
    _tokens(canvas, sizes, POSITIONS, numbered=True)
    canvas.arrow((PATCH_LANE, POSITIONS + CELL), (PATCH_LANE, SUM - PLUS))
    canvas.arrow((PATCH_LANE + PLUS, SUM), (edge, SUM))
    learned = sizes.parameters()["positions"]
    note = f", {counted(learned)}" if learned else ""
    middle = (CLASS_LANE - CLASS_CELL / 2 + EDGE) / 2
    canvas.text((middle, POSITIONS - 0.14), POSITION_NAMES[kind] + note)


def _tokens(canvas: Canvas, sizes: Sizes, bottom: float, numbered: bool) -> None:
    """A row with one cell a token; a long row with a gap in its middle."""
    count, left = sizes.patches, CLASS_LANE - CLASS_CELL / 2
    if sizes.settings["class_token"]:
        canvas.cell((left, bottom), (CLASS_CELL, CELL), "head", "0" if numbered else "")
        left += CLASS_CELL + 0.07
    shown = list(range(1, count + 1))
    if count > ALL_SHOWN:
        shown = [*shown[:4], 0, *shown[-4:]]  # 0: the gap
    width = (EDGE - left) / len(shown)
    for place, token in enumerate(shown):
        x = left + place * width
        if token:
            told = numbered and (len(shown) < ALL_SHOWN or token == 1 or token % 4 == 0)
            text = str(token) if told else ""
            canvas.cell((x, bottom), (width, CELL), "embedding", text)
        else:
            canvas.text((x + width / 2, bottom + CELL / 2), "…", size=NAME, va="center_baseline")


def _encode(canvas: Canvas, sizes: Sizes) -> None:
    """Right half: the blocks, the last norm, the pooling and the head."""
    tokens, level = shape(sizes.tokens, sizes.dim), _blocks(canvas, sizes)
    parts = _after_blocks(sizes)
    gap = (LOGITS - level - len(parts) * PART[1]) / (len(parts) + 1)
    label = tokens
    for role, name, note, after in parts:
        _up(canvas, level, level + gap, label)
        level += gap + PART[1]
        canvas.box((RIGHT, level - PART[1] / 2), PART, role, name, note)
        label = after
    _up(canvas, level, LOGITS, label)
    width = PART[0] / NUM_CLASSES
    for digit in range(NUM_CLASSES):
        left = RIGHT - PART[0] / 2 + digit * width
        canvas.cell((left, LOGITS), (width, CELL), "head", str(digit))
    canvas.text((RIGHT, HEIGHT - 0.1), "one logit per digit")
    canvas.text((RIGHT, BLOCK_BOTTOM - 0.15), f"{counted(sizes.total())} in all")


def _after_blocks(sizes: Sizes) -> list[tuple[str, str, str, str]]:
    """Role, name, note of the parts after the blocks, and the shape that leaves each."""
    settings, parameters = sizes.settings, sizes.parameters()
    tokens, pooled, kind = shape(sizes.tokens, sizes.dim), shape(sizes.dim), settings["global_pool"]
    learned = parameters["pooling"]
    parts = [
        (
            "head" if learned else "plain",
            POOLING_NAMES[kind],
            counted(learned) if learned else "",
            pooled,
        )
    ]
    if parameters["norm"]:
        # As in timm, the last norm follows the mean and precedes the other poolings.
        place, after = (1, pooled) if kind == "avg" else (0, tokens)
        parts.insert(place, ("norm", "last layer norm", counted(parameters["norm"]), after))
    return [*parts, ("head", "linear head", counted(parameters["head"]), shape(NUM_CLASSES))]


def _blocks(canvas: Canvas, sizes: Sizes) -> float:
    """The stack of blocks; gives the height of its upper edge."""
    settings, depth = sizes.settings, int(sizes.settings["depth"])
    copies = min(depth, 3) - 1
    top, rise = BLOCK_BOTTOM + BLOCK[1], 0.055 * copies
    canvas.box(
        (RIGHT, BLOCK_BOTTOM + BLOCK[1] / 2), BLOCK, "plain", tint=0.1, copies=copies
    )  # fmt: skip
    each = " each" if depth > 1 else ""
    canvas.text(
        (RIGHT, top - 0.14), f"transformer block, {settings['norm']}-norm",
        size=NAME, colour=style.INK,
    )  # fmt: skip
    canvas.text((RIGHT, top - 0.3), counted(sizes.parameters()["block"]) + each)
    canvas.text(
        (RIGHT + BLOCK[0] / 2 + rise + 0.06, top - BLOCK[1] / 2), f"× {depth}",
        size=TITLE, colour=style.INK, ha="left", bold=True,
    )  # fmt: skip
    heads = f"{sizes.heads} heads" if sizes.heads > 1 else "1 head"
    low, high = BLOCK_BOTTOM + 0.25, BLOCK_BOTTOM + 0.73
    canvas.box((RIGHT, low), INNER, "attention", f"attention: {heads} of {sizes.head_dim}")
    canvas.arrow((RIGHT, low + INNER[1] / 2), (RIGHT, high - INNER[1] / 2))
    canvas.box((RIGHT, high), INNER, "mlp", f"MLP: {sizes.dim} → {sizes.hidden} → {sizes.dim}")
    return top + rise


def _down(canvas: Canvas, x: float, start: float, end: float, label: str) -> None:
    canvas.arrow((x, start), (x, end))
    canvas.text((x + 0.08, (start + end) / 2), label, ha="left")


def _up(canvas: Canvas, start: float, end: float, label: str) -> None:
    canvas.arrow((RIGHT, start), (RIGHT, end))
    canvas.text((RIGHT + 0.08, (start + end) / 2), label, ha="left")
