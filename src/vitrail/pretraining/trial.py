"""What a start is worth: fine-tuned on a few labels, read on the validation split.

A program of its own that no step of the workflow calls: the recipes were chosen with it, see
docs/pretraining.md. The test set is not looked at.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.config import load
from vitrail.data import load_mnist, split
from vitrail.device import autocast, compute_repeatably, pick_device
from vitrail.errors import run_command
from vitrail.files import json_params
from vitrail.networks import build, load_start
from vitrail.optimizers import make_optimizers, schedule, set_rates
from vitrail.pretraining.__main__ import VALIDATION, pretrain
from vitrail.settings import NUM_CLASSES, Settings
from vitrail.train import logits_of, pixels, score


def balanced(labels: Tensor, count: int, seed: int) -> Tensor:
    """Indices of `count` images, as many of each digit; smaller counts are part of larger ones."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    each = count // NUM_CLASSES
    return torch.cat([order[labels[order] == digit][:each] for digit in range(NUM_CLASSES)])


def order_of(count: int, steps: int, batch_size: int, seed: int) -> Tensor:
    """Places of each step's images, (steps, batch_size): one whole order after the other."""
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-steps * batch_size // count)
    places = torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])
    return places[: steps * batch_size].view(steps, batch_size)


def fine_tuned(
    settings: Settings,
    start: Path | None,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    steps: int,
    seed: int,
) -> float:
    """Validation accuracy in [0, 1] after `steps` on the images and labels of `train`."""
    images, labels = train
    torch.manual_seed(seed)
    network = build(settings).to(images.device)
    if start is not None:
        load_start(network, start / "model.safetensors")
    optimizers = make_optimizers(network, settings)
    network.train()
    for step, chosen in enumerate(order_of(len(images), steps, settings["batch_size"], seed)):
        set_rates(optimizers, schedule(step, steps, settings["warmup"], settings["schedule"]))
        with autocast(images.device, settings["precision"]):
            loss = F.cross_entropy(network(images[chosen]), labels[chosen])
        network.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return score(logits_of(network, validation[0], settings["precision"]), validation[1])[1]


def main() -> None:
    """Print the validation accuracy of every seed at every number of labels."""
    parser = argparse.ArgumentParser(prog="vitrail.pretraining.trial", description=__doc__)
    parser.add_argument("--config", type=Path, nargs="+", default=[Path("config/default.yaml")])
    parser.add_argument("--settings", default="{}", help="JSON, over the config's defaults")
    parser.add_argument("--recipe", help="JSON: pretrain first, with these settings")
    parser.add_argument("--data", type=Path, default=Path("results/data"))
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--steps", type=int, nargs="+", default=[150, 250], help="one per labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    arguments = parser.parse_args()

    own = json_params(arguments.settings, "vitrail.pretraining.trial", "--settings")
    settings = {**load(arguments.config)["defaults"], **own}
    device = pick_device(arguments.device)
    compute_repeatably()
    with tempfile.TemporaryDirectory() as place:
        start = None
        if arguments.recipe:
            recipe = json_params(arguments.recipe, "vitrail.pretraining.trial", "--recipe")
            start = Path(place) / "start"
            begun = time.process_time()
            summary = pretrain({"recipe": recipe, "model": settings}, arguments.data, start, device)
            accuracy = summary.get("train_accuracy")
            print(
                f"pretrained in {time.process_time() - begun:.0f} core-seconds: "
                f"loss {summary['train_loss']:.3f}, accuracy {accuracy}"
            )
        report(arguments, settings, start, device)


def report(
    arguments: argparse.Namespace, settings: Settings, start: Path | None, device: torch.device
) -> None:
    """Fine-tune at every number of labels with every seed."""
    parts = split(load_mnist(arguments.data), VALIDATION)

    def given(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        return pixels(images, settings, device), torch.from_numpy(labels).long().to(device)

    validation = given(parts.validation_images, parts.validation_labels)
    labels = torch.from_numpy(parts.train_labels).long()
    for count, steps in zip(arguments.labels, arguments.steps, strict=True):
        found = []
        for seed in arguments.seeds:
            chosen = balanced(labels, count, seed).numpy()
            train = given(parts.train_images[chosen], parts.train_labels[chosen])
            accuracy = fine_tuned(settings, start, train, validation, steps, seed)
            found.append(round(100 * accuracy, 2))
        print(f"{count} labels, {steps} steps: {np.mean(found):.2f} % {found}", flush=True)


if __name__ == "__main__":
    run_command(main)
