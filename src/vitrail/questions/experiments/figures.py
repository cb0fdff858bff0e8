"""The figure that every experiment gets: accuracies and curves, or a grid for two factors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from vitrail import style
from vitrail.questions.experiments import grid as grid_figure
from vitrail.questions.study import Study
from vitrail.runs import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def markdown(stem: str, name: str, label: str, caption: str, alternative: str) -> str:
    """A figure of a question with its caption; `label` is what `@fig-` refers to."""
    text = " ".join(caption.split())
    return f'![{text}](figures/{stem}/{name}.svg){{#fig-{label} fig-alt="{alternative}"}}'


def draw(study: Study, experiment: Experiment, table: pd.DataFrame) -> Figure:
    """The figure of an experiment; `table` has one row per arm (`experiments.summarise`)."""
    if len(experiment.factors) == 2:
        return grid_figure.draw(experiment, table)
    return draw_arms(study, experiment, table)


def words(experiment: Experiment) -> tuple[str, str]:
    """How to read the figure: for its caption, and for those who cannot see it."""
    if len(experiment.factors) == 2:
        return grid_figure.words(experiment)
    arms = ", ".join(member.label for member in experiment.members)
    return (
        "Left: test accuracy of each seed (dots), their mean (diamond) and its 95 % interval. "
        "Right: validation accuracy while training in the same colours, mean and range of the "
        "seeds.",
        f"Two panels comparing {arms}: accuracies with intervals, and learning curves.",
    )


def draw_arms(study: Study, experiment: Experiment, table: pd.DataFrame) -> Figure:
    """Left: accuracy with interval and each seed. Right: learning curves."""
    import matplotlib.pyplot as plt

    there = [member for member in experiment.members if _finished(table, member.name)]
    looks = style.looks_of(experiment.members, study.plan.arms[study.plan.base].settings)
    drawing, (left, right) = plt.subplots(
        1, 2, figsize=(style.WIDTH, 0.9 + 0.3 * max(4, len(there)))
    )
    draw_accuracies(left, study, experiment, table, looks)
    curves = study.histories(experiment)
    for member in there:
        mine = curves[curves["arm"] == member.name].groupby("samples")["val_accuracy"]
        mean, look = 100 * mine.mean(), looks[member.name]
        right.plot(mean.index, mean, **look.plot, markersize=3.5)
        right.fill_between(
            mean.index, 100 * mine.min(), 100 * mine.max(), color=look.colour, alpha=0.15,
            linewidth=0,
        )  # fmt: skip
    right.set(xlabel="training images seen", ylabel="validation accuracy (%)")
    right.xaxis.set_major_locator(plt.MaxNLocator(4))
    right.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    style.set_apart(drawing)
    return drawing


def _finished(table: pd.DataFrame, arm: str) -> bool:
    return bool((table.loc[table["arm"] == arm, "seeds"] > 0).any())


def draw_accuracies(
    axes: Axes,
    study: Study,
    experiment: Experiment,
    table: pd.DataFrame,
    looks: dict[str, style.Look],
) -> None:
    """One line per arm: seeds as dots, mean and 95 % interval; arms not run are named."""
    labels = []
    for height, row in enumerate(table.to_dict("records")):
        labels.append(row["label"])
        if not row["seeds"]:
            axes.text(0.02, height, "not run", va="center", transform=axes.get_yaxis_transform())
            continue
        look = looks[row["arm"]]
        seeds = study.accuracy_by_seed(experiment, row["arm"]).values()
        axes.scatter(
            [100 * value for value in seeds],
            [height] * row["seeds"],
            s=16,
            color=look.colour,
            alpha=0.5,
            linewidth=0,
        )
        half = row["test_accuracy_half_width"]
        reach = 0 if math.isnan(half) else half
        axes.errorbar(
            100 * row["test_accuracy"], height, xerr=100 * reach, fmt=look.marker,
            color=look.colour, markersize=5, capsize=3,
        )  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    draw_keys(axes, [looks.get(arm) for arm in table["arm"]])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("test accuracy (%)")


def draw_keys(axes: Axes, looks: list[style.Look | None]) -> None:
    """The line of each arm between its name and the axis: the key to the curves beside it."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    figure = axes.get_figure(root=True)
    assert figure is not None
    inches = figure.dpi_scale_trans + ScaledTranslation(0, 0, axes.transAxes)
    beside = blended_transform_factory(inches, axes.transData)
    for height, look in enumerate(looks):
        if look:
            axes.plot(
                [-0.34, -0.06], [height, height], color=look.colour, linestyle=look.line,
                transform=beside, clip_on=False, scalex=False, scaley=False,
            )  # fmt: skip
    axes.tick_params(axis="y", pad=28)
