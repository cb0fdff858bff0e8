"""Optimisers and learning-rate schedules of an arm's settings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from vitrail.muon import Muon
from vitrail.settings import Settings

MOMENTUM = 0.9  # of SGD


def schedule(step: int, steps: int, warmup: float, shape: str = "cosine") -> float:
    """Share of the peak learning rate: linear warm-up, then down to zero.

    The way down is half a cosine, or a straight line for `shape="linear"`.
    """
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return (step + 1) / ramp
    passed = (step - ramp) / max(1, steps - ramp)
    return 1 - passed if shape == "linear" else 0.5 * (1 + math.cos(math.pi * passed))


def make_optimizers(network: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """The optimisers of a network, each parameter in one of them.

    Every group keeps its peak learning rate under `peak`. Weight decay acts on the weights
    of linear layers and convolutions only: not on vectors, and not on what a ViT names in
    `no_weight_decay`, its class token and learned positions (as in timm). Lion (Chen et al.
    2023) is timm's, with its momenta 0.9 and 0.99. With `optimizer="muon"` the matrices of the
    blocks go to Muon at `matrix_learning_rate`, the rest (embeddings, norms, biases, head) to
    AdamW.
    """
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    found: list[torch.optim.Optimizer] = []
    if settings["optimizer"] == "muon":
        names = [name for name, p in trained.items() if name.startswith("blocks.") and p.ndim == 2]
        matrices = {name: trained.pop(name) for name in names}
        # Known by name: with heads of their own width its shape does not tell.
        stacked = [p for name, p in matrices.items() if name.endswith("attn.qkv.weight")]
        single = [p for name, p in matrices.items() if not name.endswith("attn.qkv.weight")]
        halves: list[dict[str, Any]] = [{"params": stacked, "parts": 3}, {"params": single}]
        found.append(Muon(halves, lr=settings["matrix_learning_rate"], weight_decay=decay))
    groups = _by_decay(network, trained, decay)
    if settings["optimizer"] == "sgd":
        found.append(torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True))
    elif settings["optimizer"] == "lion":
        from timm.optim import Lion

        found.append(Lion(groups, lr=rate))
    else:
        found.append(torch.optim.AdamW(groups, lr=rate, fused=True))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def _by_decay(
    network: nn.Module, trained: dict[str, nn.Parameter], decay: float
) -> list[dict[str, Any]]:
    """Two groups: the parameters that decay, and those that do not."""
    named: Any = getattr(network, "no_weight_decay", set)
    spared = named()
    decays = {name for name, p in trained.items() if p.ndim > 1 and name not in spared}
    return [
        {"params": [p for name, p in trained.items() if name in decays], "weight_decay": decay},
        {"params": [p for name, p in trained.items() if name not in decays], "weight_decay": 0.0},
    ]


def set_rates(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Bring every group to this share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak"]
