"""Accuracy against cost: parameters, work and speed, with the yardsticks in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitrail import style
from vitrail.analysis import Estimate, points
from vitrail.claims import Claim, all_above_zero, holds
from vitrail.questions.experiments.common import difference, findings_markdown
from vitrail.questions.experiments.figures import markdown
from vitrail.questions.study import Study
from vitrail.runs import Experiment, Member

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEM = "q6_vit"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MODEL_NAMES = {
    "vit": "ViT",
    "cnn": "CNN",
    "mlp": "MLP on pixels",
    "logistic": "logistic regression",
    "timm": "timm's network",
}


@dataclass(frozen=True)
class Cost:
    """One way to count what a network costs."""

    column: str  # of the tables of `experiments.summarise`
    axis: str
    cheaper: str  # "is more accurate ... with fewer parameters"
    more_is_cheaper: bool = False

    def less(self, first: float, second: float) -> bool:
        """Whether a network with the first figure is the cheaper one."""
        return first > second if self.more_is_cheaper else first < second


COSTS = (
    Cost("parameters", "parameters", "with fewer parameters"),
    Cost("macs", "MACs of a forward pass", "with fewer MACs"),
    Cost("train_samples_per_second", "training images per second", "in faster training", True),
)


def points_of(tables: dict[str, pd.DataFrame], budget: float) -> pd.DataFrame:
    """One row per arm that ran, with `full`: whether it saw at least `budget` images.

    An arm of several experiments keeps the name that it has in the first of them.
    """
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables.values(), ignore_index=True)
    ran = table[table["seeds"] > 0].drop_duplicates("run_ids").reset_index(drop=True)
    return ran.assign(full=ran["samples"] >= budget, error=100 * (1 - ran["test_accuracy"]))


def claims(study: Study, tables: dict[str, pd.DataFrame]) -> list[Claim]:
    """Is another kind of network both more accurate and cheaper than the base ViT?

    One claim per kind of cost, from the experiment in which the base ViT has yardsticks.
    """
    for experiment in study.plan.of_question(STEM):
        base = [m for m in experiment.members if m.arm.arm_id == study.plan.base]
        rivals = [m for m in experiment.members if m.arm.settings["model"] != "vit"]
        if base and rivals:
            table = tables[experiment.name].set_index("arm")
            return [decide(study, experiment, table, base[0], rivals, cost) for cost in COSTS]
    return []


def decide(
    study: Study,
    experiment: Experiment,
    table: pd.DataFrame,
    base: Member,
    rivals: list[Member],
    cost: Cost,
) -> Claim:
    """The base beats every rival that is cheaper; undecided where an interval has zero.

    What a network costs that did not run is not known, so it may be the one that is cheaper
    and better: without it the claim can fail, but not hold.
    """
    members = (base, *rivals)
    spent = {member.name: float(str(table.loc[member.name, cost.column])) for member in members}
    missing = [member for member in members if math.isnan(spent[member.name])]
    gaps: list[tuple[str, Estimate]] = []
    for rival in rivals:
        if base in missing or rival in missing or cost.less(spent[rival.name], spent[base.name]):
            gap = difference(study, experiment, base.name, rival.name)
            gaps.append((rival.label, gap))
    better = [label for label, gap in gaps if gap.high < 0]
    evidence = [f"{label}: {points(gap)} points" for label, gap in gaps if gap.n]
    evidence += [f"{member.label}: not run" for member in missing]
    name = cost.column.removeprefix("train_").replace("_", "-")
    return holds(
        f"q6-no-better-and-cheaper-{name}",
        f"No yardstick is more accurate than the {base.label} {cost.cheaper}.",
        f"95 % intervals of the test accuracy of the {base.label} minus that of each yardstick "
        f"that is cheaper by {cost.axis}, paired by seed; all have to lie above zero",
        "; ".join(evidence) or "no yardstick is cheaper",
        all_above_zero(gap for _, gap in gaps),
        f"More accurate than the {base.label} {cost.cheaper}: {', '.join(better)}.",
    )


def section(table: pd.DataFrame, decided: list[Claim]) -> str:
    """The picture with how to read it, in Markdown; nothing where nothing ran."""
    if table.empty:
        return "<!-- no run to draw -->"
    lowest = table.sort_values("error").iloc[0]
    drawing = markdown(
        STEM,
        "cost",
        "q6-cost",
        "Test error against three kinds of cost, on logarithmic axes, one point per arm (mean over "
        "the seeds). Colour and shape tell the kind of network. Filled: at least the budget of the "
        "base ViT; open: the short budget of the ablations. Compare filled points with filled "
        "ones, open with open. Letters: the ViTs at full budget, and the best and the worst of the "
        "others.",
        "Three scatter plots of test error, against parameters, multiply-accumulates and speed. "
        f"The lowest point is {lowest['label']}, with an error of {lowest['error']:.2g} %.",
    )
    return f"""#### Accuracy against cost {{#sec-q6-cost}}

@fig-q6-cost has every arm of this question: the short runs of the ablations, and those with at
least the budget of the base ViT. Points to the lower left of another (lower right for the speed)
are better and cheaper. Parameters and multiply-accumulates are counted. Images per second are
measured while other networks train on the same machine, so they are rough.

{findings_markdown(decided)}

{drawing}
"""


def draw(table: pd.DataFrame) -> Figure:
    """Test error against parameters, MACs and training speed."""
    import matplotlib.pyplot as plt

    drawing, grid = plt.subplots(1, len(COSTS), figsize=(style.WIDTH, 3.2), sharey=True)
    for axes, cost in zip(grid, COSTS, strict=True):
        for row in table.to_dict("records"):
            kind = str(row["model"])
            look = style.KINDS[kind]
            axes.scatter(
                row[cost.column], row["error"], s=30, marker=look.marker,
                facecolor=look.colour if row["full"] else "none", edgecolor=look.colour,
                linewidth=1.1,
                zorder=3 if row["full"] else 2,
            )  # fmt: skip
        style.plain_log_ticks_x(axes, subs=(1,))
        axes.margins(x=0.18, y=0.1)
        axes.set_xlabel(cost.axis)
        name_points(axes, table, cost)
    style.plain_log_ticks(grid[0])
    grid[0].set_ylabel("test error (%)")
    drawing.legend(handles=legend(table), loc="outside lower center", ncols=3)
    return drawing


def legend(table: pd.DataFrame) -> list[Any]:
    """A handle per kind of network, and what filled and open mean."""
    from matplotlib.lines import Line2D

    def handle(label: str, marker: str, colour: str, filled: bool) -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker=marker, color=colour, label=label,
            markerfacecolor=colour if filled else "none",
        )  # fmt: skip

    kinds = [kind for kind in MODEL_NAMES if kind in set(table["model"])]
    handles = [
        handle(MODEL_NAMES[kind], style.KINDS[kind].marker, style.KINDS[kind].colour, True)
        for kind in kinds
    ]
    if not table["full"].all():
        handles.append(handle("ViT, short budget", "o", style.VIT, False))
    for letter, label in zip(LETTERS, named(table)["label"], strict=False):
        handles.append(handle(f"{letter}   {label}", "", style.INK, True))
    return handles


def named(table: pd.DataFrame) -> pd.DataFrame:
    """The ViTs at full budget, and the best and the worst short run, the best first."""
    vits = table[table["model"] == "vit"].sort_values("error")
    short = vits[~vits["full"]]
    return pd.concat([vits[vits["full"]], short.head(1), short.tail(1) if len(short) > 1 else None])


def name_points(axes: Axes, table: pd.DataFrame, cost: Cost) -> None:
    """A letter at each of these points; the legend has their names, which are too long here."""
    from matplotlib.patheffects import withStroke

    for letter, row in zip(LETTERS, named(table).to_dict("records"), strict=False):
        axes.annotate(
            letter, (row[cost.column], row["error"]), weight="bold", ha="left", va="bottom",
            xytext=(3, 2), textcoords="offset points", zorder=4,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
