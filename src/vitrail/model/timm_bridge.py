"""The same model in timm's words: weights go over, logits stay equal."""

from __future__ import annotations

from typing import Any

from torch import nn

from vitrail.model.block import NORM_EPS, Block
from vitrail.model.vit import VisionTransformer


def from_timm(model: nn.Module) -> VisionTransformer:
    """Our `VisionTransformer` with the architecture and weights of timm's.

    Takes a timm `VisionTransformer` of any size with learned positions and class-token
    or average pooling.

    Raises:
        TypeError: when the model is not such a one.
        ValueError: when it has a part that ours does not have (its name is given).
    """
    import timm.models.vision_transformer as timm_vit

    if not isinstance(model, timm_vit.VisionTransformer):
        raise TypeError(f"from_timm takes timm's VisionTransformer, not {type(model).__name__}")
    arguments = _arguments(model)
    ours = VisionTransformer(**arguments)
    state = model.state_dict()
    kernel = state["patch_embed.proj.weight"]  # (D, C, P, P): a convolution's kernel
    state["patch_embed.proj.weight"] = kernel.flatten(1)
    unknown = sorted(set(state) ^ set(ours.state_dict()))
    if unknown:
        raise ValueError(f"from_timm: these weights exist in one of the two only: {unknown}")
    ours.load_state_dict(state)
    return ours.train(model.training)


def _arguments(model: Any) -> dict[str, Any]:
    """The constructor arguments of ours that describe a timm model."""
    _refuse_what_ours_lacks(model)
    block = model.blocks[0]
    return {
        "img_size": tuple(model.patch_embed.img_size),
        "patch_size": tuple(model.patch_embed.patch_size),
        "in_chans": model.patch_embed.proj.in_channels,
        "num_classes": model.num_classes,
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / model.embed_dim,
        "qkv_bias": block.attn.qkv.bias is not None,
        "class_token": model.cls_token is not None,
        "global_pool": model.global_pool,
        "pos_embed": "none" if model.pos_embed is None else "learned",
    }


def _refuse_what_ours_lacks(model: Any) -> None:
    """Name the first part of a timm model that would compute something else in ours.

    Some leave no trace in the names and shapes of the weights, so loading would not tell.
    """
    if not len(model.blocks):
        raise ValueError("from_timm: a model without blocks (depth 0) is not supported")
    block = model.blocks[0]
    if type(block).__name__ != Block.__name__:
        raise ValueError(f"from_timm: blocks of type {type(block).__name__} are not supported")
    if model.global_pool not in ("token", "avg"):
        raise ValueError(f"from_timm: global_pool {model.global_pool!r} is not supported")
    if model.global_pool == "avg" and getattr(model, "pool_include_prefix", False):
        raise ValueError("from_timm: pool_include_prefix is not supported")
    if getattr(model, "no_embed_class", False) and model.cls_token is not None:
        raise ValueError("from_timm: no_embed_class is not supported")
    if not (isinstance(block.mlp.act, nn.GELU) and block.mlp.act.approximate == "none"):
        raise ValueError(f"from_timm: the activation {block.mlp.act} is not supported")
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) and module.eps != NORM_EPS:
            raise ValueError(f"from_timm: a layer norm with eps {module.eps} is not supported")
