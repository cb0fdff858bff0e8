"""What the trainings of the default study take: core-seconds, measured arm by arm.

    python tests/training_seconds.py > tests/training_seconds.csv

trains every arm for a few steps on images of noise and reads as many, on one thread, and writes for
each the core-seconds per 1,000 images of training and of reading. `test_schedule` judges the order
of the jobs by them, and so the estimates of `vitrail.jobs`, which know nothing of them.
"""

from __future__ import annotations

import csv
import sys
import time
from typing import Any

import numpy as np
import torch

from recorded import COLUMNS, ROOT
from vitrail.config import load
from vitrail.data import Split
from vitrail.device import faster_precision
from vitrail.growing import first_stage
from vitrail.networks import build
from vitrail.runs import expand
from vitrail.settings import Settings, in_full
from vitrail.train import fit, logits_of

FEW = 2  # steps, which are taken off: what is done once is none of a step's
MORE, MORE_OF_TIMM = 26, 8
READ = 200  # images


def noise(images: int) -> Split:
    """Images of noise, and one to validate with."""
    draws = np.random.default_rng(0)
    made = draws.integers(0, 256, (images, 28, 28), dtype=np.uint8)
    labels = draws.integers(0, 10, images, dtype=np.uint8)
    return Split(made, labels, made[:1], labels[:1])


def fresh(settings: Settings) -> Any:
    """The network that a training begins with; of ImageNet weights only their number counts."""
    torch.manual_seed(0)
    return build(first_stage(in_full({**settings, "pretrained": False})), None)


def training(settings: Settings, precision: str, teacher: Any) -> float:
    """Core-seconds per 1,000 images of training."""
    head = settings.get("tune") == "head"  # its trunk reads every image once
    most = MORE_OF_TIMM if settings["model"] == "timm" and not head else MORE
    size = settings["batch_size"]
    spent = []
    for steps in (FEW, FEW, most):  # the first one imports
        # Early stopping holds some of the images out.
        short = {**settings, "train_size": 2 * size, "steps": steps, "evaluations": 1}
        network, data = fresh(short), noise(2 * size)
        begun = time.process_time()
        fit(network, data, short, 0, torch.device("cpu"), precision, "", teacher)
        spent.append(time.process_time() - begun)
    steps_alone = max(spent[2] - spent[1], 0.0)
    once = evaluation(settings, precision) * settings["epochs"] ** -1 if head else 0.0
    return steps_alone / (most - FEW) / size * 1000 + once


def evaluation(settings: Settings, precision: str) -> float:
    """Core-seconds per 1,000 images that are read."""
    network, images = fresh({**settings, "grow": "none"}), torch.rand(READ, 1, 28, 28)
    logits_of(network, images[:10], precision)
    begun = time.process_time()
    logits_of(network, images, precision)
    return (time.process_time() - begun) / READ * 1000


def main() -> None:
    torch.set_num_threads(1)
    plan = expand(load([ROOT / "config" / "default.yaml"]))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, arm in plan.arms.items():
        teacher = arm.settings.get("teacher")
        guide = fresh(plan.arms[teacher].settings).eval() if teacher else None
        precision = arm.settings["precision"]
        if precision == "auto":
            precision = faster_precision(torch.device("cpu"))
        cost = training(arm.settings, precision, guide), evaluation(arm.settings, precision)
        writer.writerow((name, *(f"{value:.4g}" for value in cost)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
