"""The last words of a finished study: where the report is, and what was not run."""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from vitrail.config import load
from vitrail.errors import run_command


def ending(study: str, results: Path) -> str:
    """A few lines for the terminal; empty when the study has no report yet."""
    folder = results / study
    report, table = folder / "report" / "report.html", folder / "runs.csv"
    if not (report.exists() and table.exists()):
        return ""
    with table.open(encoding="utf-8", newline="") as stream:
        runs = list(csv.DictReader(stream))
    finished = sum(run["status"] == "finished" for run in runs)
    lines = [
        f"vitrail: study {study}: {finished} of {len(runs)} runs finished",
        f"  report   {report}",
        f"           {report.with_suffix('.pdf')}",
        f"  tables   {table}, {folder / 'claims.csv'}",
        "  MLflow   make ui   (http://127.0.0.1:5000)",
    ]
    reasons: dict[str, list[str]] = {}
    for run in runs:
        if run["status"] != "finished":
            reasons.setdefault(run["reason"], []).append(run["run_id"])
    for reason, names in reasons.items():
        lines.append(f"  not run  {', '.join(names)}: {reason}")
    return "\n".join(lines)


def after_snakemake(study: str, results: Path) -> None:
    """Print the ending, unless `make` called Snakemake: it prints it even after no job."""
    if "MAKELEVEL" not in os.environ:
        print(ending(study, results))


def main() -> None:
    parser = argparse.ArgumentParser(description="Say where the report is and what is missing.")
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="names the study")
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    print(ending(load(arguments.config)["study"], arguments.results))


if __name__ == "__main__":
    run_command(main)
