"""Incremental training: a cheaper network first, made into the whole one half-way.

`depth`: half of the blocks, which are then stacked on a copy of themselves (progressive
stacking, Gong et al. 2019). `patch_size`: patches of twice the size, a quarter of the tokens,
whose embedding and positions are then resampled (Beyer et al. 2023, FlexiViT, by timm). The
schedule goes over all steps once, and what the optimisers know of a parameter that stays
(running means of its gradient) stays with it.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import nn

from vitrail.model import PatchEmbed, VisionTransformer
from vitrail.networks import fuses
from vitrail.optimizers import make_optimizers
from vitrail.settings import Settings

Optimizers = list[torch.optim.Optimizer]


def first_stage(settings: Settings) -> Settings:
    """The settings of the network that the first half of the steps trains."""
    if settings["grow"] == "depth":
        return {**settings, "depth": settings["depth"] // 2}
    if settings["grow"] == "patch_size":
        return {**settings, "patch_size": 2 * settings["patch_size"]}
    return settings


class Growth:
    """When the network of a run grows, and into what; never, without `grow`."""

    def __init__(self, settings: Settings, steps: int) -> None:
        self.settings = settings
        self.after = steps // 2 if settings["grow"] != "none" else -1
        if settings["grow"] == "patch_size":
            import timm.layers  # noqa: F401  a second that is none of the training's

    def due(self, done: int) -> bool:
        """Whether it is time, after so many steps."""
        return done == self.after

    def past(self, done: int) -> bool:
        """Whether the network that has taken so many steps has grown before the last of them."""
        return 0 <= self.after < done

    def grow(self, network: Any, optimizers: Optimizers) -> Optimizers:
        """Make the whole network of it, in place; the optimisers that train it from now on."""
        if self.settings["grow"] == "depth":
            stack(network)
        else:
            refine(network, self.settings["patch_size"])
        for block in network.blocks:
            block.attn.fused_attn = fuses(self.settings)
        return carried(optimizers, make_optimizers(network, self.settings))


def stack(network: VisionTransformer) -> None:
    """Twice as many blocks: those that are there, and a copy of each above them."""
    network.blocks.extend(copy.deepcopy(list(network.blocks)))


@torch.no_grad()
def refine(network: VisionTransformer, patch_size: int) -> None:
    """Smaller patches, with the embedding and the learned positions resampled."""
    from timm.layers import resample_abs_pos_embed, resample_patch_embed

    coarse = cast(PatchEmbed, network.patch_embed)
    kernel = coarse.proj.weight
    fine = PatchEmbed(coarse.img_size, patch_size, coarse.in_chans, len(kernel)).to(kernel.device)
    maps = kernel.view(-1, coarse.in_chans, *coarse.patch_size)
    fine.proj.weight.copy_(resample_patch_embed(maps, list(fine.patch_size)).flatten(1))
    fine.proj.bias = coarse.proj.bias  # the same parameter, which the optimisers know
    network.patch_embed = fine
    if network.pos_embed is not None:
        network.pos_embed = nn.Parameter(
            resample_abs_pos_embed(
                network.pos_embed,
                list(fine.grid_size),
                list(coarse.grid_size),
                network.num_prefix_tokens,
            )
        )


def carried(old: Optimizers, new: Optimizers) -> Optimizers:
    """The new optimisers with what the old ones know of the parameters that both train."""
    for before, after in zip(old, new, strict=True):
        for group in after.param_groups:
            for parameter in group["params"]:
                if parameter in before.state:
                    after.state[parameter] = before.state[parameter]
    return new
