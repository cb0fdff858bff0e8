"""The parts of the model by hand: values, shapes, where they start, what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from model_tools import close, random_images, small
from vitrail.model import (
    Block,
    Mlp,
    MultiHeadSelfAttention,
    PatchEmbed,
    SeqPool,
    VisionTransformer,
    attention_weights,
    sinusoidal,
    sinusoidal_1d,
    sinusoidal_2d,
)
from vitrail.model.patch_embedding import cut_patches


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


# --- Q1: patch embedding


def test_patches_come_in_reading_order() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert cut_patches(image, (2, 2)).tolist() == [
        [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    ]


def test_kernels_are_the_columns_of_the_matrix() -> None:
    """E of the report has one row for each value of a patch, one column for each of the width."""
    embed, images = PatchEmbed(28, 7, 3, 8), random_images(2, channels=3)
    matrix = embed.proj.weight.T
    assert matrix.shape == (7 * 7 * 3, 8)
    close(embed(images), cut_patches(images, (7, 7)) @ matrix + embed.proj.bias)
    kernels = matrix.T.reshape(8, 3, 7, 7)
    for column, kernel in enumerate(kernels):
        bias = embed.proj.bias[column : column + 1]
        found = F.conv2d(images, kernel[None], bias, stride=7).flatten(1)
        close(embed(images)[..., column], found)


@pytest.mark.parametrize("patch_size", [5, 0, -7, (7, 5), 29])
def test_patch_size_must_divide_the_image(patch_size: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="patch_size"):
        PatchEmbed(28, patch_size, 1, 8)


@pytest.mark.parametrize("shape", [(1, 1, 32, 28), (1, 3, 28, 28), (1, 28, 28)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(1, 28, 28\)"):
        PatchEmbed(28, 7, 1, 8)(torch.zeros(shape))


# --- Q2: MLP


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_mlp_is_linear_activation_linear(act: str) -> None:
    mlp = Mlp(6, 10, act)  # type: ignore[arg-type]
    x = torch.randn(2, 5, 6)
    hidden = F.linear(x, mlp.fc1.weight, mlp.fc1.bias)
    # x Phi(x) with the normal distribution's own Phi, not the approximation by tanh.
    phi = torch.distributions.Normal(0.0, 1.0).cdf(hidden)
    hidden = hidden * phi if act == "gelu" else hidden.clamp(min=0)
    close(mlp(x), F.linear(hidden, mlp.fc2.weight, mlp.fc2.bias), atol=1e-6)
    assert Mlp(6).fc1.out_features == 6


# --- Q3 and Q4: self-attention


def test_attention_of_two_tokens_by_hand() -> None:
    query = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    key = torch.tensor([[2.0, 9.0, 9.0, 9.0], [0.0, 9.0, 9.0, 9.0]])
    first = math.e / (math.e + 1)  # logits 2 / sqrt(4) and 0
    close(attention_weights(query, key), torch.tensor([[first, 1 - first], [0.5, 0.5]]))


@pytest.mark.parametrize("heads", [0, 3, -4, 128])
def test_heads_must_divide_the_width(heads: int) -> None:
    with pytest.raises(ValueError, match=f"num_heads.* {heads}"):
        MultiHeadSelfAttention(64, heads)


def test_heads_of_their_own_width() -> None:
    """Three heads of 16 on tokens of width 64: the shapes of the paper's d_k."""
    attention = MultiHeadSelfAttention(64, 3, head_dim=16)
    assert attention.qkv.weight.shape == (3 * 3 * 16, 64)
    assert attention.proj.weight.shape == (64, 3 * 16)
    assert attention(torch.randn(2, 5, 64)).shape == (2, 5, 64)
    assert attention.weights(torch.randn(2, 5, 64)).shape == (2, 3, 5, 5)
    with pytest.raises(ValueError, match=r"head_dim .* -1"):
        MultiHeadSelfAttention(64, 4, head_dim=-1)
    with pytest.raises(ValueError, match=r"num_heads .* 0"):
        MultiHeadSelfAttention(64, 0, head_dim=16)


def test_head_dim_of_the_default_changes_nothing() -> None:
    """The same names, shapes and random numbers, bit by bit."""
    shared, named = small(), small(head_dim=8)  # 32 / 4
    for (name, mine), (other, value) in zip(
        shared.state_dict().items(), named.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(mine, value)


# --- Q5: the block


def test_post_norm_ends_with_a_norm() -> None:
    """With norms at their start every token leaves with mean 0 and variance 1, pre-norm not."""
    x = 5 * torch.randn(2, 7, 16) + 3
    out = Block(16, 4, 2, norm="post")(x)
    close(out.mean(-1), torch.zeros(2, 7))
    close(out.var(-1, unbiased=False), torch.ones(2, 7), atol=1e-3, rtol=1e-3)
    assert Block(16, 4, 2, norm="pre")(x).var(-1).min() > 2


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_both_residual_paths_matter(norm: str) -> None:
    """With W_O and the second MLP layer at zero, a block passes its (normed) input on."""
    block = Block(16, 4, 2, norm=norm)  # type: ignore[arg-type]
    x = torch.randn(2, 7, 16)
    full = block(x)
    for layer in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        changed = block(x)
        assert (changed - full).abs().max() > 1e-3  # this branch reached the output
        full = changed
    close(full, x if norm == "pre" else block.norm2(block.norm1(x)))


# --- Q6: the whole model


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_attention_maps_are_those_of_the_forward_pass(norm: str) -> None:
    """Each map is what its layer really read: normed tokens before, plain ones after 2017."""
    model = small(norm=norm)
    seen: list[Tensor] = []
    for block in model.blocks:
        block.attn.register_forward_hook(
            lambda attention, inputs, _: seen.append(attention.weights(inputs[0]))
        )
    with torch.no_grad():
        model(random_images())
    expected = list(seen)
    maps = model.attention_maps(random_images())
    assert len(maps) == 2
    for found, right in zip(maps, expected, strict=True):
        assert found.shape == (3, 4, 17, 17)
        close(found, right)


@pytest.mark.parametrize(("heads", "head_dim"), [(4, 0), (3, 40)])
def test_start_of_the_tokens(heads: int, head_dim: int) -> None:
    """The class token starts near zero, learned positions near 0.02, biases at zero."""
    torch.manual_seed(0)
    model = VisionTransformer(28, 7, 1, 10, 64, 2, heads, head_dim=head_dim)
    assert 0 < model.cls_token.abs().max() < 1e-4
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    together = heads * head_dim or 64
    for block in model.blocks:
        assert block.attn.qkv.bias.abs().max() == 0
        # Xavier: uniform with variance 2 / (in + out), each of the three matrices by itself
        for part in block.attn.qkv.weight.chunk(3):
            assert part.shape == (together, 64)
            assert part.std().item() == pytest.approx(math.sqrt(2 / (64 + together)), rel=0.05)


def test_fixed_positions_are_not_trained_and_leave_the_class_token_alone() -> None:
    for kind, table in (
        ("sinusoidal", sinusoidal_1d(16, 32)),
        ("sinusoidal_2d", sinusoidal_2d((4, 4), 32)),
    ):
        torch.manual_seed(0)
        model = VisionTransformer(28, 7, 1, 10, 32, 1, 4, pos_embed=kind)  # type: ignore[arg-type]
        assert "pos_embed" not in dict(model.named_parameters())
        assert "pos_embed" in model.state_dict()
        assert model.pos_embed[0, 0].abs().max() == 0
        close(model.pos_embed[0, 1:], table)


def test_pooling_reads_what_it_says() -> None:
    tokens = torch.randn(2, 17, 32)
    close(small().pool(tokens), tokens[:, 0])
    close(small(global_pool="avg").pool(tokens), tokens[:, 1:].mean(1))
    close(small(global_pool="avg", class_token=False).pool(tokens), tokens.mean(1))
    learned = small(global_pool="seq")
    close(learned.pool(tokens), learned.attention_pool(tokens[:, 1:]))
    learned = small(global_pool="seq", class_token=False)
    close(learned.pool(tokens), learned.attention_pool(tokens))


def test_sequence_pooling_by_hand() -> None:
    """Scores 0 and ln 3 share the mean 1 : 3; equal scores give the plain mean."""
    pool = SeqPool(2)
    x = torch.tensor([[[0.0, 5.0], [1.0, 9.0]]])
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[math.log(3), 0.0]]))
    close(pool.weights(x), torch.tensor([[0.25, 0.75]]))
    close(pool(x), torch.tensor([[0.75, 8.0]]))
    with torch.no_grad():
        pool.score.weight.zero_()
    x = torch.randn(3, 7, 2)
    close(pool(x), x.mean(dim=1))


def test_sequence_pooling_stands_after_the_last_norm_and_starts_near_the_mean() -> None:
    model = VisionTransformer(28, 7, 1, 10, 64, 2, 4, global_pool="seq")
    assert isinstance(model.norm, nn.LayerNorm)
    assert isinstance(model.fc_norm, nn.Identity)
    with torch.no_grad():
        tokens = model.norm(model.blocks(model.embed(random_images())))
        weights = model.attention_pool.weights(tokens[:, 1:])
    close(weights.sum(dim=1), torch.ones(3))
    assert 0 < (16 * weights - 1).abs().max() < 0.8  # 1 / 16 each, and a little more or less


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("patch_size", {"patch_size": 5}),
        ("num_heads", {"num_heads": 5}),
        ("num_heads", {"num_heads": 0}),
        ("head_dim", {"head_dim": -8}),
        ("pos_embed", {"pos_embed": "learnt"}),
        ("pos_embed", {"pos_embed": None}),
        ("global_pool", {"global_pool": "max"}),
        ("norm", {"norm": "both"}),
        ("act", {"act": "tanh"}),
        ("class", {"class_token": False}),
        ("embed_dim", {"pos_embed": "sinusoidal_2d", "embed_dim": 30, "num_heads": 2}),
        ("embed_dim", {"pos_embed": "sinusoidal", "embed_dim": 33, "num_heads": 3}),
    ],
)
def test_bad_arguments_are_named(name: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=name):
        small(**changes)


# --- Positions


def test_sinusoids_by_hand() -> None:
    table = sinusoidal_1d(6, 4)
    assert table.shape == (6, 4)
    close(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    close(table[1], torch.tensor([0.8415, 0.5403, 0.0100, 0.99995]), atol=5e-5, rtol=0)
    angles = [3.0, 3.0, 0.03, 0.03]
    hand = [f(angle) for f, angle in zip([math.sin, math.cos] * 2, angles, strict=True)]
    close(table[3], torch.tensor(hand))


@given(width=st.integers(1, 40).map(lambda half: 2 * half), start=st.integers(0, 500))
def test_wave_lengths_grow_from_two_pi_to_ten_thousand_times_that(width: int, start: int) -> None:
    for i in range(width // 2):
        length = 2 * math.pi * 10000 ** (2 * i / width)
        here, there = sinusoidal(torch.tensor([start, start + length], dtype=torch.float64), width)
        close(here[2 * i : 2 * i + 2], there[2 * i : 2 * i + 2])
    # The product of two positions depends on their distance alone.
    table = sinusoidal_1d(12, width)
    products = table @ table.T
    for distance in range(12):
        diagonal = products.diagonal(distance)
        close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), quarter=st.integers(1, 8))
def test_two_dimensional_positions(rows: int, columns: int, quarter: int) -> None:
    """The first half is the row's, the second the column's, in reading order."""
    half = 2 * quarter
    table = sinusoidal_2d((rows, columns), 2 * half)
    assert table.shape == (rows * columns, 2 * half)
    grid = table.view(rows, columns, 2 * half)
    for row in range(rows):
        close(grid[row, :, :half], sinusoidal_1d(rows, half)[row].expand(columns, half))
    for column in range(columns):
        close(grid[:, column, half:], sinusoidal_1d(columns, half)[column].expand(rows, half))


def test_positions_need_pairs_of_columns() -> None:
    with pytest.raises(ValueError, match="embed_dim"):
        sinusoidal_1d(4, 5)
    with pytest.raises(ValueError, match="embed_dim"):
        sinusoidal_2d((2, 2), 6)


@pytest.mark.parametrize("kind", ["sinusoidal", "sinusoidal_2d"])
def test_fixed_positions_of_a_given_size(kind: str) -> None:
    """What differs from place to place has that size, and keeps its directions."""
    arguments: dict[str, Any] = {"embed_dim": 32, "depth": 1, "num_heads": 2, "pos_embed": kind}
    plain = VisionTransformer(28, 7, 1, 10, **arguments)
    sized = VisionTransformer(28, 7, 1, 10, pos_embed_rms=0.7, **arguments)
    assert sized.pos_embed[0, 0].abs().max() == 0  # the class token's row
    before, after = plain.pos_embed[0, 1:], sized.pos_embed[0, 1:]
    close(after.mean(dim=0), torch.zeros(32))
    assert after.square().mean().sqrt().item() == pytest.approx(0.7)
    own = before - before.mean(dim=0)
    close(after / after.norm(), own / own.norm())
