"""The clock, the turns and the peak of the core.

In a round every contestant takes one turn, and the peak is measured once; every second round
goes backwards, so that what comes after whom changes sides. Seconds are those that the core
gave to this process, so that other programs count only by what they do to the caches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from vitrail.bench.contestants import WARM_UP, Contestant
from vitrail.bench.loops import clock
from vitrail.bench.networks import Missing, cost

SIZES = (512, 768, 1024, 1536)  # of square matrices; the fastest counts
PEAK_SECONDS = 0.05  # of each size, at least
Peaks = dict[str, list[float]]


def one_core() -> bool:
    """Compute on one core from here on; whether the system could be told which."""
    import torch

    torch.set_num_threads(1)
    if not hasattr(os, "sched_setaffinity"):  # not Linux
        return False
    # The last one: the first is the one that a system gives its own work.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return True


def matrix_peak(precision: str, sizes: Sequence[int] = SIZES) -> float:
    """FLOP per second of the fastest square matrix product, by torch, as the networks use it."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    found = []
    for size in sizes:
        left, right = torch.randn(2, size, size, dtype=kind)
        out = left @ right  # warm
        calls, seconds = 0, 0.0
        while seconds < PEAK_SECONDS:
            begin = clock()
            torch.mm(left, right, out=out)
            seconds, calls = seconds + clock() - begin, calls + 1
        found.append(2.0 * size**3 * calls / seconds)
    return max(found)


def prepare(found: Sequence[Contestant]) -> None:
    """Count what each costs and let it run a little; one that is missing gets its reason."""
    for one in found:
        if one.reason:
            continue
        try:
            one.parameters, one.macs = cost(one.library, one.settings)
            one.turn(WARM_UP)
        except Missing as error:
            one.reason = str(error)


def take_turns(found: Sequence[Contestant], rounds: int) -> tuple[Peaks, float]:
    """Let all take `rounds` turns.

    Returns:
        The peak of each precision that is used, in FLOP/s, one value for each round, and the
        share of the core that this process had meanwhile: near 1 on a quiet machine.
    """
    from tqdm import tqdm

    there = [one for one in found if not one.reason]
    peaks: Peaks = {precision: [] for precision in {one.settings["precision"] for one in there}}
    wall, core = time.perf_counter(), clock()
    for number in tqdm(range(rounds), desc="rounds", mininterval=5):
        for precision, measured in peaks.items():
            measured.append(matrix_peak(precision))
        for one in there if number % 2 == 0 else reversed(there):
            one.seconds.append(one.turn(one.batches))
    return peaks, (clock() - core) / (time.perf_counter() - wall)
