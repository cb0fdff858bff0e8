"""Q7's ways to lower the cost, as the report prints them: three tables, and what is missing."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from vitrail.analysis import Estimate, counted, points
from vitrail.questions.answer import markdown_table
from vitrail.questions.complexity.ways import BASELINE

Row = dict[Any, Any]
DASH = "\N{EM DASH}"
MISSING = "not run"
SAME_GRADIENT = 1e-3
REASONS = "Missing figures, and why:"


def cell(value: float, scale: float = 1, form: str = ".2f", missing: str = DASH) -> str:
    """A figure for print."""
    return missing if pd.isna(value) else format(value * scale, form)


def seconds_cell(row: Row, scale: float, form: str) -> str:
    """The time of a row; a way that has none was not run."""
    return cell(row["seconds"], scale, form, MISSING)


def ratio_cell(row: Row) -> str:
    """Time over the baseline's, with the interval where there is one."""
    ratio, low, high = row["time_ratio"], row["time_low"], row["time_high"]
    if is_baseline(row):
        return cell(ratio, form=".0f")
    if pd.isna(ratio) or pd.isna(low):
        return cell(ratio)
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def memory_cell(row: Row) -> str:
    """Memory over the baseline's."""
    return cell(row["memory_ratio"], form=".0f" if is_baseline(row) else ".2f")


def points_cell(row: Row) -> str:
    """Accuracy minus the baseline's, in points."""
    if is_baseline(row) and not pd.isna(row["accuracy"]):
        return "reference"
    if pd.isna(row["accuracy_difference"]):
        return DASH
    return points(Estimate(row["accuracy_difference"], row["accuracy_half_width"], 2))


def step_accuracy_cell(row: Row) -> str:
    """Where the gradient is the baseline's but for rounding, training ends the same."""
    if row["gradient_difference"] < SAME_GRADIENT:
        return "same"
    return cell(row["accuracy"], 100)


def is_baseline(row: Row) -> bool:
    """Whether others are compared with this row."""
    return bool(row["way"] == row["baseline"])


def goal_cell(seconds: float) -> str:
    """Seconds to the goal."""
    return "not reached" if seconds == math.inf else cell(seconds, form=".1f")


def cost_cells(row: Row) -> dict[str, str]:
    """Time and memory beside the baseline's, the same in every table."""
    return {
        "×\N{NO-BREAK SPACE}time": ratio_cell(row),
        "MiB": cell(row["peak_mib"], form=".1f"),
        "×\N{NO-BREAK SPACE}MiB": memory_cell(row),
    }


def rows_of(ways: pd.DataFrame, table: str) -> list[Row]:
    """The rows of one of the three tables."""
    return list(ways[ways["table"] == table].to_dict("records"))


def grouped(rows: list[Row], printed: list[dict[str, str]]) -> pd.DataFrame:
    """The printed rows under bold lines with the names of their groups; baselines have none."""
    lines, last = [], BASELINE
    for row, line in zip(rows, printed, strict=True):
        if row["group"] != last:
            last = row["group"]
            lines.append({key: f"**{last}**" if key == "Way" else "" for key in line})
        lines.append(line)
    return pd.DataFrame(lines)


def reasons_markdown(rows: list[Row]) -> str:
    """Why figures are missing, each reason once; nothing when none is."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            by_reason.setdefault(row["reason"], []).append(row["way"])
    if not by_reason:
        return ""
    lines = [f"- {'; '.join(names)}: {reason}." for reason, names in by_reason.items()]
    return "\n".join(["", REASONS, "", *lines, ""])


def inference_markdown(ways: pd.DataFrame, execution: Row, reduction: Row) -> str:
    """Ways to compute a trained network; the facts are the env.json of both steps."""
    rows = rows_of(ways, "inference")
    printed = [
        {
            "Way": row["way"],
            "Time (ms)": seconds_cell(row, 1e3, ".3f"),
            **cost_cells(row),
            "MACs": cell(row["macs_ratio"]),
            "Accuracy (%)": cell(row["accuracy"], 100),
            "Points": points_cell(row),
        }
        for row in rows
    ]
    caption = (
        "Ways to compute a trained ViT (patches of 4, one seed): time of one image in batches, "
        "peak memory of a batch above the weights, share of the MACs where the way changes them, "
        "test accuracy and its difference in points, with ratios to the baseline: the first row, "
        "and for fewer tokens the row of all tokens. Of each way "
        "to fewer tokens the setting nearest to half of the MACs. Intervals of 95 %: of times "
        "over the rounds of the clock, of points over the test images. Kernels: "
        f"{machine(execution)}, {execution['settings']['batch_size']} images a batch, nothing "
        f"of the study beside it, accuracy of {number_of_images(rows)} images without an interval. "
        f"Tokens: {machine(reduction)}, batches of 100, {reduction['test_images']:,} images."
    )
    return (
        markdown_table(grouped(rows, printed), caption, "q7-ways-inference")
        + reasons_markdown(rows)
    )  # fmt: skip


def step_markdown(ways: pd.DataFrame, execution: Row) -> str:
    """Ways to compute a training step."""
    rows = rows_of(ways, "step")
    printed = [
        {
            "Way": row["way"],
            "Time (ms)": seconds_cell(row, 1e3, ".2f"),
            **cost_cells(row),
            "Gradient": cell(row["gradient_difference"], form=".0e"),
            "Params (k)": cell(row["trainable_parameters"], 1e-3, ",.0f"),
            "Accuracy (%)": step_accuracy_cell(row),
        }
        for row in rows
    ]
    caption = (
        "Ways to compute a training step, forward and backward: time of one image, peak memory of "
        "a step above the weights (of one of the two processes, which take twice the cores), the "
        "largest difference of an "
        "entry of the gradient as a share of the largest entry, and trained parameters. The "
        "baseline of LoRA is the training of all weights of ViT-S, that of the others the first "
        "row, the ViT of @tbl-q7-ways-inference on all patches. *Same*: with that gradient "
        "training ends the same but for rounding; what bf16 does to it stands in "
        "@tbl-q7-ways-training. Offloading without a GPU means files, which the system may still "
        "hold in its memory. "
        f"Intervals of 95 % over the rounds. {machine(execution)}, "
        "nothing of the study beside it."
    )
    return (
        markdown_table(grouped(rows, printed), caption, "q7-ways-step") + reasons_markdown(rows)
    )  # fmt: skip


def training_markdown(ways: pd.DataFrame, goal: float, seeds: int, hardware: str) -> str:
    """Ways to train."""
    rows = rows_of(ways, "training")
    to_goal = f"s to {100 * goal:g} %"
    printed = [
        {
            "Way": row["way"],
            "Time (s)": seconds_cell(row, 1, ".1f"),
            **cost_cells(row),
            to_goal: goal_cell(row["seconds_to_goal"]),
            "Accuracy (%)": cell(row["accuracy"], 100),
            "Points": points_cell(row),
        }
        for row in rows
    ]
    caption = (
        "Ways to train, as many images in a gradient: seconds of training, peak memory above the "
        f"weights, median seconds until {100 * goal:g} % of the validation images are right, and "
        "test accuracy with its difference in points. The baseline is the first row; that of the "
        "other kinds of attention is softmax attention without a class token. "
        f"Means over {counted(seeds, 'seed')}, intervals of 95 % over them, paired by seed. "
        f"{hardware}; one core each, and other trainings on the other cores, which the seconds "
        "feel: a ratio whose interval holds 1 tells no two ways apart."
    )
    return (
        markdown_table(grouped(rows, printed), caption, "q7-ways-training")
        + reasons_markdown(rows)
    )  # fmt: skip


def number_of_images(rows: list[Row]) -> str:
    """On how many test images the kernels were judged."""
    found = [row["images"] for row in rows if not pd.isna(row["images"])]
    return f"{int(found[0]):,}" if found else "no"


def machine(facts: Row) -> str:
    """Hardware and load of a step, for captions."""
    # torch does not say which of Apple's GPUs multiply it.
    emulates = facts.get("bf16") is False and facts["device"] != "mps"
    processor = facts["hardware"] + ", which emulates bf16" * emulates
    return f"{processor}, one thread, load average {facts['load_average']}"
