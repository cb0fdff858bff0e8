"""Q7: time and memory of attention, of a block and of the whole model against tokens.

    python -m vitrail.timing --params '{"tokens": [17, 50, 197]}' \\
        --out results/default/timing/attention.csv --log-env results/default/timing/env.json

writes one row per measured cell, every single sample beside it (`*_samples.csv`), and
the machine. How it is measured:

- A cell is one combination of what, variant, pass, threads and size (see
  `vitrail.timing_cells`). All cells take turns, one sample each, so that a slow spell of
  the machine hits them alike.
- Calls of every length hold about `tokens_per_call` tokens. All figures are those of one
  sequence (an image, for the whole model): a call's time over the sequences in it.
- A sample repeats a short call until it lasts `min_seconds`; a cell whose samples
  would take longer than `max_seconds` together gets fewer, but at least three.
- Memory is measured afterwards, in a pass of its own, on a call with one sequence.
  `page_faults` counts the memory pages that one call fetches from the system: where it is
  large, much of the time is the allocator's (`keep_memory` shows how much).
- Other kinds of attention than softmax over all tokens are timed forward, at the first width
  and with the first number of threads; windows only at lengths that they tile.
- `forward` runs without gradients; `train` is forward and backward, to the weights and
  to the input (no optimiser).
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from vitrail.device import environment, pick_device
from vitrail.errors import run_command
from vitrail.files import json_params, write_json
from vitrail.intact import write_vouched
from vitrail.meters import (
    keep_freed_memory,
    page_faults,
    peak_mib,
    ran_out_of_memory,
    seconds_per_call,
)
from vitrail.timing_cells import Cell, cells
from vitrail.timing_kinds import WINDOW_SIZE
from vitrail.timing_settings import read_settings

COLUMNS = [
    *("what", "variant", "pass", "threads", "n", "embed_dim", "num_heads", "patch_size"),
    *("batch_size", "repeats", "inner", "median_seconds", "q25_seconds", "q75_seconds"),
    *("min_seconds", "peak_mib", "page_faults", "macs", "reason"),
]
KEY = ["what", "variant", "pass", "threads", "n", "embed_dim"]
SAMPLE_COLUMNS = [*KEY, "repeat", "seconds"]
LEAST_REPEATS = 3


def measure(settings: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure every cell that the settings ask for; see `timing_settings.DEFAULTS`.

    Returns the table (COLUMNS) and all samples (SAMPLE_COLUMNS). A cell that needs more
    memory than `memory_gib` is not run, and one whose memory ends is out, at whatever point it
    does: their rows have no figures but a `reason`.

    Raises:
        VitrailError: when a setting is wrong; the key is named.
    """
    settings = read_settings(settings)
    device = pick_device(settings["device"])
    threads_before = torch.get_num_threads()
    try:
        torch.manual_seed(0)
        found = list(cells(settings, device))
        for cell in tqdm(found, desc="warm-up", mininterval=2):
            torch.set_num_threads(cell.threads)
            _prepare(cell, settings, device)
        _sample(found, device)
        for cell in tqdm(found, desc="memory", mininterval=2):
            if cell.single is not None and not cell.reason:
                torch.set_num_threads(cell.threads)
                with _failing(cell):
                    cell.single()  # makes its input, which does not count
                    cell.peak = peak_mib(cell.single, device)
    finally:
        torch.set_num_threads(threads_before)
    return _table(found), _sample_table(found)


def _prepare(cell: Cell, settings: dict[str, Any], device: torch.device) -> None:
    """Warm the call up and choose how often it runs, or write down why it does not."""
    if cell.needed_gib > settings["memory_gib"]:
        cell.reason = (
            f"needs about {cell.needed_gib:.1f} GiB for its N x N matrices, "
            f"memory_gib allows {settings['memory_gib']:g}"
        )
        return
    with _failing(cell):
        once = seconds_per_call(cell.call, 1, device)
        if once < settings["max_seconds"] / 5:  # the first call may have been a slow one
            once = min(seconds_per_call(cell.call, 1, device) for _ in range(2))
        once = max(once, 1e-7)  # a clock too coarse to see the call
        cell.inner = math.ceil(settings["min_seconds"] / once)
        affordable = int(settings["max_seconds"] / (once * cell.inner))
        cell.repeats = max(LEAST_REPEATS, min(settings["repeats"], affordable))


@contextmanager
def _failing(cell: Cell) -> Iterator[None]:
    """Want of memory becomes the reason of the row; a bug keeps its traceback."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        cell.fail("the device ran out of memory")


def _sample(cells: list[Cell], device: torch.device) -> None:
    """One sample of each cell in turn, round after round, until all have theirs."""
    rounds = max((cell.repeats for cell in cells), default=0)
    # A cell with fewer repeats spreads them evenly over the rounds.
    turns = [
        cell
        for turn in range(rounds)
        for cell in cells
        if turn * cell.repeats // rounds != (turn + 1) * cell.repeats // rounds
    ]
    faults = dict.fromkeys(map(id, cells), 0)
    for cell in tqdm(turns, desc="samples", mininterval=2):
        if cell.reason:
            continue
        torch.set_num_threads(cell.threads)
        with _failing(cell):
            if cell.inner > 1:
                cell.call()  # the cell before has left its own data in the caches
            before = page_faults()
            cell.seconds.append(seconds_per_call(cell.call, cell.inner, device) / cell.batch_size)
            faults[id(cell)] += (page_faults() or 0) - (before or 0)
    for cell in cells:
        if cell.seconds and page_faults() is not None:
            cell.faults = faults[id(cell)] / (cell.repeats * cell.inner)


def _table(found: list[Cell]) -> pd.DataFrame:
    rows = []
    for cell in found:
        times = cell.seconds or [math.nan]
        q25, median, q75 = np.quantile(times, [0.25, 0.5, 0.75])
        row = [*_key(cell), cell.num_heads, cell.patch_size, cell.batch_size]
        row += [cell.repeats, cell.inner]
        row += [median, q25, q75, min(times), cell.peak, cell.faults, cell.macs, cell.reason]
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"patch_size": "Int64"})


def _sample_table(found: list[Cell]) -> pd.DataFrame:
    rows = [
        [*_key(cell), repeat, seconds]
        for cell in found
        for repeat, seconds in enumerate(cell.seconds)
    ]
    return pd.DataFrame(rows, columns=SAMPLE_COLUMNS)


def _key(cell: Cell) -> list[object]:
    """What identifies a cell, in the order of KEY."""
    return [cell.what, cell.variant, cell.mode, cell.threads, cell.n, cell.embed_dim]


def write_timing(settings: dict[str, Any], out: Path, log_env: Path) -> None:
    """Measure and write the table, the samples beside it and the machine."""
    settings = read_settings(settings)
    kept = settings["keep_memory"] and keep_freed_memory()
    facts = environment(pick_device(settings["device"]))  # with the load before the start
    begin = time.perf_counter()
    table, samples = measure(settings)
    facts |= {
        "threads": settings["threads"][0],
        "memory_kept": kept,
        "window_size": WINDOW_SIZE,
        "load_average_after": round(os.getloadavg()[0], 2),
        "seconds": round(time.perf_counter() - begin, 1),
        "settings": settings,
    }
    beside = out.with_name(f"{out.stem}_samples{out.suffix}")
    write_vouched(beside, samples.to_csv(index=False, float_format="%.6g"))
    write_json(log_env, facts)
    write_vouched(out, table.to_csv(index=False, float_format="%.6g"))


def main() -> None:
    """Command line of the step."""
    parser = argparse.ArgumentParser(prog="vitrail.timing", description=__doc__.split("\n")[0])
    parser.add_argument("--params", default="{}", help="settings as JSON; defaults for the rest")
    parser.add_argument("--out", type=Path, required=True, help="the table, a CSV file")
    parser.add_argument("--log-env", type=Path, required=True, help="the machine, a JSON file")
    arguments = parser.parse_args()
    settings = json_params(arguments.params, "vitrail.timing")
    write_timing(settings, arguments.out, arguments.log_env)


if __name__ == "__main__":
    run_command(main)
