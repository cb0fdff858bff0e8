"""The patch-shuffle test in the report: its table, its figure, how to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import Estimate, count, counted, estimate, paired_difference, percent, points
from vitrail.claims import Claim
from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.experiments.common import findings_markdown
from vitrail.questions.experiments.figures import markdown
from vitrail.questions.positions.shuffle import (
    EVERY,
    NAME,
    by_seed,
    decide,
    measure,
    permutations,
    shuffled,
)
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "patch_shuffle"  # of figure, table and data


def add_patch_shuffle(study: Study, answer: Answer) -> None:
    """Add the test to the answer of Q6: claims, data, and a section with table and figure.

    ``tables/q6_vit/patch_shuffle.md`` is there in every case; without the experiment, or
    without a finished run of it, it holds a comment.
    """
    found = [e for e in study.plan.of_question("q6_vit") if e.name == NAME]
    results = measure(study, found[0]) if found else pd.DataFrame()
    if results.empty:
        answer.tables[KEY] = f"<!-- no finished run of the experiment {NAME} -->"
        return
    claims = decide(results)
    answer.claims += claims
    runs = study.runs_of(found[0])
    answer.draw(KEY, draw, study, results, data=results, runs=runs)
    answer.tabulate(KEY, section, results, claims, data=KEY, runs=runs)


def summary(results: pd.DataFrame) -> list[tuple[str, Estimate, Estimate, Estimate]]:
    """Per arm: label, accuracy intact, accuracy shuffled, difference paired by seed."""
    return [
        (
            str(rows["label"].iloc[0]),
            estimate(rows["intact"].tolist()),
            estimate(rows["shuffled"].tolist()),
            paired_difference(by_seed(rows, "shuffled"), by_seed(rows, "intact")),
        )
        for _, rows in results.groupby("arm", sort=False)
    ]


def section(results: pd.DataFrame, claims: list[Claim]) -> str:
    """The test in Markdown: what was done, what came out, table and figure."""
    digits, seeds = results["images"].iloc[0], results["seed"].nunique()
    table = markdown_table(
        pd.DataFrame(
            [
                (label, percent(intact), percent(moved), points(gap))
                for label, intact, moved, gap in summary(results)
            ],
            columns=["Arm", "Intact digits", "Shuffled digits", "Change (points)"],
        ),
        f"The patch-shuffle test on {count(digits)} test digits, up to "
        f"{counted(seeds, 'seed')} per arm: test accuracy with its 95 % interval, and the "
        "change in points, paired by seed.",
        "q6-patch-shuffle",
    ).strip()
    drawing = markdown(
        "q6_vit",
        KEY,
        "q6-patch-shuffle",
        "The patch-shuffle test. Left: a test digit as it is and with its patches shuffled. Right: "
        "test accuracy on intact (filled) and on shuffled digits (open), mean and 95 % interval "
        "over the seeds.",
        "A digit, the same with its patches in disorder, and the accuracies on both kinds by arm.",
    )
    return f"""**The patch-shuffle test.** What a network knows of places shows when they are taken
away. The trained networks of the experiment on positional embeddings (@sec-q6_vit-pos_embed) read
{count(digits)} test digits (every {EVERY}th) twice: intact, and with the patches of each digit in
an order of its own, drawn once for all networks (@fig-q6-patch-shuffle). No network was trained on
shuffled digits.

{findings_markdown(claims)}

{table}

{drawing}
"""


def draw(study: Study, results: pd.DataFrame) -> Figure:
    """Left: a digit intact and shuffled. Right: accuracy of each arm on both."""
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplot_mosaic(
        [["intact", "accuracy"], ["shuffled", "accuracy"]],
        figsize=(style.WIDTH, 2.9), width_ratios=[1, 2.9],
    )  # fmt: skip
    draw_example(study, axes, int(results["patch_size"].iloc[0]))
    plot = axes["accuracy"]
    arms = summary(results)
    for height, (_, intact, moved, _) in enumerate(arms):
        plot.plot(
            [100 * intact.mean, 100 * moved.mean], [height - 0.12, height + 0.12],
            color=style.GRID, zorder=1,
        )  # fmt: skip
        for value, shift, filled in ((intact, -0.12, True), (moved, 0.12, False)):
            plot.errorbar(
                100 * value.mean, height + shift, xerr=100 * np.nan_to_num(value.half_width),
                fmt="o" if filled else "D", color=style.VIT, capsize=3, markersize=6,
                markerfacecolor=style.VIT if filled else "white",
                label=("intact" if filled else "patches shuffled") if not height else None,
            )  # fmt: skip
    plot.axvline(10, color=style.GUIDE, linestyle=":")
    plot.text(11, -0.5, "guessing", color=style.GUIDE)
    plot.set_yticks(range(len(arms)), [label for label, *_ in arms])
    plot.set(ylim=(len(arms) - 0.5, -0.7), xlim=(0, 101), xlabel="test accuracy (%)")
    plot.grid(axis="y", visible=False)
    plot.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    return drawing


def draw_example(study: Study, axes: dict[str, Any], patch_size: int) -> None:
    """The first test digit twice, with the lines between its patches."""
    digit = study.mnist.test_images[:1]
    size = digit.shape[1]
    order = permutations(1, (size // patch_size) ** 2)
    for name, shown in (("intact", digit), ("shuffled", shuffled(digit, patch_size, order))):
        axes[name].imshow(shown[0], cmap=style.DIGITS)
        axes[name].set_title(name, loc="center")
        axes[name].set(xticks=[], yticks=[])
        axes[name].spines[:].set_visible(True)
        for line in range(patch_size, size, patch_size):
            axes[name].axhline(line - 0.5, color=style.GUIDE, linewidth=0.6)
            axes[name].axvline(line - 0.5, color=style.GUIDE, linewidth=0.6)
