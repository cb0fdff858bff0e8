"""Processes that train one network together: gradients averaged, and one clock for all.

They talk over gloo on this machine's own loopback and find each other through a file. All
gradients lie in one buffer, so that a step is one exchange; the clock travels with it.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

ANSWER_SECONDS = 120.0  # how long one process waits for the other


def join(rank: int, processes: int, store: Path) -> None:
    """Find the other processes; nothing to do for one alone."""
    if processes == 1:
        return
    # Otherwise gloo asks what this machine is called in the network, which it may not be.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=processes,
        timeout=timedelta(seconds=ANSWER_SECONDS),
    )  # fmt: skip


def total(values: list[float], processes: int) -> list[float]:
    """Each value summed over the processes. Waits for all of them."""
    summed = torch.tensor(values, dtype=torch.float64)
    if processes > 1:
        dist.all_reduce(summed)
    return summed.tolist()


class Gradients:
    """The gradients of a network as parts of one buffer, which the processes average.

    Backward adds to them where they lie: `clear` before it, `average` after it. Do not set
    them to None.
    """

    def __init__(self, network: nn.Module, processes: int) -> None:
        parameters = [p for p in network.parameters() if p.requires_grad]
        self.processes = processes
        self.buffer = torch.zeros(sum(p.numel() for p in parameters) + 1)  # and the clock
        start = 0
        for parameter in parameters:
            # In the parameter's own layout, which is channels-last for convolutions.
            parameter.grad = self.buffer.as_strided(parameter.size(), parameter.stride(), start)
            start += parameter.numel()

    def clear(self) -> None:
        """Zero, before the next backward."""
        self.buffer.zero_()

    def average(self, share: float) -> float:
        """Average the gradients and the share of the training that has passed; the latter back.

        Every process gets the same bits, so that all take the same step and end together.
        """
        self.buffer[-1] = share
        if self.processes > 1:
            dist.all_reduce(self.buffer)
            self.buffer.div_(self.processes)
        return self.buffer[-1].item()


def same_everywhere(tensors: list[Tensor], processes: int) -> bool:
    """Whether all processes hold the same bits."""
    if processes == 1:
        return True
    mine = torch.cat([tensor.detach().flatten() for tensor in tensors])
    low, high = mine.clone(), mine.clone()
    dist.all_reduce(low, op=dist.ReduceOp.MIN)
    dist.all_reduce(high, op=dist.ReduceOp.MAX)
    return torch.equal(low, high)
