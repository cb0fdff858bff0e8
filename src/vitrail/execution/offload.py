"""Activations that wait for the backward pass in another memory than the device's.

ZeRO-Offload (Ren et al. 2021) does so with the state of the optimiser; here it is what
autograd saves. A GPU's second memory is the CPU's; a CPU's is the disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from vitrail.execution.ways import Unavailable, loss_gradients


def offloaded(
    network: nn.Module, device: torch.device, folder: Path
) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """Gradients with the activations elsewhere between forward and backward."""

    def gradients(images: Tensor, labels: Tensor) -> list[Tensor]:
        hooks: AbstractContextManager[None]
        if device.type == "cpu":
            hooks = OnDisk(folder, network)
        else:
            hooks = save_on_cpu(pin_memory=device.type == "cuda")
        return loss_gradients(network, images, labels, hooks)

    return gradients


class OnDisk(saved_tensors_hooks):
    """Each tensor that autograd saves is written to a file of its own and read back once.

    Parameters stay where they are: they are in memory anyway. The layout in memory is kept
    too, so that the backward pass calls the same kernels on the same numbers.
    """

    def __init__(self, folder: Path, network: nn.Module) -> None:
        kept = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        numbers = itertools.count()

        def pack(tensor: Tensor) -> Tensor | _Stored:
            if tensor.untyped_storage().data_ptr() in kept:
                return tensor
            return _Stored(tensor, folder / f"{next(numbers)}.bin")

        def unpack(saved: Tensor | _Stored) -> Tensor:
            return saved if isinstance(saved, Tensor) else saved.read()

        super().__init__(pack, unpack)


class _Stored:
    """A tensor in a file, which goes when autograd lets go of this."""

    def __init__(self, tensor: Tensor, path: Path) -> None:
        self.path = path
        self.shape, self.dtype = tensor.shape, tensor.dtype
        # The axes from the largest stride to the smallest: their order is the layout.
        self.order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
        try:
            with path.open("wb") as stream:
                stream.write(_bytes(tensor.detach().permute(self.order).contiguous()))
        except OSError as error:
            raise Unavailable(
                f"activations could not be written to {path.parent}: {error.strerror or error}"
            ) from error

    def read(self) -> Tensor:
        """The tensor again, in memory that is freed with it."""
        found = torch.empty([self.shape[axis] for axis in self.order], dtype=self.dtype)
        with self.path.open("rb") as stream:
            stream.readinto(_bytes(found))
        return found.permute([self.order.index(axis) for axis in range(found.dim())])

    def __del__(self) -> None:
        self.path.unlink(missing_ok=True)


def _bytes(tensor: Tensor) -> Any:
    """The memory of a contiguous tensor, as a NumPy array of bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
