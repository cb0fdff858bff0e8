"""How long the jobs of a run are expected to take, before anything of it was measured.

What a job took in an earlier attempt stands at the end of its log. Otherwise a training is
expected to take a time per step and a time per unit of work, with the images that it is evaluated
on; the constants come from the seconds of a default study (docs/progress.md). Only their
proportions count: how fast this machine is today is measured while the run goes on.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vitrail import gpus
from vitrail.cost import told_by
from vitrail.jobs import training_work
from vitrail.planning import Planned
from vitrail.progress.notes import Job
from vitrail.settings import AUGMENTATIONS, Settings, images_of, run_id, steps_of, takes_patches


class Speed(NamedTuple):
    """Seconds that a kind of network takes.

    Attributes:
        step: of a step whatever its size.
        work: of a unit of `training_work`.
        read: of a unit of it where an image is only classified, without a backward pass.
        block: of a step for each block, whatever its size; as much again with Muon.
        call: of classifying a batch for each block, whatever its size.
    """

    step: float
    work: float
    read: float
    block: float = 0.0
    call: float = 0.0


START = 4.6  # seconds to start a process with torch, read the data and write its runs
SPEED = {
    "vit": Speed(0.002, 1.4e-9, 3.8e-10, 0.0019, 0.0017),
    "cnn": Speed(0.005, 9.3e-10, 2.9e-10),
    "timm": Speed(0.07, 1.13e-9, 3.8e-10),
    "timm_cnn": Speed(0.03, 7.3e-10, 7.3e-11),
    "mlp": Speed(0.0024, 1e-11, 1.7e-10),
    "logistic": Speed(0.001, 1e-11, 1.2e-10),
}
HEAD_STEP = 0.008  # seconds of a step of a linear probe, beside its trunk's single look
DRAWING = 1.9e-4  # seconds to draw an image by a formula, on the CPU
TEST_IMAGES = 10_000
BATCH = 100  # images that are classified at once
EMULATED = 9.0  # times as long, where a processor without bf16 instructions computes in bf16
# Of rules whose work no setting changes much, by the log of a job or else by the rule. What is not
# named takes OTHER.
RULES = {
    "mnist": 6.5,
    "imagenet_weights": 5.5,
    "mlflow_store": 5.0,
    "step_memory": 16.0,
    "input_seconds": 12.0,
    "question_runs": 0.6,
    "run_table": 0.9,
    "claim_table": 0.7,
    "q1_patch_embedding": 8.0,
    "q2_mlp": 5.6,
    "q3_self_attention": 12.0,
    "q4_multi_head": 11.0,
    "q5_block": 9.0,
    "q6_vit": 29.0,
    "q7_complexity": 18.0,
    "q8_transfer": 27.0,
    "track": 4.5,
    "track_q6_vit": 19.0,
    "track_q7_complexity": 7.5,
    "track_q8_transfer": 16.0,
    "report": 12.5,
}
OTHER = 4.0


def seconds_of(settings: Settings, emulated: bool = False) -> float:
    """Seconds that one run with these settings is expected to take.

    Args:
        settings: of an arm, or of a pretraining with its network.
        emulated: whether this machine emulates bf16 (`emulates_bf16`).
    """
    model = str(settings["model"])
    speed = SPEED["timm_cnn" if model == "timm" and not takes_patches(settings) else model]
    steps, depth = steps_of(settings), settings.get("depth", 0)
    images = steps * settings["batch_size"]
    an_image = training_work(settings) / max(1, images)
    looks = settings.get("evaluations", 0) * settings.get("validation", 0)
    if settings.get("tune") == "head" and not any(settings.get(one) for one in AUGMENTATIONS):
        # Its trunk sees every image once.
        training = steps * HEAD_STEP
        read = images_of(settings) + settings["validation"] + TEST_IMAGES
    else:
        blocks = depth * (2 if settings["optimizer"] == "muon" else 1)
        kept = 1 - settings.get("patch_drop_rate", 0)
        training = (
            steps * (speed.step + blocks * speed.block) + images * an_image * kept * speed.work
        )
        # The one climbs before each step, the other looks at more images than it takes.
        if settings.get("sam_radius") or settings.get("selection") == "importance":
            training *= 2
        read = looks + TEST_IMAGES if looks else 0
    if settings.get("images", "digits") != "digits":  # of a pretraining
        training += images * DRAWING
    reading = read * (depth * speed.call / BATCH + an_image * speed.read)
    slower = EMULATED if emulated and settings.get("precision") == "bf16" else 1.0
    return (training + reading) * slower


@cache
def emulates_bf16(device: str) -> bool:
    """Whether jobs with this `device` of the config compute bf16 without instructions for it.

    As `vitrail.device.faster_precision` has it of a CPU, without torch. A GPU, and a system that
    does not tell, are taken to have them.
    """
    if gpus.expected(device):
        return False
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not {"avx512_bf16", "amx_bf16"} & set(flags)


def seconds_of_rules(planned: Planned) -> dict[str, float]:
    """Seconds that the other rules are expected to take, by the settings of Q7's clocks."""
    clock, ways, fewer = planned.timing, planned.execution, planned.reduction
    samples = clock["repeats"] * len(clock["tokens"]) * clock["max_seconds"]
    reduced = 2 * len(fewer["removed"]) + len(fewer["targets"]) + len(fewer["class_targets"])
    return RULES | {
        "timing": 4.7 + 4.7 * samples,
        "execution": 20 + 3.1 * (ways["rounds"] + ways["train_rounds"]),
        "learn_thresholds": 2.6 + 0.0016 * fewer["train_size"],
        "reduce_tokens": 2.6 + 0.00115 * fewer["images"] * reduced,
    }


def jobs_of(dag: Any, planned: Planned) -> list[Job]:
    """The jobs that Snakemake is about to do, in the order of their numbers.

    Args:
        dag: Snakemake's `DAG`.
        planned: the study.
    """
    plan, rules = planned.plan, seconds_of_rules(planned)
    emulated = emulates_bf16(planned.config["device"])
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
                times[run] = seconds_of(by_run[run], emulated)
        # A training's order: arm by arm in that of its outputs, each with all its seeds.
        parts = [times[run] for run in runs]
        log = str(job.log[0]) if job.log else ""
        needs = sorted(numbers[other] for other in dag.dependencies[job] if other in numbers)
        other = rules.get(job.rule.name, OTHER)
        seconds = START + sum(parts) if runs else rules.get(Path(log).stem, other)
        if job.rule.name == "pretrain":
            start = plan.pretrainings[Path(outputs[0]).parent.name]
            seconds = START + seconds_of({**start["model"], **start["recipe"]}, emulated)
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
