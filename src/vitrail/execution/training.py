"""Ways to compute the gradients of a training step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrail.device import autocast
from vitrail.efficiency import count_parameters
from vitrail.execution import parallel
from vitrail.execution.offload import offloaded
from vitrail.execution.parallel import TwoProcesses
from vitrail.execution.rounds import read_memory, take_turns
from vitrail.execution.ways import (
    Way,
    failing,
    loss_gradients,
    set_up,
    with_attention,
    with_compiled_blocks,
)
from vitrail.model import PatchDropout

GROUP = "training"
Gradients = Callable[[Tensor, Tensor], list[Tensor]]  # images, labels (B,) -> one per parameter
Build = Callable[[nn.Module, torch.device, Path], Gradients]  # the folder is for files it needs


class Checkpointed(nn.Module):
    """A block that keeps only its input and runs again in the backward pass.

    Chen et al. 2016 (1604.06174), section 4, with one segment per block.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, use_reentrant=False)


def of(network: nn.Module) -> Gradients:
    """The gradients of a network as it is."""
    return lambda images, labels: loss_gradients(network, images, labels)


def bf16(network: nn.Module, device: torch.device) -> Gradients:
    """Matrix products in bf16; those of the backward pass follow their forward ones."""
    return lambda images, labels: loss_gradients(network, images, labels, autocast(device, "bf16"))


def checkpointed(plain: nn.Module) -> Gradients:
    """Every block a `Checkpointed` one."""
    network: Any = copy.deepcopy(plain)
    network.blocks = nn.Sequential(*map(Checkpointed, network.blocks))
    return of(network)


# name -> (detail, how the plain network is turned into it)
WAYS: dict[str, tuple[str, Build]] = {
    "plain": ("attention written out, float32, one thread", lambda network, *_: of(network)),
    "sdpa": (
        "attention by the kernel of scaled_dot_product_attention",
        lambda network, *_: of(with_attention(network, fused=True)),
    ),
    "compile": (
        "torch.compile of the block, used by all blocks",
        lambda network, *_: of(with_compiled_blocks(network)),
    ),
    "bf16": (
        "matrix products in bf16 by autocast, weights and gradients in float32",
        lambda network, device, _: bf16(network, device),
    ),
    "checkpointing": (
        "every block keeps its input alone and is computed again in the backward pass",
        lambda network, *_: checkpointed(network),
    ),
    "offloading": (
        "activations wait for the backward pass in the CPU's memory, or on a CPU in files, which "
        "the system may hold in memory that it has to spare",
        offloaded,
    ),
}


def measure_training(
    network: nn.Module, images: Tensor, labels: Tensor, settings: dict[str, Any], folder: Path
) -> list[Way]:
    """Every way to compute the gradients of one batch, forward and backward.

    No patch and no unit is dropped, whatever the network was trained with: each way would draw
    others, and their gradients could not be compared.
    """
    device = images.device
    network = without_drops(network).train()
    about: dict[str, Any] = {"baseline": "plain", "batch_size": len(images)}
    about["parameters"] = count_parameters(network)
    ways = []
    for name, (detail, build) in WAYS.items():
        way = Way(name, GROUP, "train", detail=detail, **about)
        with set_up(way):
            way.step = partial(_step, build(network, device, folder), images, labels)
            way.step(0)
        ways.append(way)
    with ExitStack() as stack:
        way = Way("data_parallel", GROUP, "train", detail=parallel.DETAIL, **about)
        with set_up(way):
            two = stack.enter_context(
                TwoProcesses(network, images, labels, settings["timeout_seconds"])
            )
            way.step, way.peak = two.step, two.peak_mib
            way.step(0)
        ways.append(way)
        take_turns(ways, settings["train_rounds"], device, GROUP)
        read_memory(ways, device)
        if way.step is not None:
            with failing(way):
                way.results = [two.gradients()]
    return ways


def without_drops(network: nn.Module) -> nn.Module:
    """A copy that drops no patch and no unit in training."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, PatchDropout):
            module.prob = 0
        elif isinstance(module, nn.Dropout):
            module.p = 0
    return network


def _step(gradients: Gradients, images: Tensor, labels: Tensor, _: int) -> list[Tensor]:
    """The gradients of the one batch, whatever the round."""
    return gradients(images, labels)
