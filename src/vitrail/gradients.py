"""The gradient of one batch, by whatever loss an arm trains with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.device import autocast
from vitrail.distillation import distilled, taught
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
