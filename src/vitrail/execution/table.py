"""From measured ways to the table: one row per way, each beside its baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vitrail.execution.rounds import paired_ratio
from vitrail.execution.ways import Way, largest_difference

COLUMNS = [
    *("name", "group", "mode", "baseline", "detail", "batch_size", "rounds"),
    *("seconds_per_image", "seconds_q25", "seconds_q75", "time_ratio", "time_low", "time_high"),
    *("setup_seconds", "peak_mib", "memory_ratio", "trainable_parameters"),
    *("images", "accuracy", "accuracy_points", "logit_difference", "gradient_difference", "reason"),
]


def table(ways: Sequence[Way]) -> pd.DataFrame:
    """One row per way (COLUMNS; the package's docstring says what they hold)."""
    by_name = {(way.group, way.name): way for way in ways}
    rows = [row(way, by_name[way.group, way.baseline]) for way in ways]
    counts = dict.fromkeys(("trainable_parameters", "images"), "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(counts)


def row(way: Way, baseline: Way) -> dict[str, Any]:
    """The figures of a way; what was not measured is missing."""
    per_image = np.array(way.seconds or [math.nan]) / way.batch_size
    q25, median, q75 = np.quantile(per_image, [0.25, 0.5, 0.75])
    both = bool(way.seconds and baseline.seconds)
    ratio, low, high = paired_ratio(*((way.seconds, baseline.seconds) if both else ([], [])))
    logits, gradients = math.nan, math.nan
    if way.results and baseline.results:
        difference = largest_difference(way.results[-1], baseline.results[-1])
        if way.mode == "forward":
            logits = difference
        else:
            gradients = difference / max(one.abs().max().item() for one in baseline.results[-1])
    return {
        **{name: getattr(way, name) for name in ("name", "group", "mode", "baseline", "detail")},
        "batch_size": way.batch_size,
        "rounds": len(way.seconds),
        "seconds_per_image": median,
        "seconds_q25": q25,
        "seconds_q75": q75,
        "time_ratio": ratio,
        "time_low": low,
        "time_high": high,
        "setup_seconds": way.setup_seconds,
        "peak_mib": way.peak_mib,
        "memory_ratio": way.peak_mib / baseline.peak_mib,
        "trainable_parameters": way.parameters or pd.NA,
        "images": way.images or pd.NA,
        "accuracy": way.accuracy,
        "accuracy_points": 100 * (way.accuracy - baseline.accuracy),
        "logit_difference": logits,
        "gradient_difference": gradients,
        "reason": way.reason,
    }
