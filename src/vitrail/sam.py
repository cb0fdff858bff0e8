"""Sharpness-aware minimisation: the gradient is taken a little way up the hill.

Foret et al. 2021: the step of any optimiser, with the gradient at w + rho g / |g| in place of
the one at w, where g is the gradient of the same batch. Two passes per step. What a network
draws in a pass (dropped patches, the statistics of batch norms) it draws in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

EPSILON = 1e-12  # a gradient of zero has no direction


@contextmanager
def climbed(network: nn.Module, radius: float) -> Iterator[None]:
    """The network with its weights `radius` further along their gradients, all together.

    Afterwards the weights are what they were, bit by bit; the gradients are left as the
    block made them.
    """
    moved = [p for p in network.parameters() if p.grad is not None]
    before = [p.detach().clone() for p in moved]
    with torch.no_grad():
        length = torch.stack([p.grad.norm() for p in moved if p.grad is not None]).norm()
        for parameter in moved:
            parameter.add_(parameter.grad * (radius / (length + EPSILON)))
    yield
    with torch.no_grad():
        for parameter, weights in zip(moved, before, strict=True):
            parameter.copy_(weights)
