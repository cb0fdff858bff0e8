"""What a finished study cost, and how well it filled its cores (`make cost`).

    python -m vitrail.cost_report --config config/default.yaml config/smoke.yaml

Everything is read from what the run has left: the logs, which end with what their step took,
Snakemake's own among them, and the run folders. The target is the default study's: at most 15 % for
anything but training and timing.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pandas as pd

from vitrail import jobs, schedule, stages
from vitrail.config import load
from vitrail.cost import SNAKEMAKE, cluster, in_one_run, in_steps, spans, told_by
from vitrail.errors import VitrailError, run_command
from vitrail.intact import vouched
from vitrail.planning import plan_study
from vitrail.stages import TIMING, TRAINING

ROOT = Path(__file__).parents[2]
STARTING, LOADING, ITSELF = "starting Python", "loading and writing", "Snakemake itself"
EVALUATION = "evaluation"
OTHER = "shells, steps that ended early"
# What a study is run for; the rest is the pipeline's own cost.
WORK = (TRAINING, TIMING)
# What no file tells apart: the shares are a little kinder than the truth.
WITHIN = """\
training: with what pretraining evaluates, and all of learning thresholds but its start
timing: with the memory, the imports and the accuracies that the clocks look at as well"""
SEVERAL = f"""\
made in several runs: the logs have the last run of each step, so that "{OTHER}"
has the earlier ones as well; "{ITSELF}" lacks each Snakemake that was killed
"""


def by_kind(folder: Path, runs: pd.DataFrame) -> dict[str, float]:
    """Core-seconds by what they were spent on, the largest first.

    The start of every process is told apart from its work. Of training and timing the seconds that
    a process has measured itself count as such, or as evaluation, at the share of a core that
    it had; the rest went into reading images and writing files.

    Args:
        folder: ``results/<study>``.
        runs: ``runs.csv``.

    Raises:
        VitrailError: a step of this study has not told what it took, or ran on a cluster.
    """
    table, log = stages.costs(folder, runs, last=True), folder / SNAKEMAKE
    lacking = table.loc[table["seconds"].isna(), "stage"].tolist()
    itself = told_by(log) if log.exists() else None
    if itself is not None and (where := cluster(log)):
        raise VitrailError(
            f"steps of {folder} were jobs of {where}, on cores that no log tells, each with a "
            "Snakemake of its own; what a study costs can be told of a run on one machine"
        )
    if lacking or itself is None or not spans(log):
        raise VitrailError(
            f"{folder} does not tell what it cost ({', '.join(lacking) or ITSELF}): it was run by "
            "an older version, is not finished, or a log is damaged; run the study again in an "
            "empty folder"
        )
    spent = dict.fromkeys((TRAINING, TIMING, EVALUATION, STARTING, LOADING), 0.0)
    trained = _training_seconds(runs)
    for row in table.to_dict("records"):
        work, kind = row["core_seconds"] - row["starting"], row["kind"]
        spent[STARTING] += row["starting"]
        if kind not in WORK or math.isnan(row["inside"]):
            spent[kind] = spent.get(kind, 0.0) + work
            continue
        # On a busy machine a process has less than a core.
        rate = row["core_seconds"] / max(row["seconds"], 1e-9)
        inside = min(row["inside"] * rate, work)
        share = trained.get(row["stage"], row["inside"]) / max(row["inside"], 1e-9)
        spent[kind] += inside * share
        spent[EVALUATION] += inside * (1 - share)
        spent[LOADING] += work - inside
    spent[ITSELF] = itself.core_seconds
    # Snakemake counts all that it has started: what has not told is in there, too.
    spent[OTHER] = max(0.0, in_steps(log) - table["core_seconds"].sum())
    return dict(sorted(spent.items(), key=lambda one: -one[1]))


def _training_seconds(runs: pd.DataFrame) -> dict[str, float]:
    """Seconds of training alone, by the title of the stage; its runs count the rest as well."""
    finished = runs[runs["status"] == "finished"]
    samples, rate = (
        pd.to_numeric(finished[name]) for name in ("samples", "train_samples_per_second")
    )
    stage = finished["question"].map(stages.training_title)
    return {str(title): float(one) for title, one in (samples / rate).groupby(stage).sum().items()}


def kinds_table(spent: dict[str, float]) -> str:
    """A line for each kind, and the share of what is neither training nor timing."""
    whole = sum(spent.values())
    width = max(map(len, spent))
    lines = [f"{'':{width}}  core-seconds   share"]
    lines += [f"{name:{width}}  {one:12,.1f}  {one / whole:6.1%}" for name, one in spent.items()]
    lines.append(f"{'all':{width}}  {whole:12,.1f}")
    own = 1 - sum(spent[name] for name in WORK) / whole
    lines += [
        "",
        f"neither training nor timing: {own:.1%}"
        f" (without the evaluation of networks {own - spent[EVALUATION] / whole:.1%})",
        WITHIN,
    ]
    return "\n".join(lines)


def filled(known: dict[str, schedule.Job], cores: int, wall: float) -> str:
    """How long the run took, and how long it could not but take.

    Raises:
        VitrailError: nothing is known of its jobs.
    """
    if not any(job.seconds for job in known.values()):
        raise VitrailError(
            "how the study filled its cores cannot be told: Snakemake has no note of its jobs here "
            "(.snakemake/metadata), as where results were copied; ask in the folder of the run"
        )
    path = schedule.critical_path(known)
    chain = sum(job.seconds for job in path)
    shared = sum(job.work for job in known.values()) / cores
    planned, _ = schedule.simulated(known, cores)
    longest, _ = schedule.simulated(known, cores, schedule.longest_way(known))
    steps = " > ".join(f"{job.rule} {job.seconds:,.0f}" for job in path if job.seconds >= 0.5)
    whole = (
        "made in several runs" if math.isnan(wall) else f"{wall:,.0f} s ({wall / shared - 1:+.0%})"
    )
    return "\n".join(
        [
            f"on {cores} cores, by the clock:     {whole}",
            f"all jobs shared out over the cores: {shared:,.0f} s",
            f"critical path:                      {chain:,.0f} s ({chain / shared:.0%} of that)",
            f"  {steps}",
            f"the same jobs in the study's order: {planned:,.0f} s ({planned / shared - 1:+.0%})",
            f"the longest way to the end first:   {longest:,.0f} s ({longest / shared - 1:+.0%})",
        ]
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Print what a finished study has cost.")
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="of the study")
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    config = load(arguments.config)
    folder = arguments.results / config["study"]
    if not (folder / "runs.csv").exists():
        raise VitrailError(f"{folder / 'runs.csv'} is missing; run the study first")
    runs = pd.read_csv(vouched(folder / "runs.csv"), keep_default_na=False)
    spent, (*_, (begun, ended, cores)) = by_kind(folder, runs), spans(folder / SNAKEMAKE)
    alone = in_one_run(folder)
    summary = schedule.ask_snakemake(arguments.config, ROOT)

    def place(log: str) -> Path:
        return arguments.results / Path(log).relative_to("results")

    if absent := schedule.absent_logs(summary, place):
        raise VitrailError(
            f"{folder} does not tell what it cost: of steps that are finished there is no log "
            f"({', '.join(absent)}); put them back, or run the study again in an empty folder"
        )
    print(f"vitrail: study {config['study']}\n")
    # Of a study that was killed or changed meanwhile, a part was made in each of several runs.
    if not alone:
        print(SEVERAL)
    print(kinds_table(spent), end="\n\n")
    priorities = jobs.priorities(plan_study(config, ROOT).plan)
    known = schedule.read_summary(summary, place, lambda rule: priorities.get(rule, 0))
    print(filled(known, cores, ended - begun if alone else math.nan))


if __name__ == "__main__":
    run_command(main)
