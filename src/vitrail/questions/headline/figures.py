"""The figures of the headline run: learning curve, confusions, calibration, misread digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vitrail import style
from vitrail.label_errors import LABEL_ERRORS, LabelError
from vitrail.questions.headline.scores import Calibration, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 12  # of the gallery
PER_FIGURE = 120  # misread digits, ten rows: they fit on a page with their caption
SHOWN = 300  # of all; a network with more errors is not looked at digit by digit
AS_RATERS, KNOWN = "★", "†"  # marks of a known label error


def mark(error: LabelError | None, answer: int) -> str:
    """The sign of a known label error: did the network say what the raters say?"""
    if error is None:
        return ""
    return AS_RATERS if answer == error.agreed else KNOWN


def draw_curve(curves: list[pd.DataFrame]) -> Figure:
    """Left: losses. Right: validation error. Below images seen, above minutes of training.

    Args:
        curves: one per seed, with samples, minutes, train_loss, val_loss and val_accuracy.
    """
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 2.9))
    for seed, curve in enumerate(curves):
        for column, colour, label in (
            ("train_loss", style.GUIDE, "training"),
            ("val_loss", style.VIT, "validation"),
        ):
            left.plot(
                curve["samples"], curve[column], color=colour, label=None if seed else label,
                marker="o", markersize=2.5, alpha=1 if not seed else 0.45,
            )  # fmt: skip
        right.plot(
            curve["samples"], 100 * (1 - curve["val_accuracy"]), color=style.VIT,
            marker="o", markersize=2.5, alpha=1 if not seed else 0.45,
        )  # fmt: skip
    left.set_ylabel("cross-entropy (nats)")
    right.set_ylabel("validation error (%)")
    left.legend()
    for axes in (left, right):
        style.plain_log_ticks(axes)
        axes.set_xlim(left=0)
        axes.set_xlabel("training images seen")
        axes.xaxis.set_major_locator(plt.MaxNLocator(4))
        axes.xaxis.set_major_formatter(_thousands)
        add_minutes(axes, curves[0])
    style.set_apart(drawing)
    return drawing


def _thousands(value: float, _: int) -> str:
    if not value:
        return "0"
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"


def add_minutes(axes: Axes, curve: pd.DataFrame) -> None:
    """A second x axis with the minutes of training that the first seed took so far."""
    import matplotlib.pyplot as plt

    samples = np.array([0, *curve["samples"]], dtype=float)
    minutes = np.array([0, *curve["minutes"]], dtype=float)
    # Beyond the last evaluation both axes go on at the mean speed.
    samples, minutes = np.append(samples, 2 * samples[-1]), np.append(minutes, 2 * minutes[-1])

    def to_minutes(value: ArrayLike) -> ArrayLike:
        return np.interp(np.asarray(value, dtype=float), samples, minutes)

    def to_samples(value: ArrayLike) -> ArrayLike:
        return np.interp(np.asarray(value, dtype=float), minutes, samples)

    above = axes.secondary_xaxis("top", functions=(to_minutes, to_samples))
    above.set_xlabel("minutes of training")
    above.xaxis.set_major_locator(plt.MaxNLocator(4))
    above.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def draw_confusion(predictions: Predictions) -> Figure:
    """Labels by answers: colour for the errors alone, counts everywhere, sums at the edges."""
    import matplotlib.pyplot as plt

    table = predictions.confusion()
    digits = len(table)
    errors = table.copy()
    np.fill_diagonal(errors, 0)
    most = max(5, int(errors.max()))  # a single error stays pale
    shade = np.ma.masked_where(np.eye(digits, dtype=bool), errors)
    colours = plt.get_cmap("Oranges").with_extremes(bad=style.GRID)
    drawing, axes = plt.subplots(figsize=(style.WIDTH, 4.0))
    axes.imshow(shade, cmap=colours, vmin=0, vmax=most)
    for row in range(digits):
        for column in range(digits):
            value = int(table[row, column])
            dark = row != column and value > 0.6 * most
            text = f"{value:,}" if value else "·"
            axes.text(
                column, row, text, ha="center", va="center",
                color="white" if dark else style.INK,
                fontsize=style.SMALL if row == column else style.TEXT,
                fontweight="normal" if row == column or not value else "bold",
            )  # fmt: skip
    edge: dict[str, Any] = {"ha": "center", "va": "center"}
    for digit in range(digits):
        axes.text(digits + 0.1, digit, f"{errors[digit].sum():,}", **edge)
        axes.text(digit, digits + 0.1, f"{errors[:, digit].sum():,}", **edge)
    axes.text(digits + 0.1, -0.75, "errors", ha="center", va="bottom")
    axes.text(digits + 0.1, digits + 0.1, f"{errors.sum():,}", ha="center", va="center",
              fontweight="bold")  # fmt: skip
    axes.text(-0.75, digits + 0.1, "errors", ha="right", va="center")
    axes.set_xticks(range(digits))
    axes.set_yticks(range(digits))
    axes.set(xlim=(-0.5, digits + 0.6), ylim=(digits + 0.6, -0.5), ylabel="given label")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.set_xlabel("answer of the network")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return drawing


def draw_calibration(predictions: Predictions, calibration: Calibration) -> Figure:
    """Left: error rate against doubt. Right: errors that remain when the unsure ones go."""
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.0))
    _draw_reliability(left, calibration.bins)
    order = np.argsort(-predictions.doubt, kind="stable")
    wrong, doubt = ~predictions.right[order], predictions.doubt[order]
    aside = np.arange(1, len(order))
    for values, colour, line, label in (
        (doubt, style.GUIDE, "--", "predicted"),
        (wrong, style.VIT, "-", "observed"),
    ):
        remaining = values.sum() - np.cumsum(values)[:-1]
        right.plot(aside, remaining, line, color=colour, label=label)
    right.set(xscale="log", xlabel="least sure images set aside", ylabel="errors that remain")
    right.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    right.set_ylim(bottom=0)
    right.legend()
    style.set_apart(drawing)
    return drawing


def _draw_reliability(axes: Axes, bins: pd.DataFrame) -> None:
    """Bins with errors as points with Wilson's interval, bins without as an upper limit."""
    doubt = np.maximum(bins["predicted_error"], 1e-7)  # a logarithmic axis has no zero
    some = bins["errors"] > 0
    rate = bins["observed_error"]
    axes.errorbar(
        doubt[some], rate[some], yerr=[(rate - bins["low"])[some], (bins["high"] - rate)[some]],
        fmt="o", markersize=4.5, capsize=2.5, color=style.VIT, label="with errors",
    )  # fmt: skip
    if not some.all():
        axes.plot(
            doubt[~some], bins["high"][~some], "v", markersize=6, fillstyle="none",
            color=style.VIT, label="no error: upper limit",
        )  # fmt: skip
    ends = (1e-7, 1)
    axes.plot(ends, ends, "--", color=style.GUIDE, linewidth=1.2, zorder=1)
    smallest = min(bins["low"][some].min() if some.any() else 1, bins["high"].min())
    axes.set(
        xscale="log", yscale="log", ylim=(min(max(smallest, 1e-5) / 2, 0.01), 1.4),
        xlim=(min(doubt.min() / 2, 0.01), 1.4),
        xlabel="1 − confidence (mean of the bin)", ylabel="observed share of errors",
    )  # fmt: skip
    axes.legend(loc="upper left")


def gallery(predictions: Predictions) -> dict[str, NDArray[np.intp]]:
    """The misread digits that each figure of the gallery draws, by its name; the surest first."""
    shown = predictions.wrong[:SHOWN]
    starts = range(0, len(shown), PER_FIGURE)
    return {
        "headline_gallery" + (f"_{number}" if start else ""): shown[start : start + PER_FIGURE]
        for number, start in enumerate(starts, start=1)
    }


def draw_gallery(images: np.ndarray, predictions: Predictions, shown: NDArray[np.intp]) -> Figure:
    """Misread test digits: label, answer, probability of the answer.

    Args:
        images: of the test set, (images, 28, 28).
        predictions: on the same images.
        shown: indices of those to draw.
    """
    import matplotlib.pyplot as plt

    known = {error.index: error for error in LABEL_ERRORS}
    rows = -(-len(shown) // COLUMNS)
    drawing, grid = plt.subplots(
        rows, COLUMNS, figsize=(style.WIDTH, 0.3 + 0.72 * rows), squeeze=False
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, shown, strict=False):
        error, answer = known.get(int(index)), int(predictions.answers[index])
        sign = mark(error, answer)
        _draw_digit(axes, images[index], framed=error is not None)
        axes.set_title(
            f"{predictions.labels[index]}→{answer}{sign}\n{chance(predictions, index)}",
            fontsize=style.SMALL, loc="center", pad=2, linespacing=1.05,
        )  # fmt: skip
    return drawing


def draw_label_errors(images: np.ndarray, predictions: Predictions) -> Figure:
    """The known label errors, each with its label, the raters' votes and the answer."""
    import matplotlib.pyplot as plt

    columns = 8
    rows = -(-len(LABEL_ERRORS) // columns)
    drawing, grid = plt.subplots(rows, columns, figsize=(style.WIDTH, 1.25 * rows), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, error in zip(grid.flat, LABEL_ERRORS, strict=False):
        answer = int(predictions.answers[error.index])
        agrees = answer == error.agreed
        _draw_digit(axes, images[error.index], framed=agrees)
        axes.set_title(
            f"label {error.given}\nraters {votes(error)}\n"
            f"ViT {answer} {chance(predictions, error.index)}{AS_RATERS if agrees else ''}",
            fontsize=style.SMALL, loc="center", pad=3, linespacing=1.1,
        )  # fmt: skip
    return drawing


def votes(error: LabelError) -> str:
    """What each rater saw, a question mark for neither digit: "66600" or "9944?"."""
    given, proposed = str(error.given), str(error.proposed)
    seen = [
        (error.votes_proposed, proposed),
        (error.votes_given, given),
        (error.votes_neither, "?"),
    ]
    return "".join(digit * count for count, digit in sorted(seen, key=lambda vote: -vote[0]))


def chance(predictions: Predictions, index: int) -> str:
    """The probability of an answer; what is not one is not printed as one."""
    return f"{min(predictions.confidence[index], 0.999):.3f}".removeprefix("0")


def _draw_digit(axes: Axes, image: np.ndarray, framed: bool) -> None:
    """A digit, with a frame in colour when it is marked."""
    axes.imshow(image, cmap=style.DIGITS)
    if not framed:
        return
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.MARK, linewidth=1.8)
