"""What each choice of a recipe brings on the validation split: a table for the docs.

The report compares arms on the test set. A recipe is chosen before that, so this table
reads validation figures and nothing else:

    PYTHONPATH=src python -m vitrail.choices --config config/default.yaml config/recipe.yaml \
        --experiment recipe
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vitrail.analysis import estimate, paired_difference, points
from vitrail.config import load
from vitrail.errors import VitrailError, run_command
from vitrail.questions.study import Study


def choices(study: Study, name: str) -> str:
    """A Markdown table of an experiment, one row per arm that ran, against its reference.

    Raises:
        VitrailError: when the study has no experiment of that name, or none of its runs.
    """
    found = [one for one in study.plan.experiments if one.name == name]
    if not found:
        known = ", ".join(one.name for one in study.plan.experiments)
        raise VitrailError(f"the study has no experiment {name!r}; it has {known}")
    runs = study.runs(found[0])
    runs = runs[runs["status"] == "finished"]
    accuracy = {
        arm: dict(zip(rows["seed"], rows["val_accuracy"], strict=True))
        for arm, rows in runs.groupby("arm", sort=False)
    }
    lines = [
        "| | validation accuracy (%) | difference in points | validation loss | seconds |",
        "|:---|---:|---:|---:|---:|",
    ]
    for arm, rows in runs.groupby("arm", sort=False):
        reference = found[0].reference_of(found[0].member(str(arm))).name
        gap = points(paired_difference(accuracy[arm], accuracy.get(reference, {})))
        cells = (
            str(rows["label"].iloc[0]),
            f"{100 * estimate(list(accuracy[arm].values())).mean:.2f}",
            "reference" if arm == reference else gap,
            f"{rows['val_loss'].mean():.4f}",
            f"{rows['seconds'].mean():.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what each choice brings, as Markdown.")
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="names the study")
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    print(choices(Study(load(arguments.config), arguments.results), arguments.experiment))


if __name__ == "__main__":
    run_command(main)
