"""Each erratum of the report (report/errata.qmd) is shown by a test here.

pytest tests/test_errata.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vitrail.efficiency import block_macs, count_macs, local_slope, quadratic_share
from vitrail.model import (
    Block,
    MultiHeadSelfAttention,
    SelfAttention,
    VisionTransformer,
    sinusoidal_1d,
)
from vitrail.model.attention import attend, logit_variance

ROOT = Path(__file__).parents[1]
SMALL: dict[str, Any] = {
    "img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10,
    "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def small(**changes: Any) -> VisionTransformer:
    return VisionTransformer(**{**SMALL, **changes}).eval()


def shuffled(images: torch.Tensor) -> torch.Tensor:
    """The same patches of 7 pixels in another order."""
    cut = images.unfold(2, 7, 7).unfold(3, 7, 7).reshape(len(images), 16, 7, 7)
    cut = cut[:, torch.randperm(16)].reshape(len(images), 4, 4, 7, 7)
    return cut.permute(0, 1, 3, 2, 4).reshape(len(images), 1, 28, 28)


def test_positional_example() -> None:
    table = sinusoidal_1d(6, 4).numpy()
    np.testing.assert_allclose(table[0], [0, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(table[1], [0.84147, 0.54030, 0.0099998, 0.99995], atol=1e-5)
    # Exponents 0/4 and 1/4, as the lab report works it out, are another table.
    assert abs(table[1, 2] - np.sin(1 / 10000 ** (1 / 4))) > 0.08


def test_positions_index_pairs_of_columns() -> None:
    d, k = 8, 3
    row = sinusoidal_1d(k + 1, d)[k].numpy()
    for i in range(d // 2):
        angle = k / 10000 ** (2 * i / d)
        assert row[2 * i] == pytest.approx(np.sin(angle), abs=1e-6)
        assert row[2 * i + 1] == pytest.approx(np.cos(angle), abs=1e-6)


def test_attention_is_equivariant_not_invariant() -> None:
    attention = MultiHeadSelfAttention(32, 4).eval()
    x, order = torch.randn(2, 9, 32), torch.randperm(9)
    out = attention(x)
    torch.testing.assert_close(attention(x[:, order]), out[:, order], atol=1e-5, rtol=0)
    assert (attention(x[:, order]) - out).abs().max() > 1e-3
    torch.testing.assert_close(
        attention(x[:, order]).mean(dim=1), out.mean(dim=1), atol=1e-5, rtol=0
    )


def test_positions_carry_the_layout() -> None:
    images = torch.rand(4, 1, 28, 28)
    mixed = shuffled(images)
    bag = small(pos_embed="none")
    torch.testing.assert_close(bag(images), bag(mixed), atol=1e-5, rtol=0)
    ordered = small(pos_embed="sinusoidal_2d")
    assert (ordered(images) - ordered(mixed)).abs().max() > 1e-3


def test_output_projection_is_part_of_attention() -> None:
    attention = SelfAttention(32).eval()
    x = torch.randn(2, 5, 32)
    before = attend(*attention.qkv(x).chunk(3, dim=-1))
    torch.testing.assert_close(attention(x), before @ attention.proj.weight.T + attention.proj.bias)
    assert tuple(attention.proj.weight.shape) == (32, 32)


def test_scale_keeps_the_variance() -> None:
    before, after = logit_variance(64)
    assert before == pytest.approx(64, rel=0.1)
    assert after == pytest.approx(1, rel=0.1)


def test_double_projection_adds_nothing() -> None:
    x = torch.randn(5, 32, dtype=torch.float64)
    first, second = torch.randn(2, 32, 32, dtype=torch.float64)
    torch.testing.assert_close((x @ first) @ second, x @ (first @ second))


def test_heads_split_the_width() -> None:
    attention = MultiHeadSelfAttention(32, 4)
    query, key, value = attention.split_heads(torch.randn(2, 5, 32))
    assert query.shape == key.shape == value.shape == (2, 4, 5, 8)
    with pytest.raises(ValueError, match="num_heads 5"):
        MultiHeadSelfAttention(32, 5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_mlp_reads_what_attention_wrote(norm: Any) -> None:
    block = Block(32, 4, norm=norm).eval()
    seen: list[torch.Tensor] = []
    block.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 5, 32)
    block(x)
    with torch.no_grad():  # silence the attention: the MLP must notice
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
    block(x)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def test_pre_norm_has_a_last_norm() -> None:
    assert isinstance(small().norm, nn.LayerNorm)
    assert isinstance(small(norm="post").norm, nn.Identity)


def test_mlp_works_on_every_token() -> None:
    model = small()
    shapes: list[tuple[int, ...]] = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda _, inputs, out: shapes.append(tuple(out.shape)))
    model(torch.rand(3, 1, 28, 28))
    assert shapes == [(3, 17, 32)] * 2


def test_class_token_starts_at_zero_and_is_shared() -> None:
    model = small()
    assert model.cls_token is not None
    assert tuple(model.cls_token.shape) == (1, 1, 32)
    assert model.cls_token.abs().max() < 1e-4
    tokens = model.embed(torch.rand(3, 1, 28, 28))
    assert torch.equal(tokens[0, 0], tokens[2, 0])


def test_patch_embedding_is_a_linear_map_of_patches() -> None:
    embed = small().patch_embed
    images = torch.rand(2, 1, 28, 28)
    cut = nn.functional.unfold(images, kernel_size=7, stride=7).transpose(1, 2)
    expected = cut @ embed.proj.weight.T + embed.proj.bias
    torch.testing.assert_close(embed(images), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(embed.as_convolution(images), expected, atol=1e-6, rtol=0)


def test_cost_has_a_linear_and_a_quadratic_part() -> None:
    for n in (17, 197):
        counted = count_macs(Block(64, 4, mlp_ratio=2), torch.zeros(1, n, 64))
        assert counted == block_macs(n, 64, 2) == 8 * n * 64**2 + 2 * n**2 * 64
    assert quadratic_share(17, 64, 2) < 0.07
    assert local_slope(17, 64, 2) < 1.1


def test_input_size_is_fixed_by_three_parts_only() -> None:
    import timm

    model: Any = timm.create_model("vit_tiny_patch16_224")
    with pytest.raises(AssertionError, match=r"Input height \(28\) doesn't match model \(224\)"):
        model(torch.zeros(1, 3, 28, 28))
    cnn = timm.create_model("resnet18").eval()
    assert cnn(torch.zeros(1, 3, 28, 28)).shape == (1, 1000)


def test_patch_16_on_28_pixels_drops_most_of_the_image() -> None:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=28).eval()
    images = torch.rand(1, 3, 28, 28)
    changed = images.clone()
    changed[:, :, 16:, :] = 0
    changed[:, :, :, 16:] = 0
    assert torch.equal(model(images), model(changed))
    with pytest.raises(ValueError, match="patch_size"):
        VisionTransformer(img_size=28, patch_size=16)


def test_default_weights_of_vit_s_saw_imagenet_21k() -> None:
    import timm

    tag = timm.create_model("vit_small_patch16_224", pretrained=False).pretrained_cfg["tag"]
    assert tag == "augreg_in21k_ft_in1k"


def test_every_erratum_has_its_test_and_every_test_its_erratum() -> None:
    text = (ROOT / "report" / "errata.qmd").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    written = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(encoding="utf-8"), re.M))
    written.discard("test_every_erratum_has_its_test_and_every_test_its_erratum")
    assert named == written
