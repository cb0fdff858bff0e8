"""How long the jobs of a run are expected to take, before anything of it was measured.

What a job took in an earlier attempt stands at the end of its log. Otherwise a training is
expected to take its steps times a time per step, which grows with the work of a step; the
constants were fitted to one smoke study and one default study (docs/progress.md says how, and how
far off they are). Only their proportions count: the speed of the machine is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrail.cost import told
from vitrail.jobs import training_work
from vitrail.progress.notes import Job
from vitrail.runs import Plan
from vitrail.settings import Settings, run_id, steps_of, takes_patches

START = 5.0  # seconds to start a process with torch and read the data
# By kind of network: seconds of a step whatever its size, and seconds of a unit of work.
SPEED = {
    "vit": (0.010, 1.0e-9),
    "cnn": (0.004, 1.0e-9),
    "timm": (0.05, 1.0e-9),
    "timm_cnn": (0.05, 1.0e-9),
    "mlp": (0.002, 1.0e-9),
    "logistic": (0.001, 1.0e-9),
}
# Of the other rules; what is not named takes OTHER.
RULES = {
    "mnist": 5.0,
    "imagenet_weights": 10.0,
    "pretrain": 90.0,
    "timing": 60.0,
    "execution": 90.0,
    "step_memory": 60.0,
    "input_seconds": 10.0,
    "learn_thresholds": 40.0,
    "reduce_tokens": 40.0,
    "question_runs": 2.0,
    "track": 10.0,
    "mlflow_store": 8.0,
    "report": 10.0,
}
OTHER = 8.0


def seconds_of(settings: Settings) -> float:
    """Seconds that one run with these settings is expected to train."""
    model = str(settings["model"])
    kind = "timm_cnn" if model == "timm" and not takes_patches(settings) else model
    step, work = SPEED[kind]
    return max(steps_of(settings) * step + training_work(settings) * work, 0.01)


def jobs_of(dag: Any, plan: Plan) -> list[Job]:
    """The jobs that Snakemake is about to do, in the order of their numbers.

    Args:
        dag: Snakemake's `DAG`.
        plan: of the study.
    """
    needed = [job for job in dag.needrun_jobs() if job.output]
    numbers = {job: int(dag.jobid(job)) for job in needed}
    by_run = {
        run_id(arm.arm_id, seed): arm.settings for arm in plan.arms.values() for seed in arm.seeds
    }
    times: dict[str, float] = {}
    found = []
    for job, number in numbers.items():
        outputs = list(map(str, job.output))
        runs = list(dict.fromkeys(_run_of(path) for path in outputs if "/runs/" in path))
        for run in runs:
            if run not in times:
                times[run] = seconds_of(by_run[run])
        # A training's order: arm by arm in that of its outputs, each with all its seeds.
        parts = [times[run] for run in runs]
        log = str(job.log[0]) if job.log else ""
        needs = sorted(numbers[other] for other in dag.dependencies[job] if other in numbers)
        planned = START + sum(parts) if runs else RULES.get(job.rule.name, OTHER)
        found.append(
            Job(
                number, job.rule.name, str(job.message or job.rule.name), log, outputs[0],
                int(job.threads), round(earlier(log) or planned, 3), tuple(runs),
                tuple(round(part, 4) for part in parts), tuple(needs),
            )
        )  # fmt: skip
    return sorted(found, key=lambda job: job.number)


def _run_of(path: str) -> str:
    """The run that an output belongs to."""
    return Path(path).parent.name


def earlier(log: str) -> float:
    """Core-seconds that the job took when it was last finished; 0 without that."""
    path = Path(log)
    try:
        return sum(told([path])) if log and path.is_file() else 0.0
    except OSError:
        return 0.0
