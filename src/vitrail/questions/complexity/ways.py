"""Q7: every way to lower the cost as one row, beside the baseline in which it changes one thing."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from vitrail.analysis import estimate
from vitrail.intact import vouched
from vitrail.questions.complexity.goal import curve, median_seconds
from vitrail.questions.experiments.common import summarise
from vitrail.questions.study import Study
from vitrail.runs import Experiment, Member

# Accuracies and their differences are fractions; time_low and time_high bound the 95 %
# interval of the ratio. seconds_to_goal is inf where the goal is not reached.
COLUMNS = [
    *("table", "group", "name", "way", "baseline", "seconds", "time_ratio", "time_low"),
    *("time_high", "peak_mib", "memory_ratio", "macs_ratio", "images", "accuracy"),
    *("accuracy_difference", "accuracy_half_width", "logit_difference", "gradient_difference"),
    *("trainable_parameters", "seconds_to_goal", "reason"),
]
BASELINE = "Baseline"
Row = dict[Any, Any]
Names = dict[str, tuple[str, str]]  # name -> (group, way), in the order of the table

KERNELS, MEMORY, PARALLEL = "Exact kernels and precision", "Memory", "Parallelism"
FEWER, TUNING, OTHER = "Fewer tokens", "Parameter-efficient tuning", "Other"
INFERENCE: Names = {
    "plain": (BASELINE, "attention written out, fp32"),
    "sdpa": (KERNELS, "fused attention"),
    "compile": (KERNELS, "compiled blocks"),
    "bf16": (KERNELS, "bf16"),
    "int8": (KERNELS, "int8 weights"),
}
REDUCED: Names = {
    "none": (FEWER, "all tokens"),
    "tome": (FEWER, "ToMe"),
    "prune": (FEWER, "pruning"),
    "ltmp": (FEWER, "LTMP"),
    "ltmp_class": (FEWER, "LTMP, class token"),
}
STEP: Names = {
    "plain": (BASELINE, "attention written out, fp32"),
    "sdpa": (KERNELS, "fused attention"),
    "compile": (KERNELS, "compiled blocks"),
    "bf16": (KERNELS, "bf16"),
    "checkpointing": (MEMORY, "checkpointing"),
    "offloading": (MEMORY, "offloading"),
    "data_parallel": (PARALLEL, "two processes, two cores"),
    "full": (TUNING, "ViT-S, all weights"),
    "lora": (TUNING, "ViT-S, LoRA"),
}
TRAININGS: Names = {
    "training.base": (BASELINE, "base (Muon)"),
    "training.large_patches": (FEWER, "patches of 14"),
    "training.half_patches": (FEWER, "half of the patches"),
    "attention_kind.softmax": ("Other attention", "softmax, no class token"),
    "attention_kind.linear": ("Other attention", "linear"),
    "attention_kind.window": ("Other attention", "windows"),
    "training.adamw": ("Optimiser", "AdamW"),
    "training.lion": ("Optimiser", "Lion"),
    "training.sam": ("Optimiser", "SAM"),
    "training.timm_start": ("Initialisation", "start at 0.02"),
    "training.zero_residual": ("Initialisation", "branches start at 0"),
    "training.mimetic": ("Initialisation", "mimetic start"),
    "training.large_batch": ("Large batch", "batches of 256"),
    "training.grow_depth": ("Incremental", "depth grows"),
    "training.grow_patch": ("Incremental", "patches shrink"),
    "training.importance": ("Data selection", "importance sampling"),
    "training.bf16": ("Low precision", "bf16"),
}
NEAREST = 0.5  # share of the MACs that the one setting of a way is chosen by


def ways_frame(study: Study) -> pd.DataFrame:
    """One row per way (COLUMNS), from the four tables that Q7 reads and its own trainings.

    No way is left out: one without figures has the reason.
    """
    execution = pd.read_csv(vouched(study.folder / "execution" / "ways.csv"))
    reduction = pd.read_csv(vouched(study.folder / "reduction" / "table.csv"))
    memory = pd.read_csv(vouched(study.folder / "training_memory.csv"))
    rows = [
        *execution_rows(execution, "inference", INFERENCE, ["inference"]),
        *reduction_rows(reduction),
        *execution_rows(execution, "step", STEP, ["training", "tuning"]),
        *training_rows(study, dict(zip(memory["arm_id"], memory["peak_mib"], strict=True))),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def execution_rows(table: pd.DataFrame, part: str, names: Names, groups: list[str]) -> list[Row]:
    """Rows of `vitrail.execution`: seconds are those of one image."""
    measured = table[table["group"].isin(groups)].set_index("name").to_dict("index")
    rows = []
    for name, (group, way) in names.items():
        row: Row = {"table": part, "group": group, "name": name, "way": way}
        found = measured.get(name)
        if found is None:
            rows.append(row | {"reason": "the step vitrail.execution did not write this row"})
            continue
        reason = found["reason"] if isinstance(found["reason"], str) else ""
        rows.append(
            row
            | {key: found[key] for key in found.keys() & set(COLUMNS) - {"group", "reason"}}
            | {
                "baseline": names[found["baseline"]][1],
                "seconds": found["seconds_per_image"],
                "accuracy_difference": found["accuracy_points"] / 100,
                "reason": reason or no_meter(found["peak_mib"]),
            }
        )
    return rows


def reduction_rows(table: pd.DataFrame) -> list[Row]:
    """One row per way of `vitrail.reduction`, at its setting nearest to half of the MACs."""
    rows, plain = [], table[table["way"] == "none"].iloc[0]
    for name, (group, way) in REDUCED.items():
        row: Row = {"table": "inference", "group": group, "name": name, "way": way}
        mine = table[table["way"] == name]
        if mine.empty:
            reason = "questions.q7_complexity.reduction of the config asks for no setting of it"
            rows.append(row | {"baseline": REDUCED["none"][1], "reason": reason})
            continue
        found = mine.iloc[int((mine["macs_ratio"] - NEAREST).abs().argmin())]
        if name != "none":
            kind = "target {} %" if name.startswith("ltmp") else "r = {}"
            row["way"] = f"{way}, {kind.format(found['setting'])}"
        rows.append(
            row
            | {
                "baseline": REDUCED["none"][1],
                "seconds": 1 / found["images_per_second"],
                "time_ratio": plain["images_per_second"] / found["images_per_second"],
                "peak_mib": found["peak_mib"],
                "memory_ratio": found["peak_mib"] / plain["peak_mib"],
                "macs_ratio": found["macs_ratio"],
                "accuracy": found["test_accuracy"],
                "accuracy_difference": found["difference"],
                "accuracy_half_width": math.nan if name == "none" else
                found["difference_half_width"],
                "reason": no_meter(found["peak_mib"]),
            }
        )  # fmt: skip
    return rows


def training_rows(study: Study, peaks: dict[str, float]) -> list[Row]:
    """Q7's trainings in the order of TRAININGS; arms that are not in it come last."""
    found = {}
    for experiment in study.plan.of_question("q7_complexity"):
        if len(experiment.members) > 1:
            figures = summarise(study, experiment).set_index("arm").to_dict("index")
            for member in experiment.members:
                name = f"{experiment.name}.{member.name}"
                found[name] = training_row(study, experiment, member, figures, peaks)
    absent = {"reason": "the config of this study takes the arm out"}
    names = {**dict.fromkeys(found, (OTHER, "")), **TRAININGS}
    order = [*TRAININGS, *(name for name in found if name not in TRAININGS)]
    return [
        {"table": "training", "group": names[name][0], "name": name, "way": names[name][1]}
        | found.get(name, absent)  # with the label of the config
        for name in order
    ]


def training_row(
    study: Study,
    experiment: Experiment,
    member: Member,
    figures: dict[Any, Row],
    peaks: dict[str, float],
) -> Row:
    """The figures of one training; seconds are those of all its steps, the mean of its seeds."""
    goal = study.config["questions"]["q7_complexity"]["goal_accuracy"]
    reference = experiment.member(experiment.reference)
    mine, base = figures[member.name], figures[reference.name]
    curves = curves_of(study, experiment, member)
    seconds = whole_seconds(curves)
    ratio, low, high = time_ratio(seconds, whole_seconds(curves_of(study, experiment, reference)))
    peak = peaks.get(member.arm.arm_id, math.nan)
    if not curves:
        first = study.summary(member.arm.arm_id, experiment.seeds[0])
        reason = first["reason"] or "no seed finished"
    else:
        reason = no_meter(peak)
    return {
        "way": member.label,
        "baseline": reference.label,
        "seconds": estimate(list(seconds.values())).mean,
        "time_ratio": ratio,
        "time_low": low,
        "time_high": high,
        "peak_mib": peak if curves else math.nan,
        "memory_ratio": peak / peaks.get(reference.arm.arm_id, math.nan) if curves else math.nan,
        "macs_ratio": mine["macs"] / base["macs"],
        "accuracy": mine["test_accuracy"],
        "accuracy_difference": mine["difference"],
        "accuracy_half_width": mine["difference_half_width"],
        "trainable_parameters": mine["parameters"],
        "seconds_to_goal": median_seconds(goal, curves),
        "reason": reason,
    }


def curves_of(study: Study, experiment: Experiment, member: Member) -> dict[int, pd.DataFrame]:
    """The evaluations of every finished seed of an arm."""
    arm = member.arm.arm_id
    return {seed: curve(study, arm, seed) for seed in study.finished_seeds(arm, experiment.seeds)}


def whole_seconds(curves: dict[int, pd.DataFrame]) -> dict[int, float]:
    """Training seconds of each seed."""
    return {seed: float(one["seconds"].iloc[-1]) for seed, one in curves.items()}


def time_ratio(mine: dict[int, float], base: dict[int, float]) -> tuple[float, float, float]:
    """(ratio, low, high) of the seconds over the seeds that both have: means of its logarithm.

    A ratio has no place below zero, where the interval of its plain mean may end.
    """
    shared = sorted(mine.keys() & base.keys())
    found = estimate([math.log(mine[seed] / base[seed]) for seed in shared])
    return math.exp(found.mean), math.exp(found.low), math.exp(found.high)


def no_meter(peak: float) -> str:
    """Why a row with all other figures has no memory."""
    return "" if peak >= 0 else "no memory: the device has no meter for it"
