"""The same model in timm's words: weights go over, logits stay equal.

Both ways hold what the two have in common. Whatever else a model has is refused by
name, so that no model goes over that would compute something else there.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from vitrail.model.attention import MultiHeadSelfAttention
from vitrail.model.block import NORM_EPS, Block
from vitrail.model.patch_dropout import PatchDropout
from vitrail.model.patch_embedding import PatchEmbed
from vitrail.model.vit import VisionTransformer

KERNEL = "patch_embed.proj.weight"  # (D, C, P, P) in timm, (D, C*P*P) in ours


def from_timm(model: nn.Module) -> VisionTransformer:
    """Our `VisionTransformer` with the architecture and weights of timm's.

    Takes a timm `VisionTransformer` of any size with learned positions or none, and
    class-token or average pooling.

    Raises:
        TypeError: when the model is not such a one.
        ValueError: when it has a part that ours does not have (its name is given).
    """
    import timm.models.vision_transformer as timm_vit

    if not isinstance(model, timm_vit.VisionTransformer):
        raise TypeError(f"from_timm takes timm's VisionTransformer, not {type(model).__name__}")
    _refuse_what_ours_lacks(model)
    ours = VisionTransformer(**arguments_of(model))
    state = model.state_dict()
    state[KERNEL] = state[KERNEL].flatten(1)
    return _loaded(ours, state, model)


def arguments_of(model: Any) -> dict[str, Any]:
    """The arguments of our `VisionTransformer` that give the sizes of timm's plain one."""
    arguments = _arguments(model)
    return arguments | {
        "in_chans": model.patch_embed.proj.weight.shape[1],
        "mlp_ratio": _hidden_width(model) / arguments["embed_dim"],
        "pos_embed": "none" if model.pos_embed is None else "learned",
    }


def to_timm(model: nn.Module) -> Any:
    """timm's `VisionTransformer` with the architecture and weights of ours.

    The inverse of `from_timm`: what it gives, `from_timm` takes back. Fixed sinusoidal
    positions are refused: timm trains its `pos_embed`, so they would become learned ones.

    Raises:
        TypeError: when the model is not our `VisionTransformer`.
        ValueError: when it has a part that does not go over (its name is given).
    """
    import timm.models.vision_transformer as timm_vit

    if not isinstance(model, VisionTransformer):
        raise TypeError(f"to_timm takes vitrail's VisionTransformer, not {type(model).__name__}")
    _refuse_what_timm_lacks(model)
    arguments = _arguments(model)
    arguments |= {
        "in_chans": model.patch_embed.in_chans,
        # timm rounds the hidden width down; half a unit more keeps it whole.
        "mlp_ratio": (_hidden_width(model) + 0.5) / arguments["embed_dim"],
        "pos_embed": "none" if model.pos_embed is None else "learn",
        "norm_layer": functools.partial(nn.LayerNorm, eps=NORM_EPS),
    }
    theirs = timm_vit.VisionTransformer(**arguments)
    state = model.state_dict()
    state[KERNEL] = state[KERNEL].view(theirs.patch_embed.proj.weight.shape)
    return _loaded(theirs, state, model)


def _arguments(model: Any) -> dict[str, Any]:
    """The constructor arguments that both have, with the same name and meaning."""
    block = model.blocks[0]
    return {
        "img_size": tuple(model.patch_embed.img_size),
        "patch_size": tuple(model.patch_embed.patch_size),
        "num_classes": model.head.out_features if isinstance(model.head, nn.Linear) else 0,
        "embed_dim": block.attn.qkv.in_features,
        "depth": len(model.blocks),
        "num_heads": block.attn.num_heads,
        "qkv_bias": block.attn.qkv.bias is not None,
        "class_token": model.cls_token is not None,
        "global_pool": model.global_pool,
    }


def _hidden_width(model: Any) -> int:
    return model.blocks[0].mlp.fc1.out_features


def _loaded(new: Any, state: dict[str, Any], old: nn.Module) -> Any:
    """`new` with the weights `state`, in the mode (training or evaluation) of `old`."""
    unknown = sorted(set(state) ^ set(new.state_dict()))
    if unknown:
        raise ValueError(f"these weights exist in one of the two models only: {unknown}")
    new.load_state_dict(state)
    return new.train(old.training)


def _refuse_what_timm_lacks(model: VisionTransformer) -> None:
    """Name the first part of ours that timm's model has not, or not in the same sense."""
    if not len(model.blocks):
        raise ValueError("to_timm: a model without blocks (depth 0) is not supported")
    block: Any = model.blocks[0]
    if type(block.attn) is not MultiHeadSelfAttention:
        raise ValueError(f"to_timm: {type(block.attn).__name__} is not supported")
    if type(model.patch_embed) is not PatchEmbed:
        raise ValueError(f"to_timm: {type(model.patch_embed).__name__} is not supported")
    if model.pos_drop.p:
        raise ValueError("to_timm: drop_rate is not supported")
    if isinstance(model.patch_drop, PatchDropout):
        raise ValueError("to_timm: patch_drop_rate is not supported")
    if block.norm != "pre":
        raise ValueError(f"to_timm: norm {block.norm!r} is not supported")
    if not isinstance(block.mlp.act, nn.GELU):
        raise ValueError(f"to_timm: the activation {block.mlp.act} is not supported")
    if model.global_pool not in ("token", "avg"):
        raise ValueError(f"to_timm: global_pool {model.global_pool!r} is not supported")
    if model.pos_embed is not None and not isinstance(model.pos_embed, nn.Parameter):
        raise ValueError("to_timm: sinusoidal pos_embed is not supported")
    if block.attn.num_heads * block.attn.head_dim != block.attn.qkv.in_features:
        raise ValueError(f"to_timm: head_dim {block.attn.head_dim} is not supported")


def _refuse_what_ours_lacks(model: Any) -> None:
    """Name the first part of a timm model that would compute something else in ours.

    Some leave no trace in the names and shapes of the weights, so loading would not tell.
    """
    if not len(model.blocks):
        raise ValueError("from_timm: a model without blocks (depth 0) is not supported")
    for block in model.blocks:
        if type(block).__name__ != Block.__name__:
            raise ValueError(f"from_timm: blocks of type {type(block).__name__} are not supported")
        for part, kind in ((block.attn, "Attention"), (block.mlp, "Mlp")):
            if type(part).__name__ != kind:
                raise ValueError(f"from_timm: the layer {type(part).__name__} is not supported")
        act = block.mlp.act
        if not (isinstance(act, nn.GELU) and act.approximate == "none"):
            raise ValueError(f"from_timm: the activation {act} is not supported")
    if model.global_pool not in ("token", "avg"):
        raise ValueError(f"from_timm: global_pool {model.global_pool!r} is not supported")
    if model.global_pool == "avg" and getattr(model, "pool_include_prefix", False):
        raise ValueError("from_timm: pool_include_prefix is not supported")
    if getattr(model, "no_embed_class", False) and model.cls_token is not None:
        raise ValueError("from_timm: no_embed_class is not supported")
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) and module.eps != NORM_EPS:
            raise ValueError(f"from_timm: a layer norm with eps {module.eps} is not supported")
        if isinstance(module, nn.Dropout) and module.p > 0:
            raise ValueError("from_timm: dropout is not supported")
        if type(module).__name__ in ("DropPath", "PatchDropout"):
            raise ValueError(f"from_timm: {type(module).__name__} is not supported")
