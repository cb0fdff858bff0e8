"""Train one arm: every seed of it, one after the other, each into its run folder.

One process per arm, because starting torch costs as much as a short training. On one
machine and one build of torch the same settings and seed give the same bits: one
thread, deterministic kernels, and random numbers that depend on the seed alone; killed and
resumed (`vitrail.resume`) or not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail import code_files, gpus
from vitrail import data as mnist_data
from vitrail.augment import augmented, moved
from vitrail.data import Mnist, Split, load_mnist, split
from vitrail.device import (
    autocast,
    compute_repeatably,
    environment,
    faster_precision,
    mean_of,
    peak_memory_mb,
    pick_device,
    sent,
)
from vitrail.early_stopping import Best
from vitrail.efficiency import count_macs, count_parameters
from vitrail.errors import run_command
from vitrail.few_labels import hold_out, with_labels
from vitrail.files import read_json
from vitrail.gradients import Batch
from vitrail.gradients import step as one_step
from vitrail.growing import Growth, first_stage
from vitrail.linear_probe import features, freeze_trunk
from vitrail.model import patch_generators, seed_patches
from vitrail.networks import build, load_run, load_start
from vitrail.optimizers import make_optimizers, schedule, set_rates
from vitrail.resume import EVERY, Unfinished, conditions, restore, state_of, wait_for, weights_sum
from vitrail.run_folder import write_run
from vitrail.selection import draw, gradient_bound, presample
from vitrail.settings import IMAGE_SIZE, Settings, arm_id, in_full, run_id, steps_of

EVALUATION_BATCH = 100  # larger ones are slower on a CPU with 50 tokens, no faster with 17
# Added to a run's seed for the random maps of its images, the patches that are dropped and
# the draws of importance sampling: each has numbers of its own, which depend on the seed alone.
MOVES, PATCHES, DRAWS = 2**32, 2 * 2**32, 3 * 2**32
Found = dict[str, Any]  # what vitrail.weights found


@dataclass
class Log:
    """What a training leaves: one row per evaluation, and the clock beside it.

    `kept` is the place of the evaluation whose weights were kept, by default the last;
    `resumed_at` the steps after which the training went on from a state on disk, and
    `earlier` the seconds that it had taken until there.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[dict[str, Any]] = field(default_factory=list)
    kept: int = -1
    resumed_at: list[int] = field(default_factory=list)
    earlier: float = 0.0


def pixels(images: np.ndarray, settings: Settings, device: torch.device) -> Tensor:
    """uint8 (N, 28, 28) -> normalised float32 (N, 1, 28, 28) on the device."""
    scaled = torch.from_numpy(np.array(images)).to(device).float().div_(255)
    return scaled.sub_(settings["pixel_mean"]).div_(settings["pixel_std"]).unsqueeze_(1)


def batches(samples: int, settings: Settings, seed: int) -> Iterator[Tensor]:
    """Indices of each step, (batch_size,): every epoch a new order, the rest dropped.

    The order depends on the seed, the number of images and the batch size alone, so
    arms that are compared see the same images in the same order.
    """
    generator = torch.Generator().manual_seed(seed)
    size, left = settings["batch_size"], steps_of(settings)
    while left:
        order = torch.randperm(samples, generator=generator)
        for chosen in order[: min(left, samples // size) * size].split(size):
            yield chosen
            left -= 1


@torch.inference_mode()
def logits_of(network: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Logits of all images, (N, 10) float32, in evaluation mode."""
    training = network.training
    network.eval()
    with autocast(images.device, precision):
        parts = [network(part) for part in images.split(EVALUATION_BATCH)]
    network.train(training)
    return torch.cat(parts).float()


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """(mean cross-entropy, accuracy in [0, 1]) of logits (N, 10)."""
    loss = F.cross_entropy(logits, labels).item()
    # Apple's GPUs have no float64.
    return loss, (logits.argmax(dim=1) == labels).cpu().double().mean().item()


def important(
    network: nn.Module, batch: Batch, settings: Settings, precision: str, draws: torch.Generator
) -> Batch:
    """A batch drawn by importance from a pre-sample, with its weights."""
    images, labels, _ = batch
    logits = logits_of(network, images, precision)
    scores = gradient_bound(logits, labels, settings["label_smoothing"])
    picked, weights = draw(scores, settings["batch_size"], draws)
    return images[picked], labels[picked], weights


def fit(
    network: nn.Module,
    data: Split,
    settings: Settings,
    seed: int,
    device: torch.device,
    precision: str,
    title: str,
    teacher: nn.Module | None = None,
    unfinished: Unfinished | None = None,
) -> Log:
    """Train in place and evaluate on the validation split at equal distances.

    The network after the last step is the result: the learning rate has decayed to
    zero by then, and no step is picked by looking at an accuracy. Under `early_stopping`
    a part of the labels is held out of training, and picks one. With `unfinished` the
    training goes on from the state there, and leaves its own there now and then.
    """
    from tqdm import tqdm

    settings = in_full(settings)
    best = Best()
    if settings["early_stopping"]:
        data, held = hold_out(data, seed)
        unseen = pixels(held.train_images, settings, device)
        unseen_labels = torch.from_numpy(held.train_labels).long().to(device)
    train = pixels(data.train_images, settings, device)
    labels = torch.from_numpy(np.array(data.train_labels)).long().to(device)
    validation = pixels(data.validation_images, settings, device)
    validation_labels = torch.from_numpy(np.array(data.validation_labels)).long().to(device)
    network.train()
    log, losses, spent, done = Log(), [], 0.0, 0
    begun = started = time.perf_counter()
    if settings["tune"] == "head":
        head = freeze_trunk(network)
        if not augmented(settings):
            # The trunk sees every image alike each time, so that once is enough.
            train = features(network, train, precision, settings["batch_size"])
            spent = time.perf_counter() - started
            validation = features(network, validation, precision, EVALUATION_BATCH)
            network = head
    optimizers = make_optimizers(network, settings)
    # Its own generator: whether images are moved changes neither their order nor the start.
    # Its own seed: that of `batches` would draw the maps from the numbers of the order.
    moves = torch.Generator().manual_seed(MOVES + seed)
    draws = torch.Generator().manual_seed(DRAWS + seed)
    seed_patches(network, PATCHES + seed)
    generators = [moves, draws, *patch_generators(network)]
    steps = steps_of(settings)
    growth = Growth(settings, steps)
    state = unfinished.state() if unfinished else None
    if state is not None:
        done, spent = state["step"], state["spent"]
        if growth.past(done):
            optimizers = growth.grow(network, optimizers)
        restore(state, [network], optimizers, generators, device)
        best.load_state_dict(state["best"])
        losses, log = list(state["losses"].to(device)), Log(**state["log"])
        log.resumed_at.append(done)
        print(f"{title}: resumed at step {done} of {steps}", flush=True)
        del state  # as large as the network and its optimisers
    points = {
        round((i + 1) * steps / settings["evaluations"]) for i in range(settings["evaluations"])
    }
    started = time.perf_counter()
    left = itertools.islice(batches(len(train), settings, seed), done, None)
    bar = tqdm(
        enumerate(left, start=done + 1), initial=done,
        total=steps, desc=title, unit="step", mininterval=5, file=sys.stderr,
    )  # fmt: skip
    for step, chosen in bar:
        if growth.due(step - 1):
            optimizers = growth.grow(network, optimizers)
        share = schedule(step - 1, steps, settings["warmup"], settings["schedule"])
        set_rates(optimizers, share)
        if settings["selection"] == "importance":
            chosen = presample(chosen, len(train), draws)
        chosen = sent(chosen, device)
        batch: Batch = moved(train[chosen], settings, moves), labels[chosen], None
        if settings["selection"] == "importance":
            batch = important(network, batch, settings, precision, draws)
        losses.append(one_step(network, batch, optimizers, settings, device, precision, teacher))
        if step in points:
            train_loss = mean_of(losses)  # waits for the device
            if settings["early_stopping"]:
                loss, _ = score(logits_of(network, unseen, precision), unseen_labels)
                best.look(network, loss)
            spent += time.perf_counter() - started
            value, accuracy = score(logits_of(network, validation, precision), validation_labels)
            log.history.append(
                {
                    "step": step,
                    "epoch": round(step * settings["batch_size"] / len(train), 6),
                    "samples": step * settings["batch_size"],
                    "train_loss": train_loss,
                    "val_loss": value,
                    "val_accuracy": accuracy,
                    "learning_rate": settings["learning_rate"] * share,
                }
            )
            log.seconds.append({"step": step, "seconds": round(spent, 3)})
            bar.set_postfix(val_accuracy=f"{accuracy:.4f}")
            losses, started = [], time.perf_counter()
        if unfinished is not None and unfinished.due():
            wait_for(device)
            now = time.perf_counter()
            spent += now - started
            own = {
                "step": step,
                "losses": torch.stack(losses) if losses else torch.empty(0),
                "log": {**vars(log), "earlier": log.earlier + now - begun},
                "best": best.state_dict(),
                "spent": spent,
            }
            unfinished.save(step, own | state_of([network], optimizers, generators, device))
            started = time.perf_counter()
    if settings["early_stopping"]:
        best.restore(network)
        log.kept = best.look_number
    return log


def run(
    settings: Settings,
    seed: int,
    mnist: Mnist,
    device: torch.device,
    weights: Found | None,
    start: Path | None = None,
    teacher: nn.Module | None = None,
    unfinished: Unfinished | None = None,
) -> tuple[nn.Module, Log, np.ndarray, dict[str, Any]]:
    """One run: (trained network, log, test logits (10000, 10), summary).

    The test set is read here, once, after the last step.
    """
    torch.manual_seed(seed)
    precision = settings["precision"]
    if precision == "auto":
        precision = faster_precision(device)
    data = split(mnist, settings["validation"], settings["train_size"])
    data = with_labels(data, settings.get("label_budget", 0), seed)
    network = build(first_stage(in_full(settings)), weights)
    if start is not None:
        load_start(network, start / "model.safetensors")
    network = network.to(device)
    name = run_id(arm_id(settings), seed)
    begun = time.perf_counter()
    log = fit(network, data, settings, seed, device, precision, name, teacher, unfinished)
    # Of the network that is kept: one that grows has cost less at first.
    macs = count_macs(network, torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE, device=device))
    test_images = pixels(mnist.test_images, settings, device)
    started = time.perf_counter()
    logits = logits_of(network, test_images, precision).cpu()
    test_seconds = time.perf_counter() - started
    labels = torch.from_numpy(np.array(mnist.test_labels)).long()
    test_loss, test_accuracy = score(logits, labels)
    last, kept = log.history[-1], log.history[log.kept]
    training_seconds = log.seconds[-1]["seconds"]
    summary = {
        "status": "finished",
        "reason": "",
        "precision_used": precision,
        # All of them, of a linear probe as well.
        "parameters": count_parameters(network.requires_grad_()),
        "macs": macs,
        "samples": last["samples"],
        "seconds": round(log.earlier + time.perf_counter() - begun, 3),
        "train_samples_per_second": round(last["samples"] / max(training_seconds, 1e-3), 1),
        **peak_memory_mb(device),
        "kept_step": kept["step"],
        "train_loss": kept["train_loss"],
        "val_loss": kept["val_loss"],
        "val_accuracy": kept["val_accuracy"],
        "test_seconds": round(test_seconds, 3),
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "test_errors": int((logits.argmax(dim=1) != labels).sum()),
    }
    return network, log, logits.numpy(), summary


def main() -> None:
    parser = argparse.ArgumentParser(description="Train arms, each with all seeds.")
    parser.add_argument(
        "--settings", type=json.loads, required=True, help="JSON of an arm, or a list of arms"
    )
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the MNIST files")
    parser.add_argument(
        "--study", type=Path, required=True, help="folder of runs/ and pretraining/"
    )
    parser.add_argument(
        "--weights", type=Path, help="file of vitrail.weights, for a pretrained arm"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=EVERY,
        help="how often the state of a training is saved; 0: after every step",
    )
    arguments = parser.parse_args()

    asked = arguments.settings
    arms = asked if isinstance(asked, list) else [asked]
    device = pick_device(arguments.device, gpus.percent(arms))
    compute_repeatably(device)
    kept = [
        unfinished for settings in arms for unfinished in train_arm(settings, arguments, device)
    ]
    for unfinished in kept:
        unfinished.clear()


def train_arm(
    settings: Settings, arguments: argparse.Namespace, device: torch.device
) -> list[Unfinished]:
    """Every seed of an arm into its run folder, or why it cannot be run.

    Returns:
        What is kept of its runs, to be cleared when the other arms of the job are done.
    """
    weights = read_json(arguments.weights) if arguments.weights else None
    facts = environment(device) | {"data": read_json(arguments.data / "source.json")}
    runs = arguments.study / "runs"
    folders = {seed: runs / run_id(arm_id(settings), seed) for seed in arguments.seeds}
    if settings.get("pretrained") and (weights is None or weights["status"] != "available"):
        reason = weights["reason"] if weights else "--weights was not given"
        for seed, folder in folders.items():
            write_run(folder, settings, seed, {"status": "not run", "reason": reason}, facts)
        print(f"train: {arm_id(settings)} not run: {reason}")
        return []
    mnist = load_mnist(arguments.data, verify=True)
    start = arguments.study / "pretraining" / settings["start"] if settings.get("start") else None
    identity = conditions((*code_files.TRAIN, *code_files.READING), facts) | {
        "settings": settings,
        "data": mnist_data.FILES,  # these sums have just been checked
        "weights": weights["sha256"] if weights else None,
        "start": weights_sum(start),
    }
    kept = []
    for seed, folder in folders.items():
        taught_by = runs / run_id(settings["teacher"], seed) if settings.get("teacher") else None
        unfinished = Unfinished(
            arguments.study / "unfinished" / folder.name,
            identity | {"seed": seed, "teacher": weights_sum(taught_by)},
            arguments.checkpoint_seconds,
        )
        kept.append(unfinished)
        if unfinished.give_back(folder):
            print(f"train: {folder.name} was finished by an earlier attempt", flush=True)
            continue
        teacher = load_run(taught_by).to(device) if taught_by else None
        network, log, logits, summary = run(
            settings, seed, mnist, device, weights, start, teacher, unfinished
        )
        tables = {"history.csv": log.history, "timing.csv": log.seconds}
        resumed = {"resumed_at_steps": log.resumed_at} if log.resumed_at else {}
        write_run(folder, settings, seed, summary, facts | resumed, (network, tables, logits))
        unfinished.keep(folder)
        print(f"train: {folder.name} test accuracy {summary['test_accuracy']:.4f}")
    return kept


if __name__ == "__main__":
    run_command(main)
