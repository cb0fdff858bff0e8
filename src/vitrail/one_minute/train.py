"""One training against the clock, in each of its processes.

What the clock covers: drawing the order and the batches, moving the images, forward, backward,
the exchange of gradients and the updates. What it does not cover: starting Python, reading MNIST
into memory and building the network before, reading the digits held out after.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.analysis import counted
from vitrail.data import Mnist, load_mnist, split
from vitrail.device import compute_repeatably
from vitrail.efficiency import count_parameters
from vitrail.errors import VitrailError
from vitrail.files import sha256, write_json
from vitrail.one_minute.networks import build
from vitrail.one_minute.recipes import HELD_OUT, Recipe
from vitrail.one_minute.stream import HALVES, Stream, middle, normalised
from vitrail.one_minute.together import Gradients, Meeting, same_everywhere
from vitrail.optimizers import make_optimizers, set_rates

RESERVE = 0.1  # seconds kept for the last update, so that it ends within the time
EVALUATION_BATCH = 250


@dataclass(frozen=True)
class Order:
    """What a run is to do; `steps` above zero counts updates in place of `seconds`."""

    recipe: Recipe
    seed: int
    data: str
    seconds: float = 60.0
    steps: int = 0
    validation: bool = False  # train without the images held out and read those, not the test set
    processes: int = 2


@dataclass
class Spent:
    """What a training took, in this process; `seconds` until its last update had ended."""

    steps: int
    seconds: float
    cpu_seconds: float


def fit(network: nn.Module, stream: Stream, order: Order, meeting: Meeting, rank: int = 0) -> Spent:
    """Train in place until the time is over or the steps are taken.

    The rates follow the share of the time that has passed, not the steps, so that they are at
    zero in the end however fast the machine is. A gradient that comes too late is dropped.
    """
    recipe = order.recipe
    optimizers = make_optimizers(network, asdict(recipe))
    gradients = Gradients(network, meeting, rank)
    gradients.average(0.0)  # nobody's clock starts before all are there
    started, used, done = time.perf_counter(), time.process_time(), 0
    ended = started
    while not order.steps or done < order.steps:
        images, labels = next(stream)
        gradients.clear()
        F.cross_entropy(network(images), labels).backward()
        passed = (time.perf_counter() - started) / (order.seconds - RESERVE)
        share = gradients.average((done + 0.5) / order.steps if order.steps else passed)
        if share >= 1:
            break
        set_rates(optimizers, recipe.rate(share))
        for optimizer in optimizers:
            optimizer.step()
        done, ended = done + 1, time.perf_counter()
    return Spent(done, ended - started, time.process_time() - used)


def arrays(mnist: Mnist, validation: bool) -> tuple[Any, Any, Any, Any]:
    """Images and labels to train on, then those to read in the end: the test set, or held out.

    Raises:
        VitrailError: there are too few training images to hold some out.
    """
    if validation:
        held = split(mnist, HELD_OUT)
        return held.train_images, held.train_labels, held.validation_images, held.validation_labels
    return mnist.train_images, mnist.train_labels, mnist.test_images, mnist.test_labels


def tensors(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Arrays of MNIST as normalised images (N, 1, 28, 28) and labels (N,)."""
    return normalised(torch.tensor(images)), torch.tensor(labels).long()


@torch.inference_mode()
def read(network: nn.Module, images: Tensor, labels: Tensor, crop: int) -> dict[str, Any]:
    """How well the trained network reads images (N, 1, 28, 28) that it has not seen."""
    began = time.perf_counter()
    network.eval()
    logits = torch.cat([network(middle(part, crop)) for part in images.split(EVALUATION_BATCH)])
    errors = int((logits.argmax(dim=1) != labels).sum())
    return {
        "read_images": len(images),
        "errors": errors,
        "accuracy": 1 - errors / len(images),
        "loss": F.cross_entropy(logits, labels).item(),
        "read_seconds": round(time.perf_counter() - began, 2),
    }


def accept(network: nn.Module, spent: Spent, order: Order) -> None:
    """Refuse a training that is not what was asked for, before the test set is read.

    Raises:
        VitrailError: its weights are no numbers, no update fitted into the time, or the last one
            ended too late.
    """
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise VitrailError(
            "the training diverged: its weights are no numbers any more; choose lower rates with "
            "--set learning_rate=... matrix_learning_rate=..."
        )
    given = counted(order.seconds, "second")
    if not spent.steps:
        raise VitrailError(
            f"no update ended within {given}; give more with --seconds, or let other programs rest"
        )
    if not order.steps and spent.seconds > order.seconds:
        raise VitrailError(
            f"the last update ended after {spent.seconds:.2f} of {given}, since this machine held "
            "a process up; the run does not count and nothing was read: run the same command again "
            "with --resume, when other programs rest"
        )


def work(rank: int, order: Order, folder: str, meeting: Meeting) -> None:
    """One process of a run; the first leaves `result.json` and `model.safetensors` in the folder.

    Raises:
        VitrailError: the processes do not hold the same network in the end, or see `accept`.
    """
    begun = time.perf_counter()
    compute_repeatably()
    images, labels, unseen, unseen_labels = arrays(load_mnist(Path(order.data)), order.validation)
    network = build(order.recipe, order.seed)
    halves = range(HALVES) if order.processes == 1 else range(rank, rank + 1)
    stream = Stream(*tensors(images, labels), order.recipe, order.seed, halves)
    start_up = time.perf_counter() - begun
    spent = fit(network, stream, order, meeting, rank)
    both = meeting.bring(rank, torch.tensor([spent.cpu_seconds, spent.seconds]))
    cpu_seconds, spent.seconds = both[:, 0].sum().item(), both[:, 1].max().item()
    accept(network, spent, order)
    if not same_everywhere(network, meeting, rank):
        raise VitrailError(
            "the two processes ended with different weights, so one of them computed something "
            "else; run the same command again, and check the memory of this machine"
        )
    if rank:
        return
    write_json(
        Path(folder) / "result.json",
        {
            "seed": order.seed,
            "steps": spent.steps,
            "images": spent.steps * order.recipe.batch_size,
            "training_images": len(images),
            "parameters": count_parameters(network),
            "seconds": round(spent.seconds, 3),
            "cpu_seconds": round(cpu_seconds, 2),
            "start_up_seconds": round(start_up, 2),
            "weights_sha256": _keep(network, Path(folder) / "model.safetensors"),
            "read": "validation" if order.validation else "test",
            **read(network, *tensors(unseen, unseen_labels), order.recipe.crop),
        },
    )


def _keep(network: nn.Module, path: Path) -> str:
    """Write the weights; their checksum, by which two runs are compared bit for bit."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return sha256(path)
