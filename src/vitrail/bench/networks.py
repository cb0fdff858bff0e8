"""The same ViT as four libraries write it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vitrail.settings import IMAGE_SIZE, NUM_CLASSES, Settings

if TYPE_CHECKING:
    from torch import nn


class Missing(Exception):
    """A library that is not installed; its message is the reason that the table gives."""


def ours(settings: Settings) -> nn.Module:
    """The ViT of this project, as the study builds it."""
    from vitrail.networks import build

    return build(settings)


def timms(settings: Settings) -> nn.Module:
    """timm's `VisionTransformer` with these sizes."""
    from timm.models.vision_transformer import VisionTransformer

    network: nn.Module = VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=settings["patch_size"],
        in_chans=1,
        num_classes=NUM_CLASSES,
        embed_dim=settings["embed_dim"],
        depth=settings["depth"],
        num_heads=settings["num_heads"],
        mlp_ratio=settings["mlp_ratio"],
    )
    return network


def vit_pytorchs(settings: Settings) -> nn.Module:
    """vit-pytorch's `ViT` with these sizes.

    It has two norms around its patch embedding that the others have not, and no biases of
    queries, keys and values: 2 (P^2 + D) parameters more and 3 D for each block less.

    Raises:
        Missing: vit-pytorch is not installed.
    """
    try:
        from vit_pytorch import ViT
    except ImportError as error:
        raise Missing("vit-pytorch is not installed") from error
    width = settings["embed_dim"]
    network: nn.Module = ViT(
        image_size=IMAGE_SIZE,
        patch_size=settings["patch_size"],
        channels=1,
        num_classes=NUM_CLASSES,
        dim=width,
        depth=settings["depth"],
        heads=settings["num_heads"],
        dim_head=width // settings["num_heads"],
        mlp_dim=round(width * settings["mlp_ratio"]),
    )
    return network


def transformers(settings: Settings) -> nn.Module:
    """Hugging Face's `ViTForImageClassification` with these sizes; no dropout, as the others.

    Raises:
        Missing: transformers is not installed.
    """
    try:
        from transformers import ViTConfig, ViTForImageClassification
    except ImportError as error:
        raise Missing("transformers is not installed") from error
    width = settings["embed_dim"]
    config = ViTConfig(
        image_size=IMAGE_SIZE,
        patch_size=settings["patch_size"],
        num_channels=1,
        hidden_size=width,
        num_hidden_layers=settings["depth"],
        num_attention_heads=settings["num_heads"],
        intermediate_size=round(width * settings["mlp_ratio"]),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = NUM_CLASSES
    network: nn.Module = ViTForImageClassification(config)
    return network


BUILDERS: dict[str, Callable[[Settings], Any]] = {
    "vitrail": ours,
    "timm": timms,
    "vit-pytorch": vit_pytorchs,
    "transformers": transformers,
}


@functools.cache
def _quiet() -> None:
    """transformers warns of what does not concern a model without a tokenizer."""
    try:
        from transformers.utils import logging
    except ImportError:
        return
    logging.set_verbosity_error()


def made(library: str, settings: Settings) -> nn.Module:
    """The network of a library, from seed 0.

    Raises:
        Missing: the library is not installed.
    """
    import torch

    if library == "transformers":
        _quiet()
    torch.manual_seed(0)
    network: nn.Module = BUILDERS[library](settings)
    return network


def cost(library: str, settings: Settings) -> tuple[int, int]:
    """(parameters, MACs of one image forward) of the network of a library.

    Raises:
        Missing: the library is not installed.
    """
    import torch

    from vitrail.efficiency import count_macs, count_parameters

    network = made(library, settings)
    image = torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE)
    return count_parameters(network), count_macs(network, image)
