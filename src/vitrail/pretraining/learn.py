"""Pretraining: as many steps as the recipe says, on images that are made as they are needed."""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.device import autocast, mean_of, sent
from vitrail.networks import build
from vitrail.optimizers import make_optimizers, schedule, set_rates
from vitrail.pretraining.masked import MaskedAutoencoder
from vitrail.pretraining.stream import Batch, batches, generators
from vitrail.resume import Unfinished, restore, state_of, wait_for
from vitrail.settings import Settings

MASKS = 3 * 2**32  # added to a recipe's seed for the patches that are hidden
LOGGED = 20  # rows of history.csv
SAMPLE = 2000  # images that the mean image is taken from


@dataclass
class Log:
    """What a pretraining leaves: rows of means since the last row, and the clock beside them.

    `resumed_at` are the steps after which it went on from a state on disk, `earlier` the
    seconds that it had taken until there.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[dict[str, Any]] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)
    earlier: float = 0.0


class Classify:
    """Tell the classes apart."""

    def __init__(self, settings: Settings, recipe: dict[str, Any], device: torch.device) -> None:
        self.network = build(settings, num_classes=recipe["classes"]).to(device)
        self.parts: list[nn.Module] = [self.network]
        self.generators: list[torch.Generator] = []

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss, with its gradients to come, and the accuracy of a batch."""
        logits = self.network(images)
        right = (logits.detach().argmax(dim=1) == labels).float().mean()
        return {"train_loss": F.cross_entropy(logits, labels), "train_accuracy": right}

    def weights(self) -> dict[str, Tensor]:
        """All of the network's, its head for the recipe's classes among them."""
        return self.network.state_dict()


class Masked:
    """Draw the hidden patches."""

    def __init__(self, settings: Settings, recipe: dict[str, Any], device: torch.device) -> None:
        network: Any = build(settings)
        self.model = MaskedAutoencoder(network, recipe["mask_ratio"]).to(device)
        # Apart, so that the matrices of both are found under `blocks`.
        self.parts: list[nn.Module] = [self.model.network, self.model.decoder]
        self.draws = torch.Generator().manual_seed(MASKS + recipe["seed"])
        self.generators = [self.draws]

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of a batch; the labels mean nothing here."""
        patches = self.model.network.patch_embed.num_patches
        order = torch.rand(len(images), patches, generator=self.draws).argsort(dim=1)
        return {"train_loss": self.model(images, sent(order, images.device))[0]}

    def weights(self) -> dict[str, Tensor]:
        """The network's, with the decoder for its head."""
        return self.model.weights()


def normalised(images: Tensor, settings: Settings) -> Tensor:
    """Images in [0, 1] as the network takes them."""
    return (images - settings["pixel_mean"]) / settings["pixel_std"]


def learn(
    recipe: dict[str, Any],
    settings: Settings,
    digits: np.ndarray | None,
    device: torch.device,
    precision: str,
    unfinished: Unfinished | None = None,
) -> tuple[dict[str, Tensor], Log]:
    """Train a fresh network: its weights, on the CPU, and what was seen on the way.

    With `unfinished` it goes on from the state there, and leaves its own there now and then.
    """
    from tqdm import tqdm

    torch.manual_seed(recipe["seed"])
    task = (Masked if recipe["task"] == "masked" else Classify)(settings, recipe, device)
    optimizers = [each for part in task.parts for each in make_optimizers(part, recipe)]
    steps, log, done = recipe["steps"], Log(), 0
    points = {round((i + 1) * steps / LOGGED) for i in range(LOGGED)}
    rows: list[dict[str, Tensor]] = []
    streams = generators(recipe)
    random = [*streams, *task.generators]
    state = unfinished.state() if unfinished else None
    if state is not None:
        restore(state, task.parts, optimizers, random, device)
        done, log = state["step"], Log(**state["log"])
        log.resumed_at.append(done)
        columns = [values.to(device) for values in state["rows"].values()]
        rows = [dict(zip(state["rows"], row, strict=True)) for row in zip(*columns, strict=True)]
        print(f"pretraining: resumed at step {done} of {steps}", flush=True)
        del state  # as large as the network and its optimisers
    started = time.perf_counter() - log.earlier
    for part in task.parts:
        part.train()
    bar = tqdm(
        enumerate(batches({**recipe, "steps": steps - done}, digits, streams), start=done + 1),
        total=steps, initial=done, desc="pretraining", unit="step", mininterval=5, file=sys.stderr,
    )  # fmt: skip
    for step, (images, labels) in bar:
        share = schedule(step - 1, steps, recipe["warmup"], recipe["schedule"])
        set_rates(optimizers, share)
        images, labels = sent(normalised(images, settings), device), sent(labels, device)
        with autocast(device, precision):
            found = task(images, labels)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        found["train_loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
        rows.append({name: value.detach() for name, value in found.items()})
        if step in points:
            means = {
                name: mean_of(row[name] for row in rows) for name in rows[0]
            }  # waits for the device
            log.seconds.append({"step": step, "seconds": round(time.perf_counter() - started, 3)})
            log.history.append(
                {"step": step, "samples": step * recipe["batch_size"]}
                | means
                | {"learning_rate": recipe["learning_rate"] * share}
            )
            rows = []
        if unfinished is not None and unfinished.due():
            wait_for(device)
            now = time.perf_counter()
            own = {
                "step": step,
                "rows": {name: torch.stack([row[name] for row in rows]) for name in found if rows},
                "log": {**vars(log), "earlier": now - started},
            }
            unfinished.save(step, own | state_of(task.parts, optimizers, random, device))
            started += time.perf_counter() - now  # saving is no part of the training
    return {name: value.cpu() for name, value in task.weights().items()}, log


def mean_image_loss(recipe: dict[str, Any], settings: Settings, digits: np.ndarray | None) -> float:
    """Mean squared error of drawing every pixel's mean: what a masked autoencoder must beat."""
    few = -(-SAMPLE // recipe["batch_size"])
    drawn: list[Batch] = list(itertools.islice(batches({**recipe, "steps": few}, digits), few))
    images = normalised(torch.cat([images for images, _ in drawn]), settings)
    return images.var(dim=0, correction=0).mean().item()
