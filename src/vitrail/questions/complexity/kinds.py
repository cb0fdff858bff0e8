"""Linear attention and attention in windows, set beside softmax attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from vitrail import style
from vitrail.claims import Claim, holds
from vitrail.efficiency import (
    crossover,
    linear_attention_crossover,
    window_attention_crossover,
)
from vitrail.questions.answer import markdown_table
from vitrail.questions.complexity.claims import told
from vitrail.questions.complexity.clock import Clock
from vitrail.questions.complexity.law import crossing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"linear": "linear attention", "window": "attention in windows"}
FASTER = "faster at all lengths"
SOFTMAX = {"fused": "softmax, fused", "naive": "softmax, written out"}
LOOKS = dict(zip(("fused", "naive", "linear", "window"), style.vits(4), strict=True))
NEARLY_LINEAR = 1.2  # an exponent below it


@dataclass(frozen=True)
class Crossing:
    """Where a kind of attention becomes faster than softmax attention.

    Attributes:
        n: the length, interpolated on log-log axes; NaN unless it is the only change.
        ratios: time of softmax attention over that of the other, by n.
    """

    n: float
    ratios: dict[int, float]

    @property
    def words(self) -> str:
        """For print."""
        if not math.isnan(self.n):
            return f"{self.n:,.0f}"
        faster = [ratio >= 1 for ratio in self.ratios.values()]
        if not faster:
            return "not timed"
        if all(faster):
            return FASTER
        return "no single length" if any(faster) else "slower at all lengths"


def crossings(clock: Clock) -> dict[tuple[str, str], Crossing]:
    """By (kind, form of softmax attention), at the first width."""
    width = clock.widths[0]
    found = {}
    for kind in NAMES:
        own = clock.seconds("attention", kind, width)
        for form in SOFTMAX:
            other = clock.seconds("attention", form, width)
            ratios = {n: other[n] / own[n] for n in sorted(own) if n in other}
            found[kind, form] = Crossing(only_rise(ratios), ratios)
    return found


def only_rise(ratios: dict[int, float]) -> float:
    """Where ratios rise past one, if they do so once and never fall below it again."""
    faster = [ratio >= 1 for ratio in ratios.values()]
    changes = [after for before, after in pairwise(faster) if after != before]
    return crossing(ratios) if changes == [True] else math.nan


def predicted(clock: Clock) -> dict[str, float]:
    """The same by multiply-accumulates, by kind."""
    width = clock.widths[0]
    return {
        "linear": linear_attention_crossover(width / clock.heads(width)),
        "window": window_attention_crossover(clock.window_size),
    }


def frame(clock: Clock) -> pd.DataFrame:
    """One row per kind: the crossover by MACs, and by the clock with each form of softmax."""
    found, macs = crossings(clock), predicted(clock)
    return pd.DataFrame(
        [
            {"kind": kind, "macs": macs[kind]} | {form: found[kind, form].n for form in SOFTMAX}
            for kind in NAMES
        ]
    )


def kinds_markdown(clock: Clock) -> str:
    """The table of crossovers."""
    found, macs = crossings(clock), predicted(clock)
    rows = [
        {
            "Attention": name,
            "MACs": f"{macs[kind]:g}",
            "Clock, softmax fused": found[kind, "fused"].words,
            "Clock, softmax written out": found[kind, "naive"].words,
        }
        for kind, name in NAMES.items()
    ]
    width = clock.widths[0]
    return markdown_table(
        pd.DataFrame(rows),
        "Number of tokens above which another attention costs less than softmax attention over all "
        f"tokens, width {width}, {clock.heads(width)} heads, forward pass, with the projections: "
        "in multiply-accumulates, and in time, interpolated between two lengths on log-log axes.",
        "q7-kinds",
    )


def lengths_beside(clock: Clock, tokens: int) -> tuple[int, int]:
    """The timed length nearest to a number of tokens, and the longest, that fit all kinds."""
    found = crossings(clock)
    linear, window = (found[kind, "fused"].ratios for kind in NAMES)
    sizes = [n for n in linear if n in window] or list(linear)
    return min(sizes, key=lambda n: abs(n - tokens)), max(sizes)


def times(ratios: dict[int, float], n: int, *, slower: bool = False) -> str:
    """How many times as fast as softmax attention, or as slow, in words."""
    if n not in ratios:
        return "an unknown number of times"
    factor = 1 / ratios[n] if slower else ratios[n]
    return f"{factor:.1f} times" if factor < 10 else f"{factor:.0f} times"


def claims(clock: Clock) -> list[Claim]:
    """Each kind crosses softmax attention, and is itself linear in n."""
    found = crossings(clock)
    return [
        make
        for kind in NAMES
        for make in (
            _crosses(kind, {form: found[kind, form] for form in SOFTMAX}),
            _is_linear(clock, kind),
        )
    ]


def _crosses(kind: str, found: dict[str, Crossing]) -> Claim:
    subject, fused = f"{NAMES[kind].capitalize()} is", found["fused"]
    outcome = None if math.isnan(fused.n) else True
    if fused.words == FASTER:  # while one that is slower at all lengths may cross beyond them
        outcome = False
    return holds(
        f"q7-{kind}-attention-crosses-over",
        f"{subject} slower than fused softmax attention for short sequences and faster for long "
        "ones.",
        "a single length at which the median times of the two cross, at the first width",
        "; ".join(f"{SOFTMAX[form]}: {crossed.words}" for form, crossed in found.items()),
        outcome,
        f"{subject} faster than fused softmax attention at all timed lengths.",
    )


def _is_linear(clock: Clock, kind: str) -> Claim:
    width = clock.widths[0]
    timed = clock.seconds("attention", kind, width)
    last = clock.slopes("attention", kind, width)[-1] if len(timed) > 1 else None
    outcome = None
    # Below this length the time of softmax attention is not far from linear either.
    if last is not None and last.n_from >= crossover(width, 0):
        outcome = True if last.high < NEARLY_LINEAR else None
        outcome = False if last.low >= NEARLY_LINEAR else outcome
    return holds(
        f"q7-{kind}-attention-is-linear",
        f"The time of {NAMES[kind]} is nearly linear in n for long sequences.",
        f"exponent between its two longest sequences below {NEARLY_LINEAR}, width {width}",
        "fewer than two lengths were timed" if last is None else told(last),
        outcome,
    )


def draw_kinds(clock: Clock) -> Figure:
    """Time of one sequence against n for every kind of attention."""
    import matplotlib.pyplot as plt

    width = clock.widths[0]
    drawing, axes = plt.subplots(figsize=(style.WIDTH, 3.1))
    sizes: list[int] = []
    for variant, look in LOOKS.items():
        rows = clock.rows("attention", variant, width)
        sizes = sorted({*sizes, *(int(n) for n in rows["n"])})
        name = (SOFTMAX | NAMES)[variant]
        if variant == "window":
            name += f", {clock.window_size} by {clock.window_size}"
        axes.plot(rows["n"], 1e3 * rows["median_seconds"], **look.plot, markersize=3.5, label=name)
        axes.fill_between(
            rows["n"], 1e3 * rows["q25_seconds"], 1e3 * rows["q75_seconds"], color=look.colour,
            alpha=0.25,
        )  # fmt: skip
    axes.set(xlabel="tokens n", ylabel="time of a sequence (ms)")
    style.plain_log_ticks(axes)
    style.token_ticks(axes, sizes)
    axes.legend(loc="upper left")
    return drawing
