"""What each choice of a recipe brings on the validation split: a table for the docs.

The report compares arms on the test set. A recipe is chosen before that, so this table
reads the validation figures of the run table and nothing else:

    python -m vitrail.choices --study recipe --experiment recipe
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from vitrail.analysis import estimate, paired_difference, points
from vitrail.errors import VitrailError, run_command


def choices(runs: pd.DataFrame, experiment: str) -> str:
    """A Markdown table of an experiment, one row per arm, the first arm being the recipe.

    Args:
        runs: the rows of ``runs.csv``.
        experiment: its column `experiment`.

    Raises:
        VitrailError: when no finished run belongs to the experiment.
    """
    mine = runs[(runs["experiment"] == experiment) & (runs["status"] == "finished")]
    if mine.empty:
        known = ", ".join(sorted(set(runs["experiment"])))
        raise VitrailError(f"no finished run of experiment {experiment!r}; there are {known}")
    lines = [
        "| | validation accuracy (%) | difference in points | validation loss | seconds |",
        "|:---|---:|---:|---:|---:|",
    ]
    standard: dict[int, float] = {}
    for label, rows in mine.groupby("label", sort=False):
        accuracy = dict(zip(rows["seed"], rows["val_accuracy"], strict=True))
        gap = points(paired_difference(accuracy, standard)) if standard else "reference"
        standard = standard or accuracy
        cells = (
            str(label),
            f"{100 * estimate(list(accuracy.values())).mean:.2f}",
            gap,
            f"{rows['val_loss'].mean():.4f}",
            f"{rows['seconds'].mean():.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what each choice brings, as Markdown.")
    parser.add_argument("--study", required=True)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    table = arguments.results / arguments.study / "runs.csv"
    if not table.is_file():
        raise VitrailError(f"{table} is missing; run the study {arguments.study} first")
    print(choices(pd.read_csv(table), arguments.experiment))


if __name__ == "__main__":
    run_command(main)
