"""Q7: time and memory of attention, of a block and of the whole model against tokens.

    python -m vitrail.timing --params '{"tokens": [17, 50, 197]}' \\
        --out results/default/timing/attention.csv --log-env results/default/timing/env.json

writes one row per measured cell, every single sample beside it (`*_samples.csv`), and
the machine. How it is measured:

- A cell is one combination of what, variant, pass and size. All cells take turns, one
  sample each, so that a slow spell of the machine hits them alike.
- A sample repeats a short call until it lasts `min_seconds`; a cell whose samples
  would take longer than `max_seconds` together gets fewer, but at least three.
- Memory is measured afterwards, in a pass of its own. `page_faults` counts the memory
  pages that one call fetches from the system: where it is large, much of the time is the
  allocator's (`keep_memory` shows how much).
- `forward` runs without gradients; `train` is forward and backward, to the weights and
  to the input (no optimiser).
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from vitrail.device import environment, pick_device
from vitrail.efficiency import attention_macs, block_macs, token_count, vit_macs
from vitrail.errors import VitrailError, run_command
from vitrail.files import write_json, write_text
from vitrail.meters import (
    Call,
    keep_freed_memory,
    page_faults,
    peak_mib,
    ran_out_of_memory,
    seconds_per_call,
)
from vitrail.model import Block, MultiHeadSelfAttention, VisionTransformer
from vitrail.timing_settings import read_settings

COLUMNS = [
    *("what", "variant", "pass", "n", "embed_dim", "num_heads", "patch_size", "batch_size"),
    *("threads", "repeats", "inner", "median_seconds", "q25_seconds", "q75_seconds"),
    *("min_seconds", "peak_mib", "page_faults", "macs", "reason"),
]
SAMPLE_COLUMNS = ["what", "variant", "pass", "n", "embed_dim", "repeat", "seconds"]
LEAST_REPEATS = 3


@dataclass
class Cell:
    """One thing to measure. `macs` are those of one forward pass over the batch."""

    what: str  # attention, block or model
    variant: str  # naive or fused attention
    mode: str  # forward or train
    n: int
    embed_dim: int
    num_heads: int
    patch_size: int | None
    batch_size: int
    macs: int
    matrices: int  # N x N matrices per head and image that are alive together
    call: Call
    inner: int = 0
    repeats: int = 0
    seconds: list[float] = field(default_factory=list)
    peak: float = math.nan
    faults: float = math.nan  # memory pages fetched from the system, for one call
    reason: str = ""

    @property
    def needed_gib(self) -> float:
        """Estimate of the memory that the N x N matrices take, in float32."""
        return self.matrices * self.n**2 * self.num_heads * self.batch_size * 4 / 2**30


def measure(settings: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure every cell that the settings ask for; see `timing_settings.DEFAULTS`.

    Returns the table (COLUMNS) and all samples (SAMPLE_COLUMNS). A cell that needs more
    memory than `memory_gib` is not run: its row has no figures but a `reason`.

    Raises:
        VitrailError: when a setting is wrong; the key is named.
    """
    settings = read_settings(settings)
    device = pick_device(settings["device"])
    threads_before = torch.get_num_threads()
    torch.set_num_threads(settings["threads"])
    try:
        torch.manual_seed(0)
        cells = list(_cells(settings, device))
        for cell in tqdm(cells, desc="warm-up", mininterval=2):
            _prepare(cell, settings, device)
        _sample(cells, device)
        for cell in tqdm(cells, desc="memory", mininterval=2):
            if not cell.reason:
                cell.peak = peak_mib(cell.call, device)
    finally:
        torch.set_num_threads(threads_before)
    return _table(cells, settings["threads"]), _sample_table(cells)


def _cells(settings: dict[str, Any], device: torch.device) -> Iterator[Cell]:
    """All cells: attention (naive, fused) and block (fused) by size, then the model."""
    batch, heads, ratio = settings["batch_size"], settings["heads"], settings["mlp_ratio"]
    for width in settings["widths"]:
        naive = MultiHeadSelfAttention(width, heads, fused_attn=False).to(device)
        fused = MultiHeadSelfAttention(width, heads, fused_attn=True).to(device)
        block = Block(width, heads, ratio, fused_attn=True).to(device)
        for n in settings["tokens"]:
            x = torch.randn(batch, n, width, device=device)
            for mode in ("forward", "train"):
                for what, variant, module in (
                    ("attention", "naive", naive),
                    ("attention", "fused", fused),
                    ("block", "fused", block),
                ):
                    macs = attention_macs(n, width)
                    if what == "block":
                        macs = block_macs(n, width, ratio)
                    # Logits, weights and, in training, the gradient of one of them.
                    matrices = 3 if variant == "naive" else 0
                    yield Cell(
                        *(what, variant, mode, n, width, heads, None, batch, batch * macs),
                        matrices,
                        _call(module, x, mode),
                    )
    model = settings["model"]
    variant = "fused" if model["fused_attn"] else "naive"
    batch = settings["model_batch_size"]
    sizes = {key: model[key] for key in inspect.signature(vit_macs).parameters if key in model}
    for patch in settings["patch_sizes"]:
        vit = VisionTransformer(**model, patch_size=patch).to(device)
        n = token_count(model["img_size"], patch, class_token=model["class_token"])
        x = torch.randn(batch, model["in_chans"], *vit.patch_embed.img_size, device=device)
        macs = batch * vit_macs(**sizes, patch_size=patch)["total"]
        for mode in ("forward", "train"):
            # Training keeps the weights of every block for the backward pass.
            matrices = 0 if variant == "fused" else 2 + (model["depth"] if mode == "train" else 1)
            yield Cell(
                *("model", variant, mode, n, model["embed_dim"], model["num_heads"], patch, batch),
                macs,
                matrices,
                _call(vit, x, mode),
            )


def _call(module: nn.Module, x: torch.Tensor, mode: str) -> Call:
    """The call to measure; `train` starts from the gradient of the output, all ones."""

    def forward() -> object:
        with torch.inference_mode():
            return module(x)

    if mode == "forward":
        return forward
    x = x.clone().requires_grad_()
    leaves = [x, *module.parameters()]

    def train() -> object:
        out = module(x)
        return torch.autograd.grad(out, leaves, torch.ones_like(out))

    return train


def _prepare(cell: Cell, settings: dict[str, Any], device: torch.device) -> None:
    """Warm the call up and choose how often it runs, or write down why it does not."""
    if cell.needed_gib > settings["memory_gib"]:
        cell.reason = (
            f"needs about {cell.needed_gib:.1f} GiB for its N x N matrices, "
            f"memory_gib allows {settings['memory_gib']:g}"
        )
        return
    try:
        once = seconds_per_call(cell.call, 1, device)
        if once < settings["max_seconds"] / 2:  # the first call may have been a slow one
            once = min(seconds_per_call(cell.call, 1, device) for _ in range(2))
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
        cell.reason = "the device ran out of memory"
        return
    once = max(once, 1e-7)  # a clock too coarse to see the call
    cell.inner = math.ceil(settings["min_seconds"] / once)
    affordable = int(settings["max_seconds"] / (once * cell.inner))
    cell.repeats = max(LEAST_REPEATS, min(settings["repeats"], affordable))


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
        if cell.inner > 1:
            cell.call()  # the cell before has left its own data in the caches
        before = page_faults()
        cell.seconds.append(seconds_per_call(cell.call, cell.inner, device))
        faults[id(cell)] += (page_faults() or 0) - (before or 0)
    for cell in cells:
        if cell.seconds and page_faults() is not None:
            cell.faults = faults[id(cell)] / (cell.repeats * cell.inner)


def _table(cells: list[Cell], threads: int) -> pd.DataFrame:
    rows = []
    for cell in cells:
        times = cell.seconds or [math.nan]
        q25, median, q75 = np.quantile(times, [0.25, 0.5, 0.75])
        row = [cell.what, cell.variant, cell.mode, cell.n, cell.embed_dim, cell.num_heads]
        row += [cell.patch_size, cell.batch_size, threads, cell.repeats, cell.inner]
        row += [median, q25, q75, min(times), cell.peak, cell.faults, cell.macs, cell.reason]
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"patch_size": "Int64"})


def _sample_table(cells: list[Cell]) -> pd.DataFrame:
    rows = [
        [cell.what, cell.variant, cell.mode, cell.n, cell.embed_dim, repeat, seconds]
        for cell in cells
        for repeat, seconds in enumerate(cell.seconds)
    ]
    return pd.DataFrame(rows, columns=SAMPLE_COLUMNS)


def write_timing(settings: dict[str, Any], out: Path, log_env: Path) -> None:
    """Measure and write the table, the samples beside it and the machine."""
    settings = read_settings(settings)
    kept = settings["keep_memory"] and keep_freed_memory()
    facts = environment(pick_device(settings["device"]))  # with the load before the start
    begin = time.perf_counter()
    table, samples = measure(settings)
    facts |= {
        "threads": settings["threads"],
        "memory_kept": kept,
        "load_average_after": round(os.getloadavg()[0], 2),
        "seconds": round(time.perf_counter() - begin, 1),
        "settings": settings,
    }
    beside = out.with_name(f"{out.stem}_samples{out.suffix}")
    write_text(beside, samples.to_csv(index=False, float_format="%.6g"))
    write_json(log_env, facts)
    write_text(out, table.to_csv(index=False, float_format="%.6g"))


def main() -> None:
    """Command line of the step."""
    parser = argparse.ArgumentParser(prog="vitrail.timing", description=__doc__.split("\n")[0])
    parser.add_argument("--params", default="{}", help="settings as JSON; defaults for the rest")
    parser.add_argument("--out", type=Path, required=True, help="the table, a CSV file")
    parser.add_argument("--log-env", type=Path, required=True, help="the machine, a JSON file")
    arguments = parser.parse_args()
    try:
        settings = json.loads(arguments.params)
    except ValueError as error:
        raise VitrailError(f"--params of vitrail.timing is not JSON: {error}") from error
    write_timing(settings, arguments.out, arguments.log_env)


if __name__ == "__main__":
    run_command(main)
