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


def words(experiment: Experiment, table: pd.DataFrame) -> tuple[str, str]:
    """What the figure means and how to read it, and what is seen, for those who cannot see it."""
    if len(experiment.factors) == 2:
        return grid_figure.words(experiment, table)
    return (
        f"{extremes(table)}Left: test accuracy of each seed (dots), their mean and its 95 % "
        "interval; arms whose intervals overlap widely are not told apart. Right: validation "
        "accuracy while training, mean and range of the seeds, in the lines of the left panel.",
        f"Left, a marker with an interval for each arm, {ranking(table)}. Right, the curve of "
        "validation accuracy of each arm against the images seen.",
    )


def ranking(table: pd.DataFrame) -> str:
    """The arms of `experiments.summarise` in the order of their marks, as they are seen."""
    ran = table[table["seeds"] > 0].sort_values("test_accuracy", ascending=False, kind="stable")
    if ran.empty:
        return "none of which ran"
    places = [
        f"{row['label']} at {100 * row['test_accuracy']:.1f} %" for row in ran.to_dict("records")
    ]
    return f"from the highest to the lowest: {', '.join(places)}"


def extremes(table: pd.DataFrame) -> str:
    """The arms with the highest and the lowest mean; nothing where fewer than two ran."""
    ran = table[table["seeds"] > 0].sort_values("test_accuracy", ascending=False, kind="stable")
    if len(ran) < 2:
        return ""
    best, worst = ran.iloc[0], ran.iloc[-1]
    return f"The highest mean is that of *{best['label']}*, the lowest that of *{worst['label']}*. "


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
    corner = ScaledTranslation(0, 0, axes.transAxes)  # type: ignore[arg-type]  # any transform
    inches = figure.dpi_scale_trans + corner
    beside = blended_transform_factory(inches, axes.transData)
    for height, look in enumerate(looks):
        if look:
            axes.plot(
                [-0.34, -0.06], [height, height], color=look.colour, linestyle=look.line,
                transform=beside, clip_on=False, scalex=False, scaley=False,
            )  # fmt: skip
    axes.tick_params(axis="y", pad=28)
