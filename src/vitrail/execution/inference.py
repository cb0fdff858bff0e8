"""Ways to compute the logits of a trained ViT."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.device import autocast
from vitrail.errors import VitrailError
from vitrail.execution.rounds import read_memory, take_turns
from vitrail.execution.ways import (
    Logits,
    Unavailable,
    Way,
    failing,
    set_up,
    with_attention,
    with_compiled_blocks,
)
from vitrail.train import score

GROUP = "inference"
Build = Callable[[nn.Module, torch.device], Logits]


def bf16(network: nn.Module, device: torch.device) -> Logits:
    """Matrix products in bf16, which keeps 8 bits of each number's fraction."""

    def logits(images: Tensor) -> Tensor:
        with autocast(device, "bf16"):
            return network(images).float()

    return logits


def int8(network: nn.Module, device: torch.device) -> Logits:
    """Linear layers in int8: weights once, activations anew at every call.

    One scale for each matrix, the arithmetic of Jacob et al. 2018, section 2.

    Raises:
        Unavailable: on a GPU, and where this torch has no int8 kernels for the processor.
    """
    if device.type != "cpu":
        raise Unavailable(
            f"torch.ao.quantization has int8 kernels for a CPU, not for {device.type}"
        )
    if torch.backends.quantized.engine == "none":
        raise Unavailable("this torch has no int8 kernels for this processor")
    with warnings.catch_warnings():
        # Both announce that torchao takes over. Without torch.compile its int8 layers are
        # slower on a CPU than float32, so the way of today is still this one.
        warnings.filterwarnings("ignore", "torch.ao.quantization is deprecated")
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
        from torch.ao.quantization import quantize_dynamic

        return quantize_dynamic(copy.deepcopy(network), {nn.Linear}, dtype=torch.qint8)


# name -> (detail, how the plain network is turned into it)
WAYS: dict[str, tuple[str, Build]] = {
    "plain": ("attention written out, float32, one thread", lambda network, _: network),
    "sdpa": (
        "attention by the kernel of scaled_dot_product_attention",
        lambda network, _: with_attention(network, fused=True),
    ),
    "compile": (
        "torch.compile of the block, used by all blocks; its set-up starts the compiler, too",
        lambda network, _: with_compiled_blocks(network),
    ),
    "bf16": ("matrix products in bf16 by autocast, weights in float32", bf16),
    "int8": ("linear layers in int8 by dynamic quantisation", int8),
}


def measure_inference(
    network: nn.Module, images: Tensor, labels: Tensor, settings: dict[str, Any]
) -> list[Way]:
    """Every way to compute the logits; each round computes the next batch of test images.

    The accuracy is that of the images of all rounds, or of all images (N, 1, 28, 28) when
    the rounds are enough to come back to the first.

    Raises:
        VitrailError: when there are fewer images than a batch holds.
    """
    batch_size, rounds = settings["batch_size"], settings["rounds"]
    batches = [part for part in images.split(batch_size) if len(part) == batch_size][:rounds]
    if not batches:
        raise VitrailError(
            f"execution.batch_size {batch_size} is more than the {len(images)} test images"
        )
    ways = []
    for name, (detail, build) in WAYS.items():
        way = Way(name, GROUP, "forward", "plain", detail, batch_size)
        with set_up(way):
            way.step = partial(_step, build(network, images.device), batches)
            way.step(0)
        ways.append(way)
    take_turns(ways, rounds, images.device, GROUP)
    read_memory(ways, images.device)
    seen = batch_size * len(batches)
    for way in ways:
        if way.results:
            with failing(way):
                logits = torch.cat(way.results[: len(batches)])
                way.results = [[logits]]
                way.images = seen
                _, way.accuracy = score(logits, labels[:seen])
    return ways


@torch.inference_mode()
def _step(logits: Logits, batches: Sequence[Tensor], number: int) -> Tensor:
    """The logits (B, 10) of a round."""
    return logits(batches[number % len(batches)])
