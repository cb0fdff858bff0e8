"""The arms of Q5: which ran, which differ in the place of the norms alone, how they look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitrail import style
from vitrail.analysis import counted
from vitrail.questions.study import Study
from vitrail.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEM = "q5_block"
NORM_NAMES = {"pre": "pre-norm", "post": "post-norm"}
# As in the figures of the experiments that vary both: the place by tone, the warm-up by line.
LOOKS = dict(zip(("pre", "post"), style.vits(2), strict=True))
LOOK = ("depth", "norm", "warmup")  # what tells the arms of a figure apart


@dataclass(frozen=True)
class Pair:
    """Two arms by id that differ in the place of the norms alone."""

    label: str
    pre: str
    post: str


def vits(study: Study) -> list[str]:
    """The ViTs that Q5 compares, by arm id."""
    arms = study.plan.arms
    return [arm for arm in study.plan.arms_of(STEM) if arms[arm].settings["model"] == "vit"]


def finished(study: Study) -> dict[str, tuple[int, ...]]:
    """The finished seeds of these ViTs, without those that have none; else of the base ViT."""
    seeds = {arm: study.finished_seeds(arm) for arm in vits(study)}
    ran = {arm: found for arm, found in seeds.items() if found}
    return ran or {study.plan.base: study.finished_seeds(study.plan.base)}


def pairs(study: Study) -> list[Pair]:
    """A pre-norm and a post-norm arm with the same settings otherwise, finished or not."""
    settings = {arm: study.plan.arms[arm].settings for arm in vits(study)}
    return [
        Pair(named(settings[pre]), pre, post)
        for pre in settings
        for post in settings
        if settings[pre]["norm"] == "pre" and {**settings[pre], "norm": "post"} == settings[post]
    ]


def named(settings: Settings) -> str:
    """What a pair of arms has in common: "8 blocks, no warm-up"."""
    return counted(settings["depth"], "block") + ("" if settings["warmup"] else ", no warm-up")


def look_of(settings: Settings) -> dict[str, Any]:
    """The columns `LOOK` of the rows of an arm."""
    return {name: settings[name] for name in LOOK}


def draw_arms(axes: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    """A line per arm: the mean of column `y` over the seeds at each `x`, their range as a band."""
    for (norm, warmup, _), mine in rows.groupby(["norm", "warmup", "arm"], sort=False):
        seeds, look, warm = mine.groupby(x)[y], LOOKS[str(norm)], bool(warmup)
        mean = seeds.mean()
        axes.plot(
            mean.index, mean, color=look.colour, linestyle=style.LINES[0 if warm else 1],
            marker=look.marker, markersize=3.5, markerfacecolor=None if warm else "white",
            label=NORM_NAMES[str(norm)] + ("" if warm else ", no warm-up"),
        )  # fmt: skip
        axes.fill_between(
            mean.index, seeds.min(), seeds.max(), color=look.colour, alpha=0.15, linewidth=0
        )


def add_legend(panels: Iterable[Axes]) -> None:
    """A legend in the first panel with the lines of all: an arm may be missing in some."""
    first, *others = panels
    lines = {
        label: handle
        for axes in (first, *others)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    first.legend(list(lines.values()), list(lines))
