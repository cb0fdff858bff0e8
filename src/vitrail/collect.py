"""From run folders and claims to the two tables of a study: runs.csv and claims.csv."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from vitrail.config import STEMS
from vitrail.errors import VitrailError, run_command
from vitrail.files import read_json, write_text

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
    "test_loss",
    "test_accuracy",
    "test_errors",
]
CLAIM_FIELDS = ["question", "id", "verdict", "sentence", "evidence", "test"]


def run_table(folder: Path) -> pd.DataFrame:
    """plan.csv with what each run gave, or the reason why it gave nothing."""
    plan = pd.read_csv(folder / "plan.csv", keep_default_na=False)
    rows = []
    for name in plan["run_id"]:
        path = folder / "runs" / name / "summary.json"
        if not path.exists():
            raise VitrailError(f"{path} is missing; run snakemake --cores all again")
        summary = read_json(path)
        rows.append({field: summary.get(field) for field in SUMMARY_FIELDS})
    results = pd.DataFrame(rows, columns=SUMMARY_FIELDS)
    for field in ("parameters", "macs", "samples", "test_errors"):
        results[field] = results[field].astype("Int64")
    return pd.concat([plan, results], axis=1)


def claim_table(folder: Path) -> pd.DataFrame:
    """The claims of all questions, in their order."""
    rows = [
        {"question": stem, **claim}
        for stem in STEMS
        for claim in read_json(folder / stem / "claims.json")
    ]
    return pd.DataFrame(rows, columns=CLAIM_FIELDS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write runs.csv or claims.csv of a study.")
    parser.add_argument("table", choices=["runs", "claims"])
    parser.add_argument("--study", required=True)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.results / arguments.study
    table = run_table(folder) if arguments.table == "runs" else claim_table(folder)
    out = folder / f"{arguments.table}.csv"
    # Every digit of a number is written, so that tables and files compare exactly.
    write_text(out, table.to_csv(index=False, lineterminator="\n"))
    print(f"{arguments.table}: {len(table)} rows -> {out}")


if __name__ == "__main__":
    run_command(main)
