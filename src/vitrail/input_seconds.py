"""Q8b's clock: seconds per image of ViT-S for each way to feed it MNIST.

    python -m vitrail.input_seconds --out results/default/input_seconds.csv

A step of its own, so that all that is answered from it can be made again to the last bit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vitrail.errors import run_command
from vitrail.intact import write_vouched

if TYPE_CHECKING:
    from torch import nn

VIT = "vit_small_patch16_224"
SIZES = [(28, 14), (28, 7), (28, 4), (28, 2), (224, 16)]  # side of the image, of a patch
BATCH, ROUNDS = 2, 5
COLUMNS = ["img_size", "patch_size", "seconds"]


def networks() -> dict[tuple[int, int], nn.Module]:
    """ViT-S for each of `SIZES`, as an arm of the study has it: (B, 1, 28, 28) -> (B, 10)."""
    from vitrail.networks import build

    arm = {"model": "timm", "timm_model": VIT, "pretrained": ""}
    return {
        (side, patch): build({**arm, "img_size": side, "patch_size": patch}).eval()
        for side, patch in SIZES
    }


def seconds_per_image(made: dict[tuple[int, int], nn.Module]) -> dict[tuple[int, int], float]:
    """Median over rounds, in each of which every network has its turn, after one to warm up."""
    import torch

    images = torch.zeros(BATCH, 1, 28, 28)
    samples: dict[tuple[int, int], list[float]] = {size: [] for size in made}
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(ROUNDS + 1):
                for size, network in made.items():
                    started = time.perf_counter()
                    network(images)
                    samples[size].append((time.perf_counter() - started) / BATCH)
    finally:
        torch.set_num_threads(threads_before)
    return {size: statistics.median(values[1:]) for size, values in samples.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time ViT-S on images of several sizes.")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    arguments = parser.parse_args()
    seconds = seconds_per_image(networks())
    table = pd.DataFrame([(*size, value) for size, value in seconds.items()], columns=COLUMNS)
    write_vouched(arguments.out, table.to_csv(index=False, float_format="%.6g"))
    print(f"input_seconds: {len(table)} sizes")


if __name__ == "__main__":
    run_command(main)
