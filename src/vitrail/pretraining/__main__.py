"""The command line of the step: one recipe, one folder, whole or not at all."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail import code_files, gpus
from vitrail import data as mnist_data
from vitrail.data import load_mnist
from vitrail.device import compute_repeatably, environment, faster_precision, pick_device
from vitrail.errors import run_command
from vitrail.files import json_params, read_json, sha256, whole_folder, write_json
from vitrail.intact import sealed
from vitrail.pretraining.learn import learn, mean_image_loss
from vitrail.pretraining.recipe import read_recipe
from vitrail.resume import EVERY, Unfinished, conditions
from vitrail.run_folder import finite, write_rows


def unlabelled(asked: dict[str, Any], data: Path) -> np.ndarray:
    """The images that the arms may train on, (train_size, 28, 28) uint8, without their labels.

    The only part of MNIST that a pretraining is handed, and only with `images: digits`.
    """
    return load_mnist(data, verify=True).train_images[: asked["train_size"]]


def pretrain(
    asked: dict[str, Any], data: Path, out: Path, device: torch.device, every: float = EVERY
) -> dict[str, Any]:
    """Pretrain and write the folder; gives what stands in its summary.json.

    Its state is saved every so many seconds, and it goes on from that of a killed attempt.
    """
    from safetensors.torch import save_file

    model = asked["model"]
    recipe = read_recipe(asked["recipe"], model)
    precision = model["precision"]
    if precision == "auto":
        precision = faster_precision(device)
    facts = environment(device)
    digits = None
    if recipe["images"] == "digits":
        digits = unlabelled(asked, data)
        facts |= {"data": read_json(data / "source.json")}
    identity = conditions((*code_files.PRETRAIN, *code_files.READING), facts) | {
        "recipe": recipe,
        "model": model,
        "train_size": asked.get("train_size"),
        "data": mnist_data.FILES if digits is not None else None,  # just checked
    }
    unfinished = Unfinished(out.parent / "unfinished" / out.name, identity, every)
    begun = time.perf_counter()
    weights, log = learn(recipe, model, digits, device, precision, unfinished)
    if log.resumed_at:
        facts["resumed_at_steps"] = log.resumed_at
    last, seconds = log.history[-1], log.seconds[-1]["seconds"]
    summary = {
        "status": "finished",
        "precision_used": precision,
        "samples": last["samples"],
        "seconds": round(log.earlier + time.perf_counter() - begun, 3),
        "samples_per_second": round(last["samples"] / max(seconds, 1e-3), 1),
        "train_loss": last["train_loss"],
    }
    if recipe["task"] == "classify":
        summary |= {
            "train_accuracy": last["train_accuracy"],
            "chance_accuracy": 1 / recipe["classes"],
        }
    else:
        summary["mean_image_loss"] = mean_image_loss(recipe, model, digits)
    with whole_folder(out) as draft:
        write_json(draft / "config.json", {"recipe": recipe, "model": model})
        write_json(draft / "env.json", facts)
        write_rows(draft / "history.csv", log.history)
        write_rows(draft / "timing.csv", log.seconds)
        save_file({k: v.contiguous() for k, v in weights.items()}, draft / "model.safetensors")
        sums = {path.name: sha256(path) for path in sorted(draft.iterdir())}
        write_json(draft / "summary.json", sealed({**finite(summary), "files": sums}))
    unfinished.clear()
    return summary


def main() -> None:
    """Command line of the step."""
    parser = argparse.ArgumentParser(
        prog="vitrail.pretraining", description="Pretrain a network without foreign weights (Q8)."
    )
    parser.add_argument("--settings", required=True, help="JSON with recipe and model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the MNIST files")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=EVERY,
        help="how often the state of the training is saved; 0: after every step",
    )
    arguments = parser.parse_args()

    asked = json_params(arguments.settings, "vitrail.pretraining", "--settings")
    device = pick_device(arguments.device, gpus.percent([asked["model"]]))
    compute_repeatably(device)
    every = arguments.checkpoint_seconds
    summary = pretrain(asked, arguments.data, arguments.out, device, every)
    print(f"pretraining: {arguments.out.name} {json.dumps(finite(summary))}")


if __name__ == "__main__":
    run_command(main)
