"""Q7: a trained ViT with fewer and fewer tokens.

    python -m vitrail.reduction learn --run RUN --data results/data --percent 75 \\
        --params '{}' --out thresholds_75.json
    python -m vitrail.reduction compare --run RUN --data results/data \\
        --thresholds thresholds_75.json --params '{}' --out reduction.csv \\
        --pictures pictures.npz --log-env env.json

The first learns the thresholds of LTMP for one target, the second compares them with ToMe
and with pruning on the test set. Nothing is chosen by looking at that set: every setting
that the config names gets a row.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from vitrail import gpus
from vitrail.data import Mnist, load_mnist, split
from vitrail.device import compute_repeatably, environment, pick_device
from vitrail.errors import VitrailError, run_command
from vitrail.files import json_params, read_json, write_json
from vitrail.intact import vouch, write_vouched
from vitrail.model import VisionTransformer
from vitrail.networks import load_run
from vitrail.reduction.compare import compare, entries, first_of_each_digit, pictured
from vitrail.reduction.learn import learn
from vitrail.reduction.network import check
from vitrail.reduction.settings import DEFAULTS
from vitrail.reduction.ways import Importance, Threshold
from vitrail.settings import Settings
from vitrail.train import pixels

PICTURES = 6  # digits that are drawn


def network_of(run: Path, device: torch.device) -> tuple[VisionTransformer, Settings]:
    """The trained network of a run folder, ready to be reduced, and its settings.

    Raises:
        VitrailError: when the run has no network of ours with a class token.
    """
    settings = read_json(run / "config.json")["settings"]
    if settings["model"] != "vit":
        raise VitrailError(f"{run} holds a {settings['model']}; token reduction takes a vit")
    network = load_run(run).to(device)
    assert isinstance(network, VisionTransformer)
    check(network)
    return network, settings


def labelled(
    images: np.ndarray, labels: np.ndarray, settings: Settings, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Images as the network saw them in training, and their labels."""
    wanted = torch.from_numpy(np.array(labels)).long().to(device)
    return pixels(images, settings, device), wanted


def learn_thresholds(arguments: argparse.Namespace, mnist: Mnist, device: torch.device) -> None:
    """Write the thresholds of one target, and how the search went."""
    vit, settings = network_of(arguments.run, device)
    asked = arguments.params
    size = min(asked["train_size"], settings["train_size"])
    data = split(mnist, settings["validation"], size)
    images, labels = labelled(data.train_images, data.train_labels, settings, device)
    begun = time.perf_counter()
    thresholds, log = learn(
        vit,
        images,
        labels,
        arguments.percent / 100,
        arguments.importance,
        batch_size=asked["batch_size"],
        merge_rate=asked["merge_rate"],
        prune_rate=asked["prune_rate"],
        seed=0,
    )
    way = thresholds.as_way()
    content = {
        "percent": arguments.percent,
        "importance": arguments.importance,
        "merge": way.merge,
        "prune": way.prune,
        "images": size,
        "seconds": round(time.perf_counter() - begun, 1),
        "log": log,
    }
    write_json(arguments.out, content)
    print(f"reduction: thresholds for {arguments.percent} % of the MACs: {way}")


def compare_ways(arguments: argparse.Namespace, mnist: Mnist, device: torch.device) -> None:
    """Write the table of all ways, the digits to draw, and the machine."""
    vit, settings = network_of(arguments.run, device)
    asked = arguments.params
    learned = {}
    for path in arguments.thresholds:
        found = read_json(path)
        name = "ltmp" if found["importance"] == "received" else "ltmp_class"
        learned[name, found["percent"]] = Threshold(
            tuple(found["merge"]), tuple(found["prune"]), found["importance"]
        )
    facts = environment(device)
    # Evenly spaced: the second half of MNIST's test images comes from other writers.
    total, count = len(mnist.test_labels), asked["images"]
    chosen = np.arange(count) * total // count
    raw, digits = mnist.test_images[chosen], mnist.test_labels[chosen]
    images, labels = labelled(raw, digits, settings, device)
    ways = entries(asked["removed"], learned)
    table, right = compare(vit, ways, images, labels, asked["timed_images"])
    shown = first_of_each_digit(labels, PICTURES)
    drawn: dict[str, Any] = pictured(vit, table, ways, images[shown])
    arguments.pictures.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        arguments.pictures, images=raw[shown.cpu().numpy()],
        labels=labels[shown].cpu().numpy(), right=right, **drawn,
    )  # fmt: skip
    vouch(arguments.pictures)
    learned_from = min(asked["train_size"], settings["train_size"])
    write_json(
        arguments.log_env,
        facts
        | {
            "images": learned_from,
            "test_images": count,
            "settings": asked,
            "run": arguments.run.name,
        },
    )
    write_vouched(arguments.out, table.to_csv(index=False, float_format="%.6g"))


def main() -> None:
    """Command line of both steps."""
    parser = argparse.ArgumentParser(prog="vitrail.reduction", description="Fewer tokens (Q7).")
    steps = parser.add_subparsers(dest="step", required=True)
    for name in ("learn", "compare"):
        step = steps.add_parser(name)
        step.add_argument("--run", type=Path, required=True, help="run folder of a trained ViT")
        step.add_argument("--data", type=Path, required=True, help="folder of the MNIST files")
        step.add_argument("--params", default="{}", help="settings as JSON; defaults for the rest")
        step.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
        step.add_argument("--out", type=Path, required=True)
        if name == "learn":
            step.add_argument("--percent", type=int, required=True, help="of the MACs, to keep")
            step.add_argument("--importance", choices=get_args(Importance), default="received")
        else:
            step.add_argument("--thresholds", type=Path, nargs="*", default=[])
            step.add_argument("--pictures", type=Path, required=True, help="an .npz file")
            step.add_argument("--log-env", type=Path, required=True, help="a JSON file")
    arguments = parser.parse_args()
    arguments.params = DEFAULTS | json_params(arguments.params, "vitrail.reduction")
    torch.set_num_threads(1)
    mnist = load_mnist(arguments.data, verify=True)
    learns = arguments.step == "learn"  # and measures no time
    device = pick_device(arguments.device, gpus.SMALL if learns else gpus.WHOLE)
    if device.type != "cpu":  # whose kernels repeat themselves on one thread
        compute_repeatably(device)
    (learn_thresholds if learns else compare_ways)(arguments, mnist, device)


if __name__ == "__main__":
    run_command(main)
