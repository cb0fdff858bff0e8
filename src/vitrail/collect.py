"""From run folders and claims to the tables of a study: runs.csv and claims.csv."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from vitrail.config import STEMS
from vitrail.errors import run_command
from vitrail.files import read_json
from vitrail.intact import check_shown, read_summary, write_vouched
from vitrail.settings import run_id

SUMMARY_FIELDS = [
    "status",
    "reason",
    "precision_used",
    "parameters",
    "macs",
    "samples",
    "seconds",
    "train_samples_per_second",
    "peak_memory_mb",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "test_seconds",
    "test_loss",
    "test_accuracy",
    "test_errors",
]
CLAIM_FIELDS = ["question", "id", "verdict", "sentence", "finding", "evidence", "test"]


def with_results(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Rows of the run table with what each run gave, or the reason why it gave nothing."""
    found = []
    for name in rows["run_id"]:
        summary = read_summary(folder / "runs" / name)
        found.append({field: summary.get(field) for field in SUMMARY_FIELDS})
    results = pd.DataFrame(found, columns=SUMMARY_FIELDS)
    for field in ("parameters", "macs", "samples", "test_errors"):
        results[field] = results[field].astype("Int64")
    return pd.concat([rows, results], axis=1)


def run_table(folder: Path) -> pd.DataFrame:
    """plan.csv with what each run gave."""
    # As text: what the plan says comes through as it was written.
    plan = pd.read_csv(folder / "plan.csv", keep_default_na=False, dtype=str)
    return with_results(plan, folder)


def question_table(folder: Path, arms: list[dict[str, Any]]) -> pd.DataFrame:
    """The same for the runs that MLflow keeps under a question, from its arms and their seeds."""
    columns = ["run_id", "arm_id", "arm", "label", "question", "experiment", "seed"]
    rows = [
        {**arm, "run_id": run_id(arm["arm_id"], seed), "seed": seed}
        for arm in arms
        for seed in arm["seeds"]
    ]
    return with_results(pd.DataFrame(rows, columns=columns), folder)


def claim_table(folder: Path) -> pd.DataFrame:
    """The claims of all questions, in their order."""
    for stem in STEMS:
        check_shown(folder / stem, f"delete the folder {folder / stem} and run again")
    rows = [
        {"question": stem, **claim}
        for stem in STEMS
        for claim in read_json(folder / stem / "claims.json")
    ]
    return pd.DataFrame(rows, columns=CLAIM_FIELDS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a table of a study.")
    parser.add_argument("table", choices=["runs", "claims", "question"])
    parser.add_argument("--study", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--arms", type=json.loads, help="a question's arms and seeds, as JSON")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.results / arguments.study
    if arguments.table == "runs":
        table = run_table(folder)
    elif arguments.table == "claims":
        table = claim_table(folder)
    else:
        table = question_table(folder, arguments.arms)
    # Every digit of a number is written, so that tables and files compare exactly.
    write_vouched(arguments.out, table.to_csv(index=False, lineterminator="\n"))
    print(f"{arguments.table}: {len(table)} rows -> {arguments.out}")


if __name__ == "__main__":
    run_command(main)
