"""The cost formula against a counter that knows nothing of it, and against known values."""

import math

import pytest
import torch
from torch import nn

from vitrail.efficiency import (
    attention_macs,
    block_macs,
    count_macs,
    count_parameters,
    crossover,
    local_slope,
    quadratic_share,
    token_count,
    vit_macs,
)
from vitrail.model import Block, MultiHeadSelfAttention, SelfAttention, VisionTransformer

SMALL = {"img_size": 28, "in_chans": 1, "num_classes": 10, "embed_dim": 64, "depth": 2}
VIT_S = {"img_size": 224, "patch_size": 16, "in_chans": 3, "num_classes": 1000} | {
    "embed_dim": 384,
    "depth": 12,
    "num_heads": 6,
}


@pytest.mark.parametrize(
    "settings",
    [
        SMALL | {"patch_size": 14, "num_heads": 1},
        SMALL | {"patch_size": 7, "num_heads": 4},
        SMALL | {"patch_size": 4, "num_heads": 8, "mlp_ratio": 2.0},
        SMALL | {"patch_size": 2, "num_heads": 2, "mlp_ratio": 2.5, "embed_dim": 48},
        SMALL | {"patch_size": 7, "num_heads": 4, "num_classes": 0},
        SMALL | {"img_size": (28, 56), "patch_size": (7, 14), "num_heads": 4, "in_chans": 3},
        VIT_S,
    ],
)
@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("fused_attn", [True, False])
def test_formula_is_what_the_counter_counts(settings, class_token, fused_attn):
    with torch.device("meta"):
        model = VisionTransformer(
            **settings,
            class_token=class_token,
            global_pool="token" if class_token else "avg",
            fused_attn=fused_attn,
        )
        images = torch.empty(2, settings["in_chans"], *model.patch_embed.img_size)
    assert count_macs(model, images) == 2 * vit_macs(**settings, class_token=class_token)["total"]


@pytest.mark.parametrize(("heads", "head_dim"), [(4, 64), (3, 10), (1, 1)])
@pytest.mark.parametrize("pooling", ["token", "avg", "seq"])
def test_formula_with_heads_of_their_own_width_and_each_pooling(heads, head_dim, pooling):
    settings = SMALL | {"patch_size": 7, "num_heads": heads, "head_dim": head_dim}
    settings |= {"global_pool": pooling, "mlp_ratio": 2.0}
    with torch.device("meta"):
        model = VisionTransformer(**settings)
        images = torch.empty(2, 1, 28, 28)
    macs = vit_macs(**settings)
    assert count_macs(model, images) == 2 * macs["total"]
    attention = attention_macs(17, 64, heads * head_dim)
    assert count_macs(model.blocks[0].attn, torch.empty(1, 17, 64, device="meta")) == attention
    assert count_macs(model.blocks[0], torch.empty(1, 17, 64, device="meta")) == block_macs(
        17, 64, 2.0, heads * head_dim
    )
    parts = ("qkv", "attention_scores", "attention_values", "projection")
    assert sum(macs[part] for part in parts) == 2 * attention  # two blocks
    assert macs["pooling"] == (2 * 16 * 64 if pooling == "seq" else 0)


@pytest.mark.parametrize(("heads", "head_dim"), [(1, 0), (4, 0), (4, 16), (4, 64), (3, 10)])
def test_parameters_of_the_heads(heads, head_dim):
    """Four matrices of D x D whatever the number of heads, unless heads have their own width."""
    inner = heads * head_dim or 64
    attention = MultiHeadSelfAttention(64, heads, head_dim=head_dim)
    assert count_parameters(attention) == 4 * 64 * inner + 3 * inner + 64
    block = Block(64, heads, 2.0, head_dim=head_dim)
    norms, mlp = 2 * 2 * 64, 2 * 64 * 128 + 128 + 64
    assert count_parameters(block) == count_parameters(attention) + norms + mlp


def test_the_counter_sees_the_fused_kernel_of_the_cpu():
    x = torch.randn(3, 50, 64)
    for fused in (True, False):
        attention = MultiHeadSelfAttention(64, 4, fused_attn=fused)
        assert count_macs(attention, x) == 3 * attention_macs(50, 64)


@pytest.mark.parametrize("n", [1, 17, 197])
def test_attention_and_block_formulas(n):
    x = torch.randn(1, n, 32)
    assert count_macs(SelfAttention(32), x) == attention_macs(n, 32)
    assert count_macs(Block(32, 4, 3.0), x) == block_macs(n, 32, 3.0)
    assert block_macs(n, 32, 3.0) == (4 + 2 * 3) * n * 32**2 + 2 * n**2 * 32


@pytest.mark.parametrize(
    ("name", "embed_dim", "heads", "patch"),
    [
        ("vit_tiny_patch16_224", 192, 3, 16),
        ("vit_small_patch16_224", 384, 6, 16),
        ("vit_base_patch32_224", 768, 12, 32),
    ],
)
def test_formula_matches_the_models_of_timm(name, embed_dim, heads, patch):
    timm = pytest.importorskip("timm")
    sizes = VIT_S | {"embed_dim": embed_dim, "num_heads": heads, "patch_size": patch}
    with torch.device("meta"):
        model = timm.create_model(name)
        macs = count_macs(model, torch.empty(1, 3, 224, 224))
    assert macs == vit_macs(**sizes)["total"]


def test_parts_add_up_and_split_the_block():
    macs = vit_macs(**VIT_S)
    parts = {key: value for key, value in macs.items() if key != "total"}
    assert sum(parts.values()) == macs["total"] == 4_598_882_304  # 4.6 GMACs, the known figure
    blocks = macs["total"] - macs["patch_embedding"] - macs["head"]
    assert blocks == 12 * block_macs(197, 384)
    quadratic = macs["attention_scores"] + macs["attention_values"]
    assert quadratic / blocks == pytest.approx(quadratic_share(197, 384))


def test_known_values():
    assert crossover(64) == 384  # 6 D
    assert crossover(64, 2) == 256  # 4 D
    assert crossover(384) == 2304  # ViT-S: an image of 768 pixels at patch 16
    assert quadratic_share(197, 384) == pytest.approx(0.0788, abs=5e-5)  # ViT-S at 224: 8 %
    slopes = [round(local_slope(n, 64), 2) for n in (17, 50, 197, 785)]
    assert slopes == [1.04, 1.12, 1.34, 1.67]


@pytest.mark.parametrize(("d", "r"), [(64, 4.0), (48, 2.0), (384, 0.0)])
def test_half_of_a_block_is_quadratic_at_the_crossover(d, r):
    n = crossover(d, r)
    assert quadratic_share(n, d, r) == pytest.approx(0.5)
    assert local_slope(n, d, r) == pytest.approx(1.5)


def test_local_slope_is_the_derivative_of_the_formula():
    n, d = 2000, 64
    difference = math.log(block_macs(n + 1, d) / block_macs(n - 1, d))
    assert local_slope(n, d) == pytest.approx(difference / math.log((n + 1) / (n - 1)), abs=1e-5)


def test_count_macs_of_a_cnn_by_hand():
    cnn = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 64, 10)
    )
    images = torch.randn(2, 1, 8, 8)
    before = {key: value.clone() for key, value in cnn.state_dict().items()}
    assert count_macs(cnn, images) == 2 * (8 * 8 * 9 * 4 + 4 * 64 * 10)
    assert cnn.training  # put back, and nothing learnt from the images on the way
    assert all(torch.equal(before[key], value) for key, value in cnn.state_dict().items())


def test_count_parameters_leaves_out_frozen_and_shared():
    layer = nn.Linear(3, 5)
    assert count_parameters(layer) == 20
    assert count_parameters(nn.Sequential(layer, layer)) == 20
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 15


def test_token_count():
    assert [token_count(28, patch) for patch in (14, 7, 4, 2, 1)] == [5, 17, 50, 197, 785]
    assert token_count((28, 56), (7, 14), class_token=False) == 16
    with pytest.raises(ValueError, match="patch_size 5 does not divide img_size 28"):
        vit_macs(**SMALL | {"patch_size": 5})
