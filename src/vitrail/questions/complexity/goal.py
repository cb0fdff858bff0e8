"""Q7: after how many seconds of training an accuracy is reached."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vitrail.intact import intact
from vitrail.questions.study import Study


def seconds_to(goal: float, accuracy: ArrayLike, seconds: ArrayLike) -> float:
    """Seconds after which an accuracy is first reached; inf when it never is.

    Between two evaluations the accuracy is taken to rise in a straight line. One that the
    first evaluation finds already reached was so at the latest then: its time is a bound.
    """
    found, clock = np.asarray(accuracy, dtype=float), np.asarray(seconds, dtype=float)
    reached = np.flatnonzero(found >= goal)
    if not len(reached):
        return math.inf
    after = int(reached[0])
    if after == 0:
        return float(clock[0])
    before = after - 1
    share = (goal - found[before]) / (found[after] - found[before])
    return float(clock[before] + share * (clock[after] - clock[before]))


def curve(study: Study, arm_id: str, seed: int) -> pd.DataFrame:
    """The evaluations of a run: step, val_accuracy and the seconds of training before it."""
    folder = study.run_folder(arm_id, seed)
    history, clock = (pd.read_csv(intact(folder, f"{name}.csv")) for name in ("history", "timing"))
    return history[["step", "val_accuracy"]].merge(clock, on="step", validate="one_to_one")


def median_seconds(goal: float, curves: dict[int, pd.DataFrame]) -> float:
    """Median over the seeds of a training; inf when half of them or more do not reach it."""
    if not curves:
        return math.nan
    found = [seconds_to(goal, one["val_accuracy"], one["seconds"]) for one in curves.values()]
    # Of two seeds of which one never gets there, the mean of the two is inf, too.
    return float(np.median(found))
