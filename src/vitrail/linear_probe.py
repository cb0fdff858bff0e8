"""Linear probe: the trunk stays as it is, and only the head is trained on its features.

What a pretrained network knows already, as opposed to what it learns from the new images
(Alain and Bengio 2016, arXiv 1610.01644).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.device import autocast
from vitrail.networks import head_of


def freeze_trunk(network: nn.Module) -> nn.Module:
    """Keep gradients from all but the head, for good in evaluation mode; gives the head.

    In evaluation mode batch norms neither use nor gather the statistics of a batch, and
    nothing is dropped.
    """
    head = head_of(network)
    network.requires_grad_(False).eval()
    head.requires_grad_(True)
    return head


@torch.no_grad()
def features(network: nn.Module, images: Tensor, precision: str, batch_size: int) -> Tensor:
    """What the head reads of each image, (N, D) float32, computed `batch_size` at a time."""
    seen: list[Tensor] = []
    hook = head_of(network).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].float())
    )
    try:
        with autocast(images.device, precision):
            for part in images.split(batch_size):
                network(part)
    finally:
        hook.remove()
    return torch.cat(seen)
