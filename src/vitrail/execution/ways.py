"""A way to compute a network: what is asked of it, what was measured, why it could not be."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.meters import ran_out_of_memory

Logits = Callable[[Tensor], Tensor]  # images (B, 1, 28, 28) -> (B, 10)


class Unavailable(Exception):
    """A way that cannot be measured on this machine, with the reason in a sentence."""


@dataclass
class Way:
    """One row of the table.

    `step(round)` is the call that is timed; what it returns is kept for a comparison with
    the baseline: the logits (B, 10) of the round's images, or the gradients of a batch.
    `peak` gives the peak memory of such a call in MiB.
    """

    name: str
    group: str
    mode: str  # forward or train
    baseline: str
    detail: str
    batch_size: int
    step: Callable[[int], Any] | None = None
    peak: Callable[[], float] | None = None
    parameters: int = 0  # trainable ones
    setup_seconds: float = math.nan
    seconds: list[float] = field(default_factory=list)  # of a call, one per round
    results: list[Any] = field(default_factory=list)
    peak_mib: float = math.nan
    images: int = 0  # test images that the accuracy is of
    accuracy: float = math.nan
    reason: str = ""

    def fail(self, reason: str) -> None:
        """Keep the row, without figures."""
        self.step, self.reason = None, reason
        self.setup_seconds = self.peak_mib = self.accuracy = math.nan
        self.seconds, self.results, self.images = [], [], 0


@contextmanager
def failing(way: Way) -> Iterator[None]:
    """What this machine cannot do becomes the reason of the row; a bug keeps its traceback."""
    try:
        yield
    except Unavailable as error:
        way.fail(str(error))
    except (RuntimeError, MemoryError) as error:
        reason = compiler_failed(error) or (
            "the device ran out of memory" if ran_out_of_memory(error) else ""
        )
        if not reason:
            raise
        way.fail(reason)


def compiler_failed(error: Exception) -> str:
    """What an error of `torch.compile` says; empty for another error."""
    from torch._dynamo.exc import BackendCompilerFailed

    if not isinstance(error, BackendCompilerFailed):
        return ""
    if "No working C++ compiler" in str(error):
        return "torch.compile needs a C++ compiler; install g++ or clang, or name one in $CXX"
    said = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"torch.compile failed: {said.strip()[:200]}"


@contextmanager
def set_up(way: Way) -> Iterator[None]:
    """The block is what the way costs once, up to the end of its first call."""
    with failing(way):
        begin = time.perf_counter()
        yield
        way.setup_seconds = time.perf_counter() - begin


def with_attention(network: nn.Module, fused: bool) -> Any:
    """A copy of a `VisionTransformer` with attention fused or written out."""
    network = copy.deepcopy(network)
    for block in network.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = fused
    return network


def with_compiled_blocks(network: nn.Module) -> Any:
    """A copy whose blocks are compiled at the first call.

    Block by block, because all of them share what is compiled for the first, which halves
    the set-up; outside of them are a few per cent of the work.
    """
    torch.compiler.reset()  # each way compiles for itself
    network = copy.deepcopy(network)
    for block in network.blocks:  # type: ignore[union-attr]
        block.compile()
    return network


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that a training step changes."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def loss_gradients(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    forward: AbstractContextManager[Any] | None = None,
) -> list[Tensor]:
    """Gradients of the mean cross-entropy, one per trainable parameter.

    `forward` is a context for the forward pass alone.
    """
    with forward or nullcontext():
        loss = F.cross_entropy(network(images), labels)
    return list(torch.autograd.grad(loss, trainable(network)))


def largest_difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """Largest absolute difference of two entries at the same place, over all tensors."""
    return max((one - other).abs().max().item() for one, other in zip(found, expected, strict=True))
