"""Q7: train on a random part of the patches, which makes the sequence shorter."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchDropout(nn.Module):
    """Drop a share of the patch tokens in training: (B, prefix + N, D) -> (B, prefix + n, D).

    Liu et al. 2022 (arXiv 2208.07220); n = N (1 - prob), rounded down as in timm, at least
    one. Each image keeps patches of its own, in reading order, and its prefix tokens. In
    evaluation nothing is dropped. Comes after the positions, so that a patch keeps its own.

    Args:
        prob: share of the patches to drop, from 0 up to but not including 1.
        num_prefix_tokens: tokens before the patches, which are kept.

    Raises:
        ValueError: when `prob` is outside that range.
    """

    generator: torch.Generator | None = None  # on the CPU; None takes torch's global one

    def __init__(self, prob: float = 0.5, num_prefix_tokens: int = 1) -> None:
        super().__init__()
        if not 0 <= prob < 1:
            raise ValueError(f"patch_drop_rate must be at least 0 and below 1, not {prob}")
        self.prob = prob
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.prob:
            return x
        prefix, patches = x[:, : self.num_prefix_tokens], x[:, self.num_prefix_tokens :]
        batch, count, _ = patches.shape
        keep = max(1, int(count * (1 - self.prob)))
        # Drawn on the CPU, so that a seed means the same patches on every device.
        order = torch.rand(batch, count, generator=self.generator).argsort(dim=1)
        kept = order[:, :keep].sort(dim=1).values
        kept = kept.to(x.device, non_blocking=x.is_cuda)  # CUDA has its copy at once, and goes on
        images = torch.arange(batch, device=x.device)[:, None]
        return torch.cat([prefix, patches[images, kept]], dim=1)


def seed_patches(network: nn.Module, seed: int) -> None:
    """Let the dropped patches of a network depend on this seed and on nothing else."""
    for module in network.modules():
        if isinstance(module, PatchDropout):
            module.generator = torch.Generator().manual_seed(seed)


def patch_generators(network: nn.Module) -> list[torch.Generator]:
    """The generators that `seed_patches` gave to a network, in the order of its modules."""
    return [
        module.generator
        for module in network.modules()
        if isinstance(module, PatchDropout) and module.generator is not None
    ]
