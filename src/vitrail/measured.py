"""What in the results of a study a clock or a meter has measured, and no run can repeat.

Everything else is computed: on one machine, from the same commit, config and data, it is the
same to the last bit in every run (`vitrail.hashes` compares it). The patterns are of paths
below ``results/<study>``; a star stands for any part of a path.
"""

from __future__ import annotations

import csv
import io
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

# Files that hold nothing else, or so little that it is not told apart.
FILES = (
    "runs/*/timing.csv",
    "runs/*/env.json",  # load of the machine
    "pretraining/*/timing.csv",
    "pretraining/*/env.json",
    "timing/*",
    "execution/*",
    "training_memory.csv",
    "input_seconds.csv",
    "reduction/env.json",
    "*.csv.sha256",  # of tables that are compared themselves
    "q6_vit/answer.md",  # how long the base ViT trained
    "q6_vit/tables/claims.md",  # compared in claims.json
    "q6_vit/tables/headline_page.md",  # how long the headline run trained
    "q6_vit/figures/cost.svg",  # one panel is of images per second
    "q6_vit/figures/headline_curve.svg",  # over minutes
    "q8_transfer/figures/learning_curves.svg",  # one panel is over seconds
    "q7_complexity/table.csv",
    "q7_complexity/ways.csv",
    "q7_complexity/exponents.csv",
    "q7_complexity/crossovers.csv",
    "q7_complexity/kinds.csv",
    "q7_complexity/answer.md",
    "q7_complexity/opening.json",
    "*/explore/reduction.json",  # images per second beside the MACs
    "q7_complexity/tables/claims.md",  # compared in claims.json
    "q7_complexity/tables/crossovers.md",
    "q7_complexity/tables/exponents.md",
    "q7_complexity/tables/kinds.md",
    "q7_complexity/tables/ways_*.md",
    "q7_complexity/figures/exponents.svg",
    "q7_complexity/figures/gains.svg",
    "q7_complexity/figures/kinds.svg",
    "q7_complexity/figures/memory.svg",
    "q7_complexity/figures/model.svg",  # the formula over what was timed
    "q7_complexity/figures/reduction.svg",
    "q7_complexity/figures/shares.svg",
    "q7_complexity/figures/time.svg",
    "study/costs.csv",
    "study/tables/costs.md",
    "study/tables/claims.md",  # compared in claims.csv
    "study/tables/answers.md",  # Q7's row; the others are compared in answers.csv
)

# Those of a run, or a pretraining, whose checksums its summary keeps.
MEASURED_SIBLINGS = ("timing.csv", "env.json")

# Columns of any table, keys of a run's summary, and headings of the report's tables.
COLUMNS = frozenset(
    {
        "seconds", "minutes", "train_seconds", "test_seconds", "pretraining_seconds",
        "peak_memory_mb", "device_peak_memory_mb", "peak_mib", "train_samples_per_second",
        "samples_per_second", "images_per_second", "images_per_second_one",
    }
)  # fmt: skip
HEADINGS = frozenset(
    {
        "Images/s", "Images/s, 100", "Images/s, 1", "s per 1,000, training",
        "s per 1,000, inference", "Memory (MB)", "ms per image", "Trained for", "Seconds",
        "Pretraining (s)",
    }
)  # fmt: skip

# Captions say how busy the machine was.
LOAD = re.compile(r"load average [\d.]+")

# Rows by the value in their first of these columns.
CLAIMS = (
    "q6-no-better-and-cheaper-samples-per-second",
    "q7-quadratic-for-long-sequences",
    "q7-not-quadratic-at-mnist-sizes",
    "q7-fused-*",
    "q7-slopes-as-predicted",
    "q7-crossover-as-predicted",
    "q7-linear-attention-*",
    "q7-window-attention-*",
    "q7-checkpointing-trades-time-for-memory",
    "q7-two-processes-are-faster",
    "q7-some-training-is-sooner",
)
ROWS = {"q7_complexity": ("study/answers.csv",)}  # the answer in short quotes the clock

# Numbers that prose quotes, by their dotted name.
NUMBERS = (
    "*images_per_second",
    "*seconds",
    "*minutes*",
    "q7_complexity/block_*",
    "q7_complexity/crossover",
    "q7_complexity/fused_*",
    "q7_complexity/hardware",
    "q7_complexity/kinds_*",
    "q7_complexity/linear_*",
    "q7_complexity/naive_*",
    "q7_complexity/products_speedup",
    "q7_complexity/reduction.speed*",
    "q7_complexity/slope_at_base",
    "q7_complexity/speedup_at_reference",
    "q7_complexity/window_speedup",
    "q7_complexity/window_time",
    "q7_complexity/ways*",
    "study/supported",  # verdicts counted, those on clocks among them
    "study/refuted",
    "study/undecided",
)


def computed(path: Path, name: str) -> bytes | None:
    """The content of a file without what was measured; None when nothing is left.

    Args:
        path: the file.
        name: its path below ``results/<study>``, with slashes.
    """
    if _matches(name, FILES):
        return None
    content = path.read_bytes()
    if name.endswith("summary.json") or _matches(name, ("reduction/*.json",)):
        return _without_keys(content)
    if name.endswith("sources.json"):  # its checksums are of files that are compared themselves
        return _as_json({key: kept for key, kept in json.loads(content).items() if key != "files"})
    if name.endswith("numbers.json"):
        return _without_numbers(content, name.partition("/")[0])
    if name.endswith("claims.json"):
        kept = [claim for claim in json.loads(content) if not _matches(claim["id"], CLAIMS)]
        return _as_json(kept)
    if name.endswith(".csv"):
        return _without_columns(content.decode(), name)
    if name.endswith(".md"):
        return _without_headings(content.decode())
    return content


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _as_json(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _without_keys(content: bytes) -> bytes:
    """A summary; the checksums of what was measured go with it, and that of the whole."""
    left_out = COLUMNS | {"checksum"}
    summary = {key: value for key, value in json.loads(content).items() if key not in left_out}
    for name in MEASURED_SIBLINGS:
        summary.get("files", {}).pop(name, None)
    return _as_json(summary)


def _without_numbers(content: bytes, stem: str) -> bytes:
    flat: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else name)
        elif not _matches(key, NUMBERS) and not _matches(f"{stem}/{key}", NUMBERS):
            flat[key] = value

    walk(json.loads(content), "")
    return _as_json(flat)


def _without_columns(text: str, name: str) -> bytes:
    rows = list(csv.reader(io.StringIO(text)))
    header = rows[0] if rows else []
    kept = [i for i, column in enumerate(header) if column not in COLUMNS]
    identity = next((i for i, column in enumerate(header) if column in ("id", "stem")), None)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        if identity is not None and (
            _matches(row[identity], CLAIMS) or name in ROWS.get(row[identity], ())
        ):
            continue
        writer.writerow([row[i] for i in kept])
    return out.getvalue().encode()


def _without_headings(text: str) -> bytes:
    """Markdown whose tables have lost the columns under measured headings."""
    lines, dropped = [], set[int]()
    for line in text.splitlines():
        if not line.startswith("|"):
            lines.append(LOAD.sub("", line))
            dropped = set()
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if not dropped:
            dropped = {i for i, cell in enumerate(cells) if cell in HEADINGS}
        lines.append("|".join(cell for i, cell in enumerate(cells) if i not in dropped))
    return "\n".join(lines).encode()
