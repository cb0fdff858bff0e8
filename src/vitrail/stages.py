"""What each stage of the study cost, in core-seconds, from the logs and the run folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vitrail.config import STEMS
from vitrail.cost import told
from vitrail.files import read_json
from vitrail.opening import ASKED
from vitrail.questions.answer import markdown_table

# What a stage is for; the work of the first two is what a study is run for.
TRAINING, TIMING, MEMORY = "training", "timing", "metering memory"


class Stage(NamedTuple):
    """A part of a study.

    Attributes:
        logs: patterns below results/<study>/logs.
        measured: the files that have its own seconds; empty where it measures none.
    """

    title: str
    kind: str
    logs: tuple[str, ...]
    measured: str = ""


BEFORE = (
    Stage(
        "Fetching MNIST, looking for weights",
        "data and weights",
        ("../../logs/mnist.log", "weights/*.log"),
    ),
    Stage("Pretraining", TRAINING, ("pretrain/*.log",), "pretraining/*/summary.json"),
)
AFTER = (
    Stage("Timing attention", TIMING, ("timing.log",), "timing/env.json"),
    Stage("Computing a network in every way", TIMING, ("execution.log",), "execution/env.json"),
    Stage("Memory of training steps", MEMORY, ("step_memory.log",)),
    Stage("Timing ViT-S on images of several sizes", TIMING, ("input_seconds.log",)),
    Stage("Learning thresholds of tokens", TRAINING, ("thresholds_*.log",)),
    Stage("Comparing ways to fewer tokens", "evaluation", ("reduction.log",)),
    Stage("Answering the questions", "figures and tables", tuple(f"{stem}.log" for stem in STEMS)),
    Stage(
        "The record in MLflow",
        "tracking",
        ("mlflow_store.log", "question_runs_*.log", "track_*.log"),
    ),
    Stage(
        "Tables of the study, rule graph", "figures and tables", ("*_table.log", "rule_graph.log")
    ),
)
# Over only when the table of the stages that the report prints is there.
LAST = (Stage("Rendering the report", "rendering", ("study_facts.log", "report.log")),)


def costs(folder: Path, runs: pd.DataFrame, last: bool = False) -> pd.DataFrame:
    """One row per stage: stage, kind, jobs, core_seconds, starting, seconds and inside.

    `core_seconds` are those of all processes of the stage, with what starting them takes
    (`starting`: Python and its imports), as the logs tell it, and `seconds` those by the clock;
    NaN where a job has not told. `inside` are the seconds that a stage has measured itself, of
    training and evaluation or of timing; NaN where it does not.

    Args:
        folder: ``results/<study>``.
        runs: ``runs.csv``.
        last: with the stages that come after this table in the report.
    """
    rows = [_row(folder, stage) for stage in BEFORE]
    rows += _trainings(folder, runs)
    rows += [_row(folder, stage) for stage in (*AFTER, *(LAST if last else ()))]
    return pd.DataFrame([row for row in rows if row["jobs"]])


def logs_of(folder: Path, stage: Stage) -> list[Path]:
    """The logs of a stage."""
    return [log for pattern in stage.logs for log in sorted((folder / "logs").glob(pattern))]


def _row(folder: Path, stage: Stage) -> dict[str, Any]:
    files = sorted(folder.glob(stage.measured)) if stage.measured else []
    inside = [float(read_json(file)["seconds"]) for file in files]
    return _sums(
        stage.title, stage.kind, logs_of(folder, stage), sum(inside) if inside else math.nan
    )


def _sums(title: str, kind: str, logs: list[Path], inside: float) -> dict[str, Any]:
    found = told(logs)
    whole = len(found) == len(logs)
    return {
        "stage": title,
        "kind": kind,
        "jobs": len(logs),
        "core_seconds": sum(one.core_seconds for one in found) if whole else math.nan,
        "starting": sum(one.starting for one in found) if whole else math.nan,
        "seconds": sum(one.seconds for one in found) if whole else math.nan,
        "inside": inside,
    }


def _trainings(folder: Path, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per question; a run that several questions use stands with the first."""
    rows = []
    for stem in STEMS:
        mine = runs[runs["question"] == stem]
        # A log is named after its arm, or after the experiment whose budgets it trains together.
        names = {*mine["arm_id"], *(f"train_{name}__*" for name in mine["experiment"])}
        logs = {log for name in names for log in (folder / "logs" / "train").glob(f"{name}.log")}
        inside = pd.to_numeric(mine.loc[mine["status"] == "finished", "seconds"]).sum()
        rows.append(_sums(training_title(stem), TRAINING, sorted(logs), float(inside)))
    return rows


def training_title(stem: str) -> str:
    """The stage of a question's trainings."""
    return f"Training for {stem.split('_')[0].upper()}, {ASKED[stem].title}"


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
            "Starting": [
                *("–" if math.isnan(value) else f"{value:,.0f}" for value in table["starting"]),
                f"{table['starting'].sum():,.0f}",
            ],
            "Measured inside (s)": [
                *("–" if math.isnan(value) else f"{value:,.1f}" for value in table["inside"]),
                f"{table['inside'].sum():,.1f}",
            ],
        }
    )
    caption = (
        "What each stage took: core-seconds of its processes, as their logs end with it, and those "
        "of them that went into starting Python and its imports; and seconds by the clock that a "
        "stage measures itself: of training and evaluation, or of timing. A run that several "
        "questions use stands with the first. "
        "Rendering this report and Snakemake itself come on top: `make cost`."
    )
    return markdown_table(printed, caption, "costs")
