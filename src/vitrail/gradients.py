"""A step of training: the gradient of one batch, by whatever loss an arm trains with, and its use.

Nothing here waits for the device: no value is read back, so that on a GPU the CPU is always some
steps ahead. Importance sampling (`vitrail.selection`) reads scores before a step, and waits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitrail.device import autocast
from vitrail.distillation import distilled, taught
from vitrail.sam import climbed
from vitrail.selection import mean_loss
from vitrail.settings import Settings

Batch = tuple[Tensor, Tensor, Tensor | None]  # images, labels, weights or None for all alike


def gradient(
    network: nn.Module,
    batch: Batch,
    settings: Settings,
    device: torch.device,
    precision: str,
    teacher: nn.Module | None = None,
) -> Tensor:
    """The loss of a batch, whose gradients are left in the network."""
    images, labels, weights = batch
    with autocast(device, precision):
        logits = network(images)
        loss = mean_loss(logits, labels, weights, settings["label_smoothing"])
    if teacher is not None:
        loss = distilled(loss, logits, taught(teacher, images, precision))
    network.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach()


def step(
    network: nn.Module,
    batch: Batch,
    optimizers: Sequence[torch.optim.Optimizer],
    settings: Settings,
    device: torch.device,
    precision: str,
    teacher: nn.Module | None = None,
) -> Tensor:
    """Move all weights once; the loss of the batch before that, on the device."""
    loss = gradient(network, batch, settings, device, precision, teacher)
    if settings["sam_radius"]:
        with climbed(network, settings["sam_radius"]):
            gradient(network, batch, settings, device, precision, teacher)
    for optimizer in optimizers:
        optimizer.step()
    return loss
