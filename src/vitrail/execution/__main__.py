"""The command line of the step; the package says what it writes."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vitrail.data import load_mnist
from vitrail.device import environment, pick_device
from vitrail.errors import run_command
from vitrail.execution.measure import measure
from vitrail.execution.settings import read_settings
from vitrail.execution.table import table
from vitrail.files import json_params, read_json, write_json
from vitrail.intact import write_vouched
from vitrail.meters import keep_freed_memory


def write_ways(
    run: Path,
    data: Path,
    settings: dict[str, Any],
    weights: dict[str, Any] | None,
    out: Path,
    log_env: Path,
) -> None:
    """Measure all ways and write the table and the machine."""
    settings = read_settings(settings)
    device = pick_device(settings["device"])
    kept = keep_freed_memory()
    facts = environment(device)  # with the load before the start
    mnist = load_mnist(data, verify=True)
    begin = time.perf_counter()
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(
            prefix=".execution.", dir=out.parent, ignore_cleanup_errors=True
        ) as folder,
        # Not beside the results: PyTorch tells the compiler this path without quotes, and that
        # of a project may hold a blank.
        tempfile.TemporaryDirectory(
            prefix="vitrail.compiled.", ignore_cleanup_errors=True
        ) as compiled,
    ):
        # An empty cache: the set-up of torch.compile is that of a first run.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiled
        ways = measure(run, mnist, settings, weights, Path(folder))
    facts |= {
        "threads": 1,
        "memory_kept": kept,
        "load_average_after": round(os.getloadavg()[0], 2),
        "seconds": round(time.perf_counter() - begin, 1),
        "settings": settings,
        "run": run.name,
        "int8_engine": torch.backends.quantized.engine,
    }
    write_json(log_env, facts)
    write_vouched(out, table(ways).to_csv(index=False, float_format="%.6g"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="vitrail.execution", description="Measure ways to compute the same network."
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of a vit")
    parser.add_argument("--data", type=Path, required=True, help="folder of the MNIST files")
    parser.add_argument(
        "--weights", type=Path, help="file of vitrail.weights, for the accuracy of LoRA"
    )
    parser.add_argument("--params", default="{}", help="settings as JSON; defaults for the rest")
    parser.add_argument("--out", type=Path, required=True, help="the table, a CSV file")
    parser.add_argument("--log-env", type=Path, required=True, help="the machine, a JSON file")
    arguments = parser.parse_args()
    settings = json_params(arguments.params, "vitrail.execution")
    weights = read_json(arguments.weights) if arguments.weights else None
    write_ways(arguments.run, arguments.data, settings, weights, arguments.out, arguments.log_env)


if __name__ == "__main__":
    run_command(main)
