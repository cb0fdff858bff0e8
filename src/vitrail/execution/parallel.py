"""Data parallelism: two processes with half of the batch each, their gradients averaged.

Each has one thread. They talk over gloo on this machine's own loopback, and find each other
through a file, so no network is needed.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.execution.ways import Unavailable, trainable
from vitrail.meters import peak_mib

PROCESSES = 2
DETAIL = (
    "two processes of one thread, half of the batch each, gradients averaged over gloo; memory is "
    "that of one process without the buffers for the exchange"
)
CPU = torch.device("cpu")


class TwoProcesses:
    """Two workers that wait for orders; a context that ends them, whatever they do.

    Args:
        network: each worker gets a copy.
        images, labels: the batch, (B, 1, 28, 28) and (B,) with an even B.
        seconds: how long an answer may take.

    Raises:
        Unavailable: from every method, when there is no gloo or no answer in that time.
    """

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, seconds: float) -> None:
        if not (dist.is_available() and dist.is_gloo_available()):
            raise Unavailable("this torch was built without gloo")
        if images.device.type != "cpu":
            raise Unavailable(
                "two processes are measured on two cores of a CPU; here they would share one "
                f"{images.device.type} device"
            )
        if cores() < PROCESSES:
            raise Unavailable(f"two processes need two cores; this one may use {cores()}")
        self.seconds = seconds
        self._folder = tempfile.TemporaryDirectory(prefix="vitrail-gloo-")
        context = torch.multiprocessing.get_context("spawn")
        network = copy.deepcopy(network)  # what is sent to a process moves to shared memory
        halves = zip(images.chunk(PROCESSES), labels.chunk(PROCESSES), strict=True)
        self.workers, self._ends = [], []
        for rank, half in enumerate(halves):
            ours, theirs = context.Pipe()
            store = Path(self._folder.name) / "store"
            worker = context.Process(
                target=_work, args=(rank, theirs, store, network, half, seconds), daemon=True
            )
            worker.start()
            theirs.close()
            self.workers.append(worker)
            self._ends.append(ours)

    def step(self, _: int) -> None:
        """Forward and backward of the whole batch; returns when both workers are done."""
        self._ask("step")

    def gradients(self) -> list[Tensor]:
        """What every worker holds after a step, in the order of the parameters."""
        return [torch.from_numpy(array) for array in self._ask("gradients")]

    def peak_mib(self) -> float:
        """Peak memory of a step in the first worker."""
        return float(self._ask("peak"))

    def _ask(self, order: str) -> Any:
        """Give both workers an order and wait for both; the answer of the first."""
        answers = []
        try:
            for end in self._ends:
                end.send(order)
            for end in self._ends:
                if not end.poll(self.seconds):
                    raise Unavailable(
                        f"two processes over gloo gave no answer within {self.seconds:g} seconds"
                    )
                answers.append(end.recv())
        except (EOFError, OSError) as error:
            raise Unavailable("one of the two processes over gloo ended early") from error
        if failed := [answer for answer in answers if isinstance(answer, Exception)]:
            said = str(failed[0]).splitlines()[0][:200]
            raise Unavailable(f"two processes over gloo failed: {said}")
        return answers[0]

    def __enter__(self) -> TwoProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.kill()  # they hold nothing that has to be put in order
            worker.join()
        for end in self._ends:
            end.close()
        self._folder.cleanup()


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _work(
    rank: int,
    orders: Connection,
    store: Path,
    network: nn.Module,
    half: tuple[Tensor, Tensor],
    seconds: float,
) -> None:
    """One worker: follow orders until the other end of the pipe is closed."""
    torch.set_num_threads(1)
    # Otherwise gloo asks what this machine is called in the network, which it may not be.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES,
            timeout=timedelta(seconds=seconds),
        )  # fmt: skip
        together = nn.parallel.DistributedDataParallel(network)
    except Exception as error:  # gloo has no class of its own; the parent tells it
        orders.recv()
        orders.send(RuntimeError(str(error)))
        return
    images, labels = half

    def step() -> list[Tensor]:
        F.cross_entropy(together(images), labels).backward()
        gradients = [parameter.grad for parameter in trainable(network)]
        network.zero_grad(set_to_none=True)
        return [gradient for gradient in gradients if gradient is not None]

    answers = {
        "step": lambda: step() and None,
        "gradients": lambda: [gradient.numpy() for gradient in step()],
        "peak": lambda: peak_mib(step, CPU),
    }
    while True:
        try:
            order = orders.recv()
        except EOFError:
            return
        orders.send(answers[order]())
