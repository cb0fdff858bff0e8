"""Q7's figures of the law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.efficiency import attention_macs, block_macs, quadratic_share, vit_macs
from vitrail.questions.complexity.clock import Clock, near_reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FUSED, _WRITTEN_OUT, _BLOCK = style.vits(3)
LOOKS = {  # what is drawn, how, and its name
    ("block", "fused"): (_BLOCK, "block, fused"),
    ("attention", "naive"): (_WRITTEN_OUT, "attention, written out"),
    ("attention", "fused"): (_FUSED, "attention, fused"),
}
DASHES: dict[str, Any] = {"color": style.GUIDE, "linestyle": "--", "linewidth": 1.2}
DOTS: dict[str, Any] = {"linestyle": ":", "linewidth": 1.2}


def draw_time(clock: Clock) -> Figure:
    """Time of one sequence against n, a panel per width, with the formula's curves."""
    import matplotlib.pyplot as plt

    drawing, panels = plt.subplots(
        1, len(clock.widths), figsize=(style.WIDTH, 3.1), squeeze=False, sharex=True
    )
    for axes, width in zip(panels[0], clock.widths, strict=True):
        sizes: list[int] = []
        for (what, variant), (look, name) in LOOKS.items():
            rows = clock.rows(what, variant, width)
            sizes = sorted({*sizes, *(int(n) for n in rows["n"])})
            axes.plot(
                rows["n"], 1e3 * rows["median_seconds"], **look.plot, markersize=3.5, label=name
            )
            axes.fill_between(
                rows["n"], 1e3 * rows["q25_seconds"], 1e3 * rows["q75_seconds"], color=look.colour,
                alpha=0.25,
            )  # fmt: skip
        for what in ("block", "attention"):
            n, curve = _formula(clock, what, width, sizes)
            label = "formula" if what == "block" else None
            axes.plot(n, curve, **DASHES, label=label, zorder=3)
        axes.set(title=f"width {width}, {clock.heads(width)} heads", xlabel="tokens n")
        style.plain_log_ticks(axes)
        _token_axis(axes, sizes)
    panels[0, 0].set_ylabel("time of a sequence (ms)")
    panels[0, 0].legend(loc="upper left")
    return drawing


def _formula(clock: Clock, what: str, width: int, sizes: list[int]) -> tuple[Any, Any]:
    """(n, milliseconds): the MACs, scaled to the measured fused time at one length."""
    seconds = clock.seconds(what, "fused", width)
    at = near_reference(sorted(seconds))
    n = np.geomspace(sizes[0], sizes[-1], 100)
    ratio = clock.mlp_ratio

    def macs(size: float) -> float:
        scaled = round(1000 * size)  # the formulas take whole numbers
        linear = block_macs(1, width, ratio) - 2 * width
        if what == "attention":
            linear = attention_macs(1, width) - 2 * width
        return linear * scaled / 1000 + 2 * width * (scaled / 1000) ** 2

    return n, 1e3 * seconds[at] / macs(at) * np.array([macs(size) for size in n])


def draw_exponents(clock: Clock, steps: pd.DataFrame) -> Figure:
    """Measured exponents beside the two predictions: rows are widths, columns block, attention."""
    import matplotlib.pyplot as plt

    count = len(clock.widths)
    drawing, panels = plt.subplots(
        count, 2, figsize=(style.WIDTH, 1.0 + 2.0 * count), squeeze=False, sharex=True, sharey=True
    )
    for line, width in zip(panels, clock.widths, strict=True):
        for axes, what in zip(line, ("block", "attention"), strict=True):
            mine = steps[(steps["embed_dim"] == width) & (steps["what"] == what)]
            for variant, part in mine.groupby("variant", sort=False):
                look, name = LOOKS[what, str(variant)]
                middle = np.sqrt(part["n_from"] * part["n_to"])
                shift = 1.03 if variant == "naive" else 1 / 1.03 if what == "attention" else 1
                around = [part["slope"] - part["low"], part["high"] - part["slope"]]
                axes.errorbar(
                    middle * shift, part["slope"], yerr=np.clip(around, 0, None),
                    color=look.colour, marker=look.marker, markersize=3.5, capsize=2.5,
                    linestyle="none", label=name,
                )  # fmt: skip
                if variant == "fused":
                    axes.plot(middle, part["predicted"], **DASHES, label="formula (MACs)")
                label = "two terms timed apart" if variant == "fused" else None
                axes.plot(middle, part["weighted"], **DOTS, color=look.colour, label=label)
            axes.axhline(2, color=style.GRID, zorder=0)
            axes.set_title(f"{what}, width {width}")
            _token_axis(axes, sorted({*mine["n_from"], *mine["n_to"]}))
        line[0].set_ylabel("local exponent")
    for axes in panels[-1]:
        axes.set_xlabel("tokens n")
    named: dict[str, Any] = {}
    for axes in panels[0]:
        lines, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, lines, strict=True))
    drawing.legend(handles=list(named.values()), loc="outside lower center", ncols=3)
    low, high = steps["low"].min(), steps["high"].max()
    panels[0, 0].set_ylim(min(0.8, low - 0.05), max(2.5, high + 0.05))
    return drawing


def draw_memory(clock: Clock) -> Figure:
    """Peak memory of attention on one sequence: forward, and forward and backward."""
    import matplotlib.pyplot as plt

    width = clock.widths[0]
    titles = {"forward": "forward", "train": "forward and backward"}
    modes = [mode for mode in titles if len(clock.rows("attention", "fused", width, mode))]
    drawing, panels = plt.subplots(
        1, len(modes), figsize=(style.WIDTH * len(modes) / 2, 2.8), squeeze=False, sharey=True
    )
    for axes, mode in zip(panels[0], modes, strict=True):
        for variant, power in (("naive", 2), ("fused", 1)):
            look, name = LOOKS["attention", variant]
            rows = clock.rows("attention", variant, width, mode)
            axes.plot(
                rows["n"], rows["peak_mib"], **look.plot, markersize=3.5,
                label=name.removeprefix("attention, "),
            )  # fmt: skip
            n, last = rows["n"].astype(float), rows.iloc[-1]
            guide = last["peak_mib"] * (n / last["n"]) ** power
            axes.plot(n, guide, **DASHES, zorder=0, label="n² and n" if power == 1 else None)
        axes.set(title=titles[mode], xlabel="tokens n")
        style.plain_log_ticks(axes)
        _token_axis(axes, [int(n) for n in clock.rows("attention", "fused", width, mode)["n"]])
    panels[0, 0].set_ylabel("peak memory (MiB)")
    panels[0, 0].legend()
    return drawing


def draw_shares(clock: Clock) -> Figure:
    """How a block's work divides into n d² and n² d, and how the time of the two does."""
    import matplotlib.pyplot as plt

    drawing, panels = plt.subplots(
        1, len(clock.widths), figsize=(style.WIDTH, 2.6), squeeze=False, sharex=True, sharey=True
    )
    for axes, width in zip(panels[0], clock.widths, strict=True):
        linear = clock.seconds("linear", "", width)
        sizes = sorted(linear)
        n = np.geomspace(sizes[0], sizes[-1], 100)
        quadratic = 100 * np.array([quadratic_share(size, width, clock.mlp_ratio) for size in n])
        axes.stackplot(
            n, quadratic, 100 - quadratic, colors=["#d9d2ea", "#e6ebee"],
            labels=["n²d of the MACs", "nd² of the MACs"],
        )  # fmt: skip
        for variant in ("fused", "naive"):
            look, name = LOOKS["attention", variant]
            products = clock.seconds("products", variant, width)
            both = [size for size in sizes if size in products]
            axes.plot(
                both, [100 * products[s] / (products[s] + linear[s]) for s in both],
                color=look.colour, marker=look.marker, markersize=3.5, linestyle="none",
                label=f"products' time, {name.removeprefix('attention, ')}",
            )  # fmt: skip
        axes.set(title=f"width {width}", xlabel="tokens n", ylim=(0, 100), xlim=(n[0], n[-1]))
        _token_axis(axes, sizes)
        axes.grid(visible=False)
    panels[0, 0].set_ylabel("share (%)")
    drawing.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawing


def draw_model(clock: Clock, sizes: dict[str, Any]) -> Figure:
    """The whole model at several patch sizes, time of an image; `sizes` are for `vit_macs`."""
    import matplotlib.pyplot as plt

    rows = clock.table[clock.table["what"] == "model"].dropna(subset=["median_seconds"])
    drawing, axes = plt.subplots(figsize=(style.WIDTH, 2.8))
    names = {"forward": "forward", "train": "forward and backward"}
    looks = dict(zip(names, style.vits(len(names)), strict=True))
    first = int(rows["threads"].iloc[0])
    for (mode, threads), line in rows.groupby(["pass", "threads"], sort=False):
        line = line.sort_values("n")
        axes.plot(
            line["n"], 1e3 * line["median_seconds"], marker=looks[str(mode)].marker, markersize=3.5,
            color=looks[str(mode)].colour, linestyle="-" if threads == first else ":",
            label=f"{names[str(mode)]}, {threads} thread{'s' if threads != 1 else ''}",
        )  # fmt: skip
        if mode == "forward" and threads == first:
            macs = np.array(
                [vit_macs(**sizes, patch_size=int(p))["total"] for p in line["patch_size"]]
            )
            scale = 1e3 * line["median_seconds"].iloc[-1] / macs[-1]
            axes.plot(line["n"], scale * macs, **DASHES, zorder=0, label="formula")
    axes.set(xlabel="tokens n", ylabel="time of an image (ms)")
    style.plain_log_ticks(axes)
    style.token_ticks(axes, sorted(int(n) for n in rows["n"].unique()))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawing


def _token_axis(axes: Axes, sizes: list[int]) -> None:
    """Logarithmic, with a tick at the measured powers of two, or at all where few are."""
    powers = [n for n in sizes if n & (n - 1) == 0]
    style.token_ticks(axes, powers if len(powers) > 2 else sizes)
