"""What each single choice changes: the differences of all one-factor experiments together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vitrail import style
from vitrail.analysis import CONFIDENCE, Estimate, counted, paired_difference, points
from vitrail.claims import Claim, all_above_zero, holds
from vitrail.questions.experiments.common import findings_markdown
from vitrail.questions.experiments.figures import markdown
from vitrail.questions.study import Study
from vitrail.runs import Experiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["experiment", "title", "arm", "label", "reference", "difference", "half_width", "seeds"]
LINEAR = 1.0  # points; beyond, the axis is logarithmic
TICKS = [1, 2, 5, 10, 20, 50]


def one_factor(experiment: Experiment) -> bool:
    """Whether all arms are ViTs that differ from the reference in what is studied alone."""
    models = {member.arm.settings["model"] for member in experiment.members}
    return models == {"vit"} and len(experiment.factors) < 2


def effects(study: Study, stem: str) -> pd.DataFrame:
    """Test accuracy of every arm minus that of its reference, paired by seed.

    One row per comparison with an interval (two seeds or more), in the order of the
    config: the columns of `COLUMNS`; differences are fractions.
    """
    rows = []
    for experiment in study.plan.of_question(stem):
        if not one_factor(experiment):
            continue
        reference = experiment.member(experiment.reference)
        standard = study.accuracy_by_seed(experiment, reference.name)
        for member in experiment.members:
            mine = study.accuracy_by_seed(experiment, member.name)
            gap = paired_difference(mine, standard)
            if member is not reference and gap.n > 1:
                names = (experiment.name, experiment.title, member.name, member.label)
                rows.append((*names, reference.label, gap.mean, gap.half_width, gap.n))
    return pd.DataFrame(rows, columns=COLUMNS)


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """The effects whose interval excludes zero."""
    return table[table["difference"].abs() > table["half_width"]]


def sentence(table: pd.DataFrame) -> str:
    """How many choices change the accuracy, and which most; for the answer."""
    if table.empty:
        return ""
    clear = decided(table)
    counts = (
        f"Of {counted(len(table), 'single change')} to the ViT, "
        f"{len(clear) or 'none'} moved the test accuracy so that the 95 % interval excludes zero"
    )
    if clear.empty:
        return f"{counts}."
    most = max(clear.to_dict("records"), key=lambda row: abs(row["difference"]))
    gap = Estimate(most["difference"], most["half_width"], most["seeds"])
    return (
        f"{counts}; the largest of these differences is that of *{most['label']}* to "
        f"*{most['reference']}* ({points(gap)} points)."
    )


def positions_matter_most(study: Study, stem: str) -> list[Claim]:
    """Is a missing positional embedding the costliest change? No claim where it is not tried.

    It is held against every other change, not against the one that cost most on these runs:
    the largest of many is large by chance too.
    """
    losses: dict[tuple[str, str], dict[int, float]] = {}
    without: dict[int, float] | None = None
    for experiment in filter(one_factor, study.plan.of_question(stem)):
        standard = study.accuracy_by_seed(experiment, experiment.reference)
        for member in experiment.members:
            if member.name == experiment.reference:
                continue
            mine = study.accuracy_by_seed(experiment, member.name)
            lost = {seed: standard[seed] - mine[seed] for seed in sorted({*mine} & {*standard})}
            if experiment.factors == ("pos_embed",) and member.arm.settings["pos_embed"] == "none":
                without = lost
            else:
                losses[experiment.name, member.label] = lost
    if without is None or not losses:
        return []
    gaps = [(label, paired_difference(without, lost)) for (_, label), lost in losses.items()]
    costlier = [f'"{label}"' for label, gap in gaps if gap.high < 0]
    return [
        holds(
            "q6-positions-matter-most",
            "No single change costs as much accuracy as leaving out the positional embedding.",
            "95 % intervals of the accuracy lost without positions minus that lost by each other "
            "single change, paired by seed; all have to lie above zero",
            _closest(gaps),
            all_above_zero(gap for _, gap in gaps),
            "Leaving out the positional embedding does not cost most; "
            f"{', '.join(costlier)} {'costs' if len(costlier) == 1 else 'cost'} more.",
        )
    ]


def _closest(gaps: list[tuple[str, Estimate]]) -> str:
    """How many intervals lie above zero, the smallest difference, and what did not run."""
    above = sum(gap.low > 0 for _, gap in gaps)
    parts = [f"{above} of {counted(len(gaps), 'interval')} above zero"]
    ran = [(label, gap) for label, gap in gaps if gap.n]
    if ran:
        label, gap = min(ran, key=lambda one: one[1].mean)
        parts.append(f'closest is "{label}": {points(gap)} points over {counted(gap.n, "seed")}')
    parts += [f'"{label}": not run' for label, gap in gaps if not gap.n]
    return "; ".join(parts)


def section(stem: str, table: pd.DataFrame, claims: list[Claim]) -> str:
    """All effects at a glance, in Markdown; nothing where no comparison has an interval."""
    if table.empty:
        return "<!-- no comparison of this question has an interval -->"
    clear, chance = len(decided(table)), (1 - CONFIDENCE) * len(table)
    drawing = markdown(
        stem,
        "effects",
        "q6-effects",
        "What each single choice changes: test accuracy of the arm minus that of the reference "
        "named in the heading, in points; mean and 95 % interval of the differences paired by "
        "seed. Filled: the interval excludes zero. The axis is linear between "
        f"−{LINEAR:g} and {LINEAR:g} and logarithmic beyond.",
        f"A row for each of {len(table)} arms with a point and an interval beside a line at zero: "
        f"{(decided(table)['difference'] < 0).sum()} intervals lie wholly left of it, "
        f"{(decided(table)['difference'] > 0).sum()} wholly right of it.",
    )
    return f"""@fig-q6-effects puts the single choices side by side; in the HTML
edition it tells the values of every seed. {clear} of
{counted(len(table), "interval")} {"excludes" if clear == 1 else "exclude"} zero; if no choice
mattered at all, about {chance:.1g} of them would do so by chance. What is chosen inside the block,
its activation, heads and norms, is the matter of @sec-q2, @sec-q4 and @sec-q5.

{findings_markdown(claims)}

::: {{.explore view="effects"}}

{drawing}

:::
"""


def draw(table: pd.DataFrame) -> Figure:
    """Forest plot: a line per arm under the heading of its experiment."""
    import matplotlib.pyplot as plt

    lines = len(table) + table["experiment"].nunique()
    tall = 0.6 + 0.2 * lines
    # Placed by hand: headings and figures in the margins take no room from the plot.
    drawing = plt.figure(figsize=(style.WIDTH, tall), layout="none")
    low, high = 0.5 / tall, 0.99 - 0.5 / tall
    names = drawing.add_axes((0.01, low, 0.26, high))
    axes = drawing.add_axes((0.28, low, 0.57, high), sharey=names)
    height = 0
    for _, group in table.groupby("experiment", sort=False):
        first = group.iloc[0]
        text = f"{first['title']}, against {first['reference']}"
        names.text(
            0, height, text, weight="bold", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        height += 1
        for row in group.to_dict("records"):
            gap = Estimate(row["difference"], row["half_width"], row["seeds"])
            names.text(0.06, height, row["label"], va="center")
            draw_effect(axes, height, gap)
            height += 1
    names.set_axis_off()
    names.set(xlim=(0, 1), ylim=(lines - 0.4, -0.6))
    names.set_zorder(axes.get_zorder() + 1)  # headings run on into the empty lines of the plot
    finish(axes, table)
    return drawing


def draw_effect(axes: Axes, height: float, gap: Estimate) -> None:
    """One line: the interval, its middle, and both in figures at the right margin."""
    clear, colour = abs(gap.mean) > gap.half_width, colour_of(gap)
    axes.errorbar(
        100 * gap.mean, height, xerr=100 * gap.half_width, fmt="o", color=colour, markersize=5,
        markerfacecolor=colour if clear else "white", capsize=2.5, elinewidth=1.2,
    )  # fmt: skip
    axes.text(1.02, height, points(gap), va="center", transform=axes.get_yaxis_transform())


def colour_of(gap: Estimate) -> str:
    """The colour of the ViT where the interval excludes zero, that of helping lines elsewhere."""
    return style.VIT if abs(gap.mean) > gap.half_width else style.GUIDE


def finish(axes: Axes, table: pd.DataFrame) -> None:
    """Zero line and an axis on which both 0.2 and 20 points can be read."""
    reach = 100 * (table["difference"].abs() + table["half_width"]).max()
    axes.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
    axes.set_xscale("symlog", linthresh=LINEAR)
    ticks = [tick for tick in TICKS if tick <= max(reach, LINEAR)]
    low = 100 * (table["difference"] - table["half_width"]).min()
    high = 100 * (table["difference"] + table["half_width"]).max()
    axes.set_xticks(
        [-tick for tick in reversed(ticks)] + [0, *ticks],
        [f"−{tick}" for tick in reversed(ticks)] + ["0"] + [f"+{tick}" for tick in ticks],
    )
    axes.set_xlim(min(1.2 * low, -LINEAR), max(1.2 * high, LINEAR))
    axes.xaxis.set_minor_locator(style.no_ticks())
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", left=False, labelleft=False)
    axes.set_xlabel("difference of test accuracy (points)")
