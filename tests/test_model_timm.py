"""The whole model and timm's: weights go over in both directions, logits stay equal."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import torch
from timm.layers import GluMlp
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from model_tools import assert_same, close, random_images, scatter, small
from vitrail.model import Block, VisionTransformer, from_timm, to_timm

TINY: dict[str, Any] = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
TINY |= {"embed_dim": 32, "depth": 1, "num_heads": 2}


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def images_for(model: VisionTransformer, count: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(count, model.patch_embed.in_chans, *model.patch_embed.img_size)


# --- from timm to ours


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_small_patch16_224", {}),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "num_classes": 7}),
        ("vit_small_patch32_224", {"class_token": False, "global_pool": "avg"}),
        ("vit_tiny_patch16_224", {"img_size": 28, "patch_size": 4, "in_chans": 1}),
        ("vit_tiny_patch16_224", {"img_size": (28, 56), "patch_size": 7, "pos_embed": "none"}),
        ("vit_tiny_patch16_224", {"img_size": 28, "patch_size": 7, "qkv_bias": False}),
        ("vit_tiny_patch16_224", {"img_size": 28, "patch_size": 14, "mlp_ratio": 2.6}),
    ],
)
def test_logits_of_timms_model(name: str, arguments: dict[str, object]) -> None:
    """And back again: the second model of timm's has every weight of the first."""
    torch.manual_seed(0)
    theirs = scatter(timm.create_model(name, **arguments), spread=0.02).eval()
    ours = from_timm(theirs)
    assert not ours.training
    images = images_for(ours)
    with torch.no_grad():
        logits = theirs(images)
        close(ours(images), logits)
        again = to_timm(ours)
        assert torch.equal(again(images), logits)
    assert not again.training
    assert type(again) is type(theirs)
    before, after = theirs.state_dict(), again.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


# --- from ours to timm


@pytest.mark.parametrize(
    "changes",
    [
        {"img_size": 224, "patch_size": 16, "in_chans": 3, "num_classes": 1000}
        | {"embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4},  # ViT-S/16
        {},
        {"global_pool": "avg", "class_token": False, "mlp_ratio": 2.6, "depth": 3},
        {"global_pool": "avg", "img_size": (28, 56), "patch_size": (7, 14), "qkv_bias": False},
        {"pos_embed": "none", "num_classes": 0, "num_heads": 2, "head_dim": 16},
    ],
    ids=str,
)
def test_logits_stay_equal_there_and_back(changes: dict[str, Any]) -> None:
    ours = small(**changes)
    theirs = to_timm(ours)
    assert isinstance(theirs, TimmVisionTransformer)
    again = from_timm(theirs)
    images = images_for(ours)
    with torch.no_grad():
        close(theirs(images), ours(images))
        assert torch.equal(again(images), ours(images))
    before, after = ours.state_dict(), again.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    "changes", [{}, {"global_pool": "avg"}, {"global_pool": "avg", "class_token": False}], ids=str
)
def test_gradients_of_timms_model(changes: dict[str, object]) -> None:
    """Of the images and of every weight."""
    ours = small(**changes)
    theirs = to_timm(ours)
    other = dict(theirs.named_parameters())
    pairs = [(parameter, other[name]) for name, parameter in ours.named_parameters()]
    assert len(pairs) == len(other)
    assert_same(ours, theirs, random_images(), pairs, atol=1e-4)


def test_the_mode_goes_over_and_the_weights_are_copies() -> None:
    for training in (True, False):
        ours = small().train(training)
        theirs = to_timm(ours)
        assert theirs.training == from_timm(theirs).training == training
    with torch.no_grad():
        theirs.head.bias.add_(1)
    assert (theirs.head.bias - ours.head.bias).abs().min() > 0.5


@pytest.mark.parametrize(("width", "hidden"), [(196, 198), (192, 499), (64, 129), (98, 27)])
def test_hidden_width_is_kept(width: int, hidden: int) -> None:
    """The ratio of two whole numbers gives the second one back, whichever way it goes."""
    theirs = TimmVisionTransformer(
        img_size=28, patch_size=14, in_chans=1, num_classes=3, embed_dim=width, depth=1,
        num_heads=1, mlp_ratio=hidden / width + 1e-9,
    )  # fmt: skip
    assert theirs.blocks[0].mlp.fc1.out_features == hidden
    ours = from_timm(theirs)
    assert ours.blocks[0].mlp.fc1.out_features == hidden
    assert to_timm(ours).blocks[0].mlp.fc1.out_features == hidden


# --- What does not go over


NOT_OURS: dict[str, dict[str, Any]] = {
    "ReLU": {"act_layer": nn.ReLU},
    "q_norm": {"qk_norm": True},
    "eps": {"norm_layer": functools.partial(nn.LayerNorm, eps=1e-3)},
    "no_embed_class": {"no_embed_class": True},
    "prefix": {"global_pool": "avg", "pool_include_prefix": True},
    "reg_token": {"reg_tokens": 2},
    "ls1": {"init_values": 0.1},
    "norm_pre": {"pre_norm": True},
    "map": {"global_pool": "map"},
    "bias": {"proj_bias": False},
    "fc_norm": {"global_pool": "token", "fc_norm": True},
    "GluMlp": {"mlp_layer": GluMlp},
    "dropout": {"drop_rate": 0.1},
    "PatchDropout": {"patch_drop_rate": 0.1},
    "DropPath": {"depth": 2, "drop_path_rate": 0.1},
    "depth": {"depth": 0},
}


@pytest.mark.parametrize("part", NOT_OURS)
def test_a_part_that_ours_lacks_is_refused_by_name(part: str) -> None:
    """Never a model that runs and gives other logits."""
    theirs = TimmVisionTransformer(**{**TINY, **NOT_OURS[part]})
    with pytest.raises(ValueError, match=f"(?i){part}"):
        from_timm(theirs)


@pytest.mark.parametrize("block", [0, -1])
def test_another_part_in_any_block_is_refused_by_name(block: int) -> None:
    theirs = TimmVisionTransformer(**{**TINY, "depth": 2})
    theirs.blocks[block].mlp.act = nn.SiLU()
    with pytest.raises(ValueError, match="SiLU"):
        from_timm(theirs)

    class OtherAttention(type(theirs.blocks[0].attn)):  # type: ignore[misc]
        pass

    theirs.blocks[block].attn.__class__ = OtherAttention
    with pytest.raises(ValueError, match="OtherAttention"):
        from_timm(theirs)


NOT_TIMMS: dict[str, dict[str, Any]] = {
    "norm 'post'": {"norm": "post"},
    "ReLU": {"act": "relu"},
    "sinusoidal": {"pos_embed": "sinusoidal"},
    "sinusoidal pos_embed": {"pos_embed": "sinusoidal_2d"},
    "global_pool 'seq'": {"global_pool": "seq"},
    "head_dim 12": {"head_dim": 12},
    "depth": {"depth": 0},
}


@pytest.mark.parametrize("part", NOT_TIMMS)
def test_a_part_that_timm_lacks_is_refused_by_name(part: str) -> None:
    with pytest.raises(ValueError, match=f"to_timm: .*{part}"):
        to_timm(small(**NOT_TIMMS[part]))


@pytest.mark.parametrize("model", [nn.Linear(2, 2), Block(8, 2)])
def test_another_model_is_refused_by_name(model: nn.Module) -> None:
    with pytest.raises(TypeError, match=type(model).__name__):
        from_timm(model)
    with pytest.raises(TypeError, match=type(model).__name__):
        to_timm(model)


def test_a_model_is_not_taken_for_the_other_kind() -> None:
    with pytest.raises(TypeError, match="timm's VisionTransformer"):
        from_timm(small())
    with pytest.raises(TypeError, match="vitrail's VisionTransformer"):
        to_timm(TimmVisionTransformer(**TINY))


def test_distilled_model_of_timm_is_refused() -> None:
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1)
    with pytest.raises((TypeError, ValueError), match=r"Distilled|dist_token"):
        from_timm(theirs)
