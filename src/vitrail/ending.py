"""The last words of a finished study: where the report is, and what was not run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from vitrail.config import load
from vitrail.errors import VitrailError, run_command
from vitrail.intact import read_rows


def ending(study: str, results: Path) -> str:
    """A few lines for the terminal; empty when the study has no report yet.

    Raises:
        VitrailError: the table of its runs is damaged.
    """
    folder = results / study
    report, table = folder / "report" / "report.html", folder / "runs.csv"
    if not (report.exists() and table.exists()):
        return ""
    runs = read_rows(table, "run_id", "status", "reason")
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
    if "MAKELEVEL" in os.environ:
        return
    try:
        print(ending(study, results))
    except VitrailError as error:  # Snakemake would print a traceback
        print(f"vitrail: {error}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Say where the report is and what is missing.")
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="names the study")
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    print(ending(load(arguments.config)["study"], arguments.results))


if __name__ == "__main__":
    run_command(main)
