"""Processes that train one network together: gradients averaged, and one clock for all.

They meet in memory that they share: each writes its values into a row of its own, waits for the
others and reads all rows. All gradients lie in one buffer, so that a step is one meeting; the
clock travels with it, and the latest one counts. Over gloo the same took four times as long
(docs/one_minute.md).
"""

from __future__ import annotations

import threading

import torch
import torch.multiprocessing
from torch import Tensor, nn

from vitrail.errors import VitrailError

ANSWER_SECONDS = 120.0  # how long one process waits for the other


class Meeting:
    """Where the processes of a run meet; made once, and given to each of them.

    Args:
        processes: how many meet; one alone waits for nobody.
        size: numbers that each may bring.
    """

    def __init__(self, processes: int, size: int) -> None:
        self.processes = processes
        # Two sets of rows in turn: who writes the next values may find the others still reading.
        self.rows = torch.zeros(2, processes, size).share_memory_()
        self.barrier = torch.multiprocessing.get_context("spawn").Barrier(processes)
        self.turn = 0

    def bring(self, rank: int, values: Tensor) -> Tensor:
        """The values of all processes, (processes, len(values)), the same in each.

        They are overwritten by the meeting after the next.

        Raises:
            VitrailError: another process does not come.
        """
        rows = self.rows[self.turn, :, : len(values)]
        self.turn = 1 - self.turn
        rows[rank].copy_(values)
        try:
            self.barrier.wait(ANSWER_SECONDS)
        except threading.BrokenBarrierError as error:
            raise VitrailError(
                f"one of the processes waited {ANSWER_SECONDS:g} seconds for the other, which did "
                "not come; run the same command again on a machine with more time"
            ) from error
        return rows


class Gradients:
    """The gradients of a network as parts of one buffer, which the processes average.

    Backward adds to them where they lie: `clear` before it, `average` after it. Do not set
    them to None.
    """

    def __init__(self, network: nn.Module, meeting: Meeting, rank: int) -> None:
        parameters = [p for p in network.parameters() if p.requires_grad]
        self.meeting, self.rank = meeting, rank
        self.buffer = torch.zeros(size_of(network))
        start = 0
        for parameter in parameters:
            # In the parameter's own layout, which is channels-last for convolutions.
            parameter.grad = self.buffer.as_strided(parameter.size(), parameter.stride(), start)
            start += parameter.numel()

    def clear(self) -> None:
        """Zero, before the next backward."""
        self.buffer.zero_()

    def average(self, share: float) -> float:
        """Average the gradients; the share of the training that has passed, by the latest clock.

        Every process gets the same bits, so that all take the same step and end together. A
        process that was held up brings a late clock, which ends the training for all.
        """
        self.buffer[-1] = share
        if self.meeting.processes == 1:
            return self.buffer[-1].item()
        rows = self.meeting.bring(self.rank, self.buffer)
        torch.mean(rows, dim=0, out=self.buffer)
        return rows[:, -1].max().item()


def size_of(network: nn.Module) -> int:
    """Numbers that a process brings to a meeting: a gradient each, and the clock."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad) + 1


def same_everywhere(network: nn.Module, meeting: Meeting, rank: int) -> bool:
    """Whether all processes hold the same weights, bit for bit."""
    mine = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    rows = meeting.bring(rank, mine)
    return all(torch.equal(rows[0], row) for row in rows)
