"""What each stage of the study cost, in core-seconds, from the logs and the run folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from vitrail.config import STEMS
from vitrail.cost import told
from vitrail.files import read_json
from vitrail.opening import ASKED
from vitrail.questions.answer import markdown_table

# Stage, its logs below results/<study>/logs, and the file that has its own seconds, if any.
BEFORE = (
    ("Fetching MNIST, looking for weights", ("../../logs/mnist.log", "weights/*.log"), ""),
    ("Pretraining", ("pretrain/*.log",), "pretraining/*/summary.json"),
)
AFTER = (
    ("Timing attention", ("timing.log",), "timing/env.json"),
    ("Computing a network in every way", ("execution.log",), "execution/env.json"),
    ("Memory of training steps", ("step_memory.log",), ""),
    ("Timing ViT-S on images of several sizes", ("input_seconds.log",), ""),
    ("Fewer tokens", ("thresholds_*.log", "reduction.log"), ""),
    ("Answering the questions", tuple(f"{stem}.log" for stem in STEMS), ""),
    ("The record in MLflow", ("mlflow_store.log", "question_runs_*.log", "track_*.log"), ""),
    ("Tables of the study, rule graph", ("*_table.log", "rule_graph.log"), ""),
)


def costs(folder: Path, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per stage: stage, jobs, core_seconds and inside.

    `core_seconds` are those of all processes of the stage, with what starting them takes, as
    the logs tell it; NaN where a job has not told. `inside` are the seconds that a stage has
    measured itself, of training and evaluation or of timing; NaN where it does not.

    Args:
        folder: ``results/<study>``.
        runs: ``runs.csv``.
    """
    rows = [_row(folder, *stage) for stage in BEFORE]
    rows += _trainings(folder, runs)
    rows += [_row(folder, *stage) for stage in AFTER]
    return pd.DataFrame([row for row in rows if row["jobs"]])


def _row(folder: Path, stage: str, patterns: tuple[str, ...], measured: str) -> dict[str, Any]:
    logs = [log for pattern in patterns for log in sorted((folder / "logs").glob(pattern))]
    files = sorted(folder.glob(measured)) if measured else []
    inside = [float(read_json(file)["seconds"]) for file in files]
    return _sums(stage, logs, sum(inside) if inside else math.nan)


def _sums(stage: str, logs: list[Path], inside: float) -> dict[str, Any]:
    seconds = told(logs)
    whole = sum(seconds) if len(seconds) == len(logs) else math.nan
    return {"stage": stage, "jobs": len(logs), "core_seconds": whole, "inside": inside}


def _trainings(folder: Path, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per question; a run that several questions use stands with the first."""
    rows = []
    for stem in STEMS:
        mine = runs[runs["question"] == stem]
        # A log is named after its arm, or after the experiment whose budgets it trains together.
        names = {*mine["arm_id"], *(f"train_{name}__*" for name in mine["experiment"])}
        logs = {log for name in names for log in (folder / "logs" / "train").glob(f"{name}.log")}
        inside = pd.to_numeric(mine.loc[mine["status"] == "finished", "seconds"]).sum()
        title = f"Training for {stem.split('_')[0].upper()}, {ASKED[stem].title}"
        rows.append(_sums(title, sorted(logs), float(inside)))
    return rows


def markdown(table: pd.DataFrame) -> str:
    """The table for print, with the sum of what is known."""
    # Where the logs do not tell, what was measured inside is the least that it took.
    known = table["core_seconds"].fillna(table["inside"]).sum()
    least = "at least " if table["core_seconds"].isna().any() else ""
    printed = pd.DataFrame(
        {
            "Stage": [*table["stage"], "**All**"],
            "Jobs": [*table["jobs"].astype(str), str(table["jobs"].sum())],
            "Core-seconds": [
                *("not recorded" if math.isnan(v) else f"{v:,.0f}" for v in table["core_seconds"]),
                f"**{least}{known:,.0f}**",
            ],
            "Measured inside (s)": [
                *("–" if math.isnan(value) else f"{value:,.1f}" for value in table["inside"]),
                f"{table['inside'].sum():,.1f}",
            ],
        }
    )
    caption = (
        "What each stage took: core-seconds of its processes, starting them included, as their "
        "logs end with it; and seconds by the clock that a stage measures itself: of training and "
        "evaluation, or of timing. A run that several questions use stands with the first. "
        "Rendering this report comes on top."
    )
    return markdown_table(printed, caption, "costs")
