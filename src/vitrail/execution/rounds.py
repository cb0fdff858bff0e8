"""Interleaved turns, and the ratio of two times from the rounds that both took part in.

The machine is not equally fast all the time. In a round every way is called once, so that a
slow spell hits a way and its baseline alike, and the ratio is taken within the round. Every
second round goes backwards: what comes after whom changes sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm import tqdm

from vitrail.execution.ways import Way, failing
from vitrail.meters import peak_mib, seconds_per_call

RESAMPLES = 2000
CONFIDENCE = 0.95


def take_turns(ways: Sequence[Way], rounds: int, device: torch.device, title: str) -> None:
    """Call each way once per round; append its seconds, and its logits to those before.

    Of gradients, which are the same in every round, the last are kept. A way that fails in
    a round is out, with its reason; the others go on.
    """
    for number in tqdm(range(rounds), desc=title, mininterval=2):
        for way in ways if number % 2 == 0 else reversed(ways):
            if way.step is None:
                continue
            with failing(way):
                found: list[Any] = []
                call = partial(_keep, found, way.step, number)
                way.seconds.append(seconds_per_call(call, 1, device))
                way.results = way.results + found if way.mode == "forward" else found


def _keep(found: list[Any], step: Callable[[int], Any], number: int) -> None:
    found.append(step(number))


def read_memory(ways: Sequence[Way], device: torch.device) -> None:
    """Peak memory of one more call of each, apart from the time, which the meter disturbs."""
    for way in ways:
        if way.step is not None:
            with failing(way):
                call = partial(way.step, 0)
                way.peak_mib = way.peak() if way.peak else peak_mib(call, device)


def paired_ratio(seconds: ArrayLike, baseline: ArrayLike) -> tuple[float, float, float]:
    """(median ratio, low, high) of two series of equal length, one entry per round.

    The interval of 95 % is a percentile bootstrap over the rounds; NaN from fewer than two.

    Raises:
        ValueError: when the series differ in length.
    """
    first, second = np.asarray(seconds, dtype=float), np.asarray(baseline, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} rounds against {len(second)}: they are not pairs")
    if not len(first):
        return math.nan, math.nan, math.nan
    ratios = first / second
    middle = float(np.median(ratios))
    if len(ratios) < 2:
        return middle, math.nan, math.nan
    draws = np.random.default_rng(0).choice(ratios, size=(RESAMPLES, len(ratios)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(draws, axis=1), [tail, 1 - tail])
    return middle, float(low), float(high)
