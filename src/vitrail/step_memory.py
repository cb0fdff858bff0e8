"""Q7: how much memory a training step of each arm needs.

    python -m vitrail.step_memory --arms '{"<arm id>": {<settings>}}' --data results/data \\
        --out results/default/training_memory.csv

A run's own summary has the memory of its whole process, in which torch outweighs everything
else. Here the first steps of each training run once more under a meter that counts tensors.
It counts bytes and no time, so other jobs may run beside it.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from vitrail import gpus
from vitrail.data import Mnist, load_mnist, split
from vitrail.device import pick_device
from vitrail.errors import run_command
from vitrail.growing import first_stage
from vitrail.intact import write_vouched
from vitrail.meters import peak_mib
from vitrail.networks import build
from vitrail.settings import Settings, in_full
from vitrail.train import fit

# A network that grows does so after half of the steps; the optimiser's state of what is new is
# whole one step later, and the step after that is the largest.
STEPS = 4
COLUMNS = ["arm_id", "peak_mib"]


def shortened(settings: Settings) -> Settings:
    """The training of an arm, over after `STEPS` steps."""
    images = STEPS * settings["batch_size"]
    return {**settings, "train_size": images, "epochs": 1, "evaluations": 1}


def step_mib(settings: Settings, mnist: Mnist, device: torch.device) -> float:
    """Most memory alive in the first training steps of an arm, in MiB.

    Above the weights of the network that the training starts with: activations, gradients, the
    optimiser's state, the images of the steps, and what a network that grows gains.
    """
    settings = in_full(shortened(settings))
    # On every machine the same: which one is faster depends on the hardware.
    precision = "fp32" if settings["precision"] == "auto" else settings["precision"]
    torch.manual_seed(0)
    # Memory does not depend on the values of the weights.
    network = build(first_stage({**settings, "pretrained": ""}), None).to(device)
    data = split(mnist, 1, settings["train_size"])  # one image to validate on: training counts
    train = partial(fit, network, data, settings, 0, device, precision, "memory")
    return peak_mib(train, device)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of training steps.")
    parser.add_argument("--arms", type=json.loads, required=True, help="JSON: settings by arm id")
    parser.add_argument("--data", type=Path, required=True, help="folder of the MNIST files")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    device = pick_device(arguments.device, gpus.percent(arguments.arms.values()))
    mnist = load_mnist(arguments.data, verify=True)
    rows = [(arm, step_mib(settings, mnist, device)) for arm, settings in arguments.arms.items()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_vouched(arguments.out, table.to_csv(index=False, float_format="%.6g"))
    print(f"step_memory: {len(rows)} arms")


if __name__ == "__main__":
    run_command(main)
