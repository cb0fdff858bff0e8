"""Everything that Snakemake has to know of a study, from its config, in one call.

Imports neither torch nor pandas, because Snakemake reads it each time it parses the
workflow. Nothing is written.

    python -m vitrail.planning config/default.yaml my.yaml

says whether these files make a study, and whether it can be written here, in one sentence.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail import complexity_plan, jobs, places
from vitrail.config import STEMS, Config, check_plain, load, merge, plain, validate
from vitrail.config_file import read_config
from vitrail.errors import VitrailError, run_command
from vitrail.runs import Arm, Plan, expand

# Linux takes at most 131,071 bytes as one argument, and the shell gets its command as one.
MOST_ON_A_COMMAND_LINE = 100_000
# Snakemake plans 5,000 runs in 11 s and 20,000 in 150 s.
MOST_RUNS = 10_000


@dataclass(frozen=True)
class Planned:
    """A checked config and what follows from it."""

    config: Config
    plan: Plan
    timing: dict[str, Any]
    execution: dict[str, Any]
    reduction: dict[str, Any]
    subject: Arm


def plan_study(given: Config, root: Path, files: Iterable[Path] = ()) -> Planned:
    """Check a config and expand it.

    Args:
        given: the merged config, as Snakemake hands it over; what it leaves out is as in
            config/default.yaml, whose order of arms and experiments it takes as well.
        root: the project's folder.
        files: the config files that it was merged from. They are read once more for what the
            merged config cannot show, such as a key that is given twice.

    Raises:
        VitrailError: one sentence that names the key.
    """
    for file in files:
        read_config(file)
    check_plain(given)
    # Snakemake puts the keys of --configfile first. The order of arms and experiments is that
    # of config/default.yaml, whatever a file on the command line overrides.
    config = load([root / "config" / "default.yaml"])
    merge(config, given)
    config = plain(config)
    validate(config, root / "workflow" / "schemas" / "config.schema.yaml")
    plan = expand(config)
    _check_amount(config, plan)
    return Planned(
        config,
        plan,
        complexity_plan.timing_settings(config),
        complexity_plan.execution_settings(config),
        complexity_plan.reduction_settings(config, plan),
        complexity_plan.subject(config, plan),
    )


def rows_at_home(plan: Plan, stem: str) -> list[dict[str, Any]]:
    """The arms whose runs MLflow keeps under a question, each with its seeds."""
    return [
        {
            "arm_id": arm.arm_id,
            "arm": arm.name,
            "label": arm.label,
            "question": arm.question,
            "experiment": arm.experiment,
            "seeds": list(arm.seeds),
        }
        for arm in plan.arms.values()
        if arm.question == stem
    ]


def _check_amount(config: Config, plan: Plan) -> None:
    """The study is not larger than Snakemake and the command lines of its steps can take."""
    runs = sum(len(arm.seeds) for arm in plan.arms.values())
    if runs > MOST_RUNS:
        raise VitrailError(
            f"config: seeds and questions make {runs:,} runs, more than the {MOST_RUNS:,} that "
            "Snakemake plans in reasonable time; name fewer seeds or arms, or make two studies"
        )
    told: dict[str, Any] = {"the config": config}
    told |= {f"questions.{stem}": rows_at_home(plan, stem) for stem in STEMS}
    told |= {
        f"experiment {name.removeprefix('train_').partition('__')[0]}": [
            plan.arms[arm].settings for arm in arms
        ]
        for name, _, _, arms in jobs.training_together(plan)
    }
    told["questions.q7_complexity"] = [
        told["questions.q7_complexity"],
        complexity_plan.trained_for_less(plan),
    ]
    for what, content in told.items():
        # Quoted for the shell, where an apostrophe takes five characters.
        size = len(text := json.dumps(content)) + 4 * text.count("'")
        if size > MOST_ON_A_COMMAND_LINE:
            raise VitrailError(
                f"config: {what} takes {size:,} characters, but a step gets it on its command "
                f"line, which holds {MOST_ON_A_COMMAND_LINE:,}; shorten texts or name fewer arms"
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Check the config files of a study.")
    parser.add_argument("files", type=Path, nargs="+", help="later ones over earlier ones")
    arguments = parser.parse_args()
    root = Path(__file__).parents[2]
    planned = plan_study(load(arguments.files), root)
    # Snakemake writes below the folder that it is started in.
    places.check_snakemake(Path())
    places.check_kinds(Path("results"), planned.plan.study)
    places.check_writable(Path("results"), planned.plan.study)
    runs = sum(len(arm.seeds) for arm in planned.plan.arms.values())
    print(f"vitrail: the config makes the study {planned.plan.study} of {runs:,} runs")


if __name__ == "__main__":
    run_command(main)
