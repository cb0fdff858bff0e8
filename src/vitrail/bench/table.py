"""The rows of a measurement: as CSV, and as Markdown for README.md and docs/benchmarks.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from vitrail.bench.contestants import Contestant
from vitrail.bench.turns import Peaks

COLUMNS = (
    *("task", "name", "library", "loop", "optimizer", "precision", "batch_size", "rounds"),
    *("images", "images_per_second", "low", "high", "ours_times", "ours_times_low"),
    *("ours_times_high", "parameters", "macs", "gflops", "peak_gflops", "share_of_peak", "reason"),
)
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
# name in the training task -> (words of the README, name in the inference task)
SHOWN = {
    "ours": ("**ours**, in our loop", "ours"),
    "timm, tutorial": ("timm `VisionTransformer`, tutorial loop", "timm"),
    "vit-pytorch, tutorial": ("vit-pytorch `ViT`, tutorial loop", "vit-pytorch"),
    "transformers, Trainer": (
        "Hugging Face `ViTForImageClassification`, `Trainer`", "transformers",
    ),
    "timm in our loop": ("timm `VisionTransformer`, our loop", ""),
}  # fmt: skip
LARGE = {"ViT-S, ours": "**ours**, in our loop", "ViT-S, timm in our loop": "timm, our loop"}
FACTS = (
    "One core of {hardware} ({cores}), {rounds} in turns, in seconds that the "
    "core gave to the process; torch {torch}, timm {timm}, vit-pytorch {vit_pytorch}, transformers "
    "{transformers}, commit `{commit}`. The peak is that of a matrix product: {peak} GFLOP/s in "
    "fp32{bf16}. Written by `make bench`."
)
UNMEASURED = f"{BEGIN}\nNo numbers here yet: `make bench` writes them.\n{END}"
Row = dict[str, Any]


def rows(found: Sequence[Contestant], peaks: Peaks) -> list[Row]:
    """One row for each contestant, by COLUMNS; without turns its numbers are NaN.

    Images per second and shares are medians over the rounds with the lowest and highest of them;
    `ours_times` is how many times as fast the first contestant of the same task and batch size
    is, taken within each round.
    """
    made = []
    for one in found:
        rivals = (o for o in found if (o.task, o.batch_size) == (one.task, one.batch_size))
        first = next(rivals).seconds
        peak = peaks.get(one.settings["precision"], [])
        rates = _spread([one.images / s for s in one.seconds])
        ratios = _spread([mine / ref for mine, ref in zip(one.seconds, first, strict=False)])
        shares = _spread([one.flops / s / p for s, p in zip(one.seconds, peak, strict=False)])
        row = (
            one.task, one.name, one.library, one.loop, one.optimizer, one.settings["precision"],
            one.batch_size, len(one.seconds), one.images, *rates, *ratios, one.parameters,
            one.macs, rates[0] * one.flops / one.images / 1e9, _spread(peak)[0] / 1e9, shares[0],
            one.reason,
        )  # fmt: skip
        made.append(dict(zip(COLUMNS, row, strict=True)))
    return made


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, lowest, highest); NaN of none."""
    return (median(values), min(values), max(values)) if values else (math.nan,) * 3


def readme_block(made: Sequence[Row], facts: dict[str, str]) -> str:
    """The short table between its marks: who trains and infers how fast, then ViT-S."""
    train = {row["name"]: row for row in made if row["task"] == "train"}
    infer = {(row["name"], row["batch_size"]): row for row in made if row["task"] == "infer"}
    ours = train["ours"]
    lines = [
        f"| The base ViT ({ours['parameters']:,} parameters) | Training, images/s | Ours is "
        "| Share of the peak | Inference, images/s, 100 at a time | One at a time |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for name, (words, forward) in SHOWN.items():
        row = train[name]
        if row["reason"]:
            lines.append(f"| {words} | {row['reason']} | | | | |")
            continue
        pair = [_rate(infer[forward, size]) if forward else "" for size in (100, 1)]
        lines.append(
            f"| {words} | {_rate(row)} | {_times(row)} | {_percent(row)} | {' | '.join(pair)} |"
        )
    large = {row["name"]: row for row in made if row["task"] == "train ViT-S"}
    for name, who in LARGE.items():
        row = large[name]
        words = f"{who}: ViT-S in {row['precision']}"
        if row["reason"]:
            lines.append(f"| {words} | {row['reason']} | | | | |")
            continue
        words = f"{words} ({row['parameters']:,} parameters)"
        lines.append(f"| {words} | {_rate(row)} | {_times(row)} | {_percent(row)} |  |  |")
    return "\n".join([BEGIN, *lines, "", FACTS.format_map(facts), END])


def full_block(made: Sequence[Row], facts: dict[str, str]) -> str:
    """The whole table between its marks, with the spread of the rounds."""
    lines = [
        "| Task | Who | Loop, optimiser | Batch | Precision | Parameters | Images/s (lowest to "
        "highest) | Ours is | GFLOP/s | Share of the peak |",
        "|:--|:--|:--|--:|:--|--:|--:|--:|--:|--:|",
    ]
    for row in made:
        loop = ", ".join(filter(None, (row["loop"], row["optimizer"])))
        start = f"| {row['task']} | {row['name']} | {loop} | {row['batch_size']} "
        start += f"| {row['precision']} "
        if row["reason"]:
            lines.append(f"{start}| | {row['reason']} | | | |")
            continue
        span = f"({_count(row['low'])} to {_count(row['high'])})"
        lines.append(
            f"{start}| {row['parameters']:,} | {_rate(row)} {span} "
            f"| {_times(row)} ({row['ours_times_low']:.2f} to {row['ours_times_high']:.2f}) "
            f"| {row['gflops']:.1f} | {_percent(row)} |"
        )
    return "\n".join([BEGIN, *lines, "", FACTS.format_map(facts), END])


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _rate(row: Row) -> str:
    return "" if row["reason"] else _count(row["images_per_second"])


def _times(row: Row) -> str:
    return f"{row['ours_times']:.2f} × as fast"


def _percent(row: Row) -> str:
    return f"{100 * row['share_of_peak']:.0f} %"
