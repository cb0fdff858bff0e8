"""How long the jobs of a run are expected to take, before anything of it was measured.

What a job took in an earlier attempt stands at the end of its log. Otherwise a training is
expected to take a time per step and a time per unit of work, with the images that it is evaluated
on; the constants come from the core-seconds of a smoke study (docs/progress.md). Only their
proportions count: how fast this machine is today is measured while the run goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrail.cost import told_by
from vitrail.jobs import training_work
from vitrail.planning import Planned
from vitrail.progress.notes import Job
from vitrail.settings import Settings, run_id, steps_of, takes_patches

START = 3.3  # seconds to start a process with torch and read the data
# By kind of network: seconds of a step whatever its size, and of a unit of `training_work`.
SPEED = {
    "vit": (0.006, 1.07e-9),
    "cnn": (0.003, 5e-10),
    "timm": (0.03, 5.7e-10),
    "timm_cnn": (0.03, 1.8e-10),
    "mlp": (0.001, 1e-11),
    "logistic": (0.001, 1e-11),
}
TEST_IMAGES = 10_000
FORWARD = 1 / 3  # of the work of a training image; the backward pass is twice as much
# Of rules whose work no setting changes much; what is not named takes OTHER.
RULES = {
    "step_memory": 20.0,
    "input_seconds": 20.0,
    "question_runs": 0.5,
    "track": 2.5,
    "q6_vit": 20.0,
    "report": 6.0,
}
OTHER = 4.0


def seconds_of(settings: Settings) -> float:
    """Seconds that one run with these settings is expected to take."""
    model = str(settings["model"])
    kind = "timm_cnn" if model == "timm" and not takes_patches(settings) else model
    per_step, per_work = SPEED[kind]
    steps, work = steps_of(settings), training_work(settings)
    looks = settings.get("evaluations", 0) * settings.get("validation", 0)
    seen = FORWARD * (TEST_IMAGES + looks) if looks else 0.0
    an_image = work / max(1, steps * settings["batch_size"])
    return steps * per_step + (work + seen * an_image) * per_work


def seconds_of_rules(planned: Planned) -> dict[str, float]:
    """Seconds that the other rules are expected to take, by the settings of Q7's clocks."""
    clock, ways, fewer = planned.timing, planned.execution, planned.reduction
    samples = clock["repeats"] * len(clock["tokens"]) * clock["max_seconds"]
    return RULES | {
        "timing": 10 + 6.7 * samples,
        "execution": 10 + 5 * (ways["rounds"] + ways["train_rounds"]),
        "learn_thresholds": START + 0.002 * fewer["train_size"],
        "reduce_tokens": START + 0.01 * fewer["images"],
    }


def jobs_of(dag: Any, planned: Planned) -> list[Job]:
    """The jobs that Snakemake is about to do, in the order of their numbers.

    Args:
        dag: Snakemake's `DAG`.
        planned: the study.
    """
    plan, rules = planned.plan, seconds_of_rules(planned)
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
        seconds = START + sum(parts) if runs else rules.get(job.rule.name, OTHER)
        if job.rule.name == "pretrain":
            start = plan.pretrainings[Path(outputs[0]).parent.name]
            seconds = START + seconds_of({**start["model"], **start["recipe"]})
        known = earlier(log) or seconds
        found.append(
            Job(
                number, job.rule.name, str(job.message or job.rule.name), log, outputs[0],
                int(job.threads), round(known, 3), tuple(runs),
                tuple(round(part * known / seconds, 4) for part in parts), tuple(needs),
            )
        )  # fmt: skip
    return sorted(found, key=lambda job: job.number)


def _run_of(path: str) -> str:
    """The run that an output belongs to."""
    return Path(path).parent.name


def earlier(log: str) -> float:
    """Seconds that the job took when it was last finished; 0 without that.

    Core-seconds where it had one thread, which other work on the machine does not change.
    """
    path = Path(log)
    try:
        told = told_by(path) if log and path.is_file() else None
    except OSError:
        return 0.0
    if told is None:
        return 0.0
    return told.seconds if told.threads > 1 else told.core_seconds
