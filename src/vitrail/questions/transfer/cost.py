"""Q8c: what each arm costs beside its accuracy, and how it got there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from vitrail import style
from vitrail.analysis import CONFIDENCE, Estimate, percent
from vitrail.intact import intact
from vitrail.questions.answer import markdown_table
from vitrail.questions.experiments.common import budget, mean_of, number, summarise
from vitrail.questions.study import Study
from vitrail.runs import Experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compared_networks(study: Study) -> Experiment | None:
    """The experiment of Q8 that sets timm's networks beside others: the first that has one."""
    for experiment in study.plan.of_question("q8_transfer"):
        if any(member.arm.settings["model"] == "timm" for member in experiment.members):
            return experiment
    return None


def cost_table(study: Study, experiment: Experiment) -> pd.DataFrame:
    """One row per arm: test accuracy and cost, mean over its finished seeds; NaN if not run.

    Columns: arm, label, seeds, test_accuracy, test_accuracy_half_width, parameters, macs (of a
    forward pass), train_seconds and test_seconds (per 1,000 images), peak_memory_mb (of the
    process).
    """
    table = summarise(study, experiment).set_index("arm")
    runs = study.runs(experiment)
    images = len(study.mnist.test_labels)
    rows = []
    for member in experiment.members:
        mine = runs[(runs["arm"] == member.name) & (runs["status"] == "finished")]
        kept = ["label", "seeds", "test_accuracy", "test_accuracy_half_width"]
        rows.append(
            {
                "arm": member.name,
                **table.loc[member.name, [*kept, "parameters", "macs"]].to_dict(),
                "train_seconds": 1000 / mean_of(mine, "train_samples_per_second"),
                "test_seconds": 1000 * mean_of(mine, "test_seconds") / images,
                "peak_memory_mb": mean_of(mine, "peak_memory_mb"),
            }
        )
    return pd.DataFrame(rows)


def cost_markdown(study: Study, experiment: Experiment, table: pd.DataFrame) -> str:
    """The table that the report prints; arms that did not run are marked."""
    rows = table.to_dict("records")
    accuracies = [
        percent(Estimate(row["test_accuracy"], row["test_accuracy_half_width"], row["seeds"]))
        for row in rows
    ]
    printed = pd.DataFrame(
        {
            "Arm": [
                row["label"] if row["seeds"] else f"{row['label']} [not run]{{.verdict .notrun}}"
                for row in rows
            ],
            "Accuracy (%)": [text.replace(" %", "") for text in accuracies],
            "Params (M)": [number(value, 1e6, ",.2f") for value in table["parameters"]],
            "MMACs": [number(value, 1e6, ",.1f") for value in table["macs"]],
            "s per 1,000, training": [number(v, 1, ",.2f") for v in table["train_seconds"]],
            "s per 1,000, inference": [number(v, 1, ",.2f") for v in table["test_seconds"]],
            "Memory (MB)": [number(value) for value in table["peak_memory_mb"]],
        }
    )
    caption = (
        "What an arm costs: million parameters and multiply-accumulates of a forward pass; seconds "
        "per 1,000 images in training, of which a linear probe runs the trunk once however many "
        "epochs it takes, and in inference on the test set; most memory of the process, torch "
        f"included. Runs share the machine with others. {budget(experiment, study)}."
    )
    return markdown_table(printed, caption, "q8-cost")


def learning_curves(study: Study, experiment: Experiment) -> pd.DataFrame:
    """Validation accuracy with the images and the seconds of training until then.

    One row per evaluation of each finished run: arm, label, seed, samples, seconds, val_accuracy.
    """
    columns = ["arm", "label", "seed", "step", "samples", "val_accuracy"]
    frames = [pd.DataFrame(columns=[*columns, "seconds"])]
    history = study.histories(experiment)
    for member in experiment.members:
        for seed in study.finished_seeds(member.arm.arm_id, experiment.seeds):
            mine = history[(history["arm"] == member.name) & (history["seed"] == seed)]
            folder = study.run_folder(member.arm.arm_id, seed)
            clock = pd.read_csv(intact(folder, "timing.csv"))
            frames.append(mine[columns].merge(clock, on="step"))
    found = [frame for frame in frames if len(frame)] or frames
    return pd.concat(found, ignore_index=True)


def draw_curves(curves: pd.DataFrame, looks: dict[str, style.Look]) -> Figure:
    """Validation accuracy against images and against seconds; mean and interval of the seeds.

    Args:
        curves: of `learning_curves`.
        looks: of the arms (`style.looks_of`).
    """
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 4.4), sharey=True)
    for arm, mine in curves.groupby("arm", sort=False):
        look, label = looks[str(arm)], mine["label"].iloc[0]
        steps = mine.groupby("step").agg(
            samples=("samples", "first"),
            seconds=("seconds", "mean"),
            mean=("val_accuracy", "mean"),
            spread=("val_accuracy", "sem"),
            seeds=("val_accuracy", "size"),
        )
        half = steps["spread"].fillna(0) * [_t(int(n)) for n in steps["seeds"]]
        for axes, column in ((left, "samples"), (right, "seconds")):
            axes.plot(
                steps[column], 100 * steps["mean"], **look.plot, markersize=3.5,
                label=label if axes is left else None,
            )  # fmt: skip
            low, high = 100 * (steps["mean"] - half), (100 * (steps["mean"] + half)).clip(upper=100)
            axes.fill_between(steps[column], low, high, color=look.colour, alpha=0.15, linewidth=0)
    left.set(xlabel="training images seen", ylabel="validation accuracy (%)")
    right.set_xlabel("seconds of training, one thread")
    if len(curves):
        left.set_ylim(max(0, 100 * curves["val_accuracy"].min() - 5), 100)
        style.plain_log_ticks_x(right)
        drawing.legend(loc="outside lower center", ncols=2)
    return drawing


def _t(seeds: int) -> float:
    """Student's factor of a 95 % interval; none for one seed, which has no interval."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, seeds - 1)) if seeds > 1 else math.nan


def curves_markdown(table: pd.DataFrame) -> str:
    """The figure with how to read it; `table` is that of `cost_table`."""
    from vitrail.questions.experiments.figures import markdown, ranking

    return markdown(
        "q8_transfer",
        "learning_curves",
        "q8-learning-curves",
        "Accuracy on the validation split while training, mean of the seeds and its 95 % interval: "
        "left against the images seen, right against the seconds of training (logarithmic). Up and "
        "to the left is better.",
        "The same curves of validation accuracy in two panels, against images and against "
        f"seconds. Test accuracies, {ranking(table)}.",
    )
