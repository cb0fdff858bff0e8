"""What must hold of the model whatever its weights: symmetries, means, gradients, learning."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model_tools import POOLINGS, VARIANTS, close, random_images, scatter, seeds, shuffled, small
from vitrail.model import (
    Block,
    Mlp,
    MultiHeadSelfAttention,
    SelfAttention,
    SeqPool,
    VisionTransformer,
    attention_weights,
)
from vitrail.model.attention import attend
from vitrail.model.block import Norm
from vitrail.model.mlp import Activation
from vitrail.model.vit import Pooling, Positions


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


# --- Attention is a weighted mean


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(1, 8)),
    size=st.floats(0.1, 50),
    seed=seeds,
)
def test_attention_is_a_weighted_mean(
    shape: tuple[int, int, int, int], size: float, seed: int
) -> None:
    """Rows sum to one, and no output leaves the range of the values."""
    torch.manual_seed(seed)
    query, key, value = size * torch.randn(3, *shape, dtype=torch.float64)
    weights = attention_weights(query, key)
    assert weights.shape == (*shape[:3], shape[2])
    assert (weights >= 0).all()
    close(weights.sum(dim=-1), torch.ones(shape[:3], dtype=torch.float64))
    written = attend(query, key, value, fused=False)
    close(written, F.scaled_dot_product_attention(query, key, value))
    close(written, attend(query, key, value, fused=True))
    assert (written <= value.amax(dim=-2, keepdim=True) + 1e-9).all()
    assert (written >= value.amin(dim=-2, keepdim=True) - 1e-9).all()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_rows_of_every_attention_map_sum_to_one(changes: dict[str, Any]) -> None:
    model = small(**changes)
    maps = model.attention_maps(random_images())
    assert len(maps) == len(model.blocks)
    for weights in maps:
        assert (weights > 0).all()
        close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("width", [4, 64, 256])
def test_scale_keeps_the_variance_of_logits_at_one(width: int) -> None:
    """The logarithm of a row of weights is its logits but for a constant."""
    query, key = torch.randn(2, 400, width, dtype=torch.float64)
    logits = attention_weights(query, key).log()
    assert logits.var(dim=-1).mean() == pytest.approx(1, rel=0.1)
    unscaled = (query @ key.T).var(dim=-1).mean()
    assert unscaled == pytest.approx(width, rel=0.1)


# --- The order of the tokens


@given(
    heads=st.integers(1, 4),
    width=st.integers(1, 5),
    tokens=st.integers(2, 9),
    fused=st.booleans(),
    own_width=st.booleans(),
    seed=seeds,
)
def test_self_attention_is_permutation_equivariant(
    heads: int, width: int, tokens: int, fused: bool, own_width: bool, seed: int
) -> None:
    """Permuting the tokens permutes the outputs alike, and the rows and columns of the map."""
    torch.manual_seed(seed)
    dim = heads * width
    many = MultiHeadSelfAttention(dim, heads, True, fused, head_dim=7 if own_width else 0)
    x, order = torch.randn(2, tokens, dim), torch.randperm(tokens)
    for layer in (many, SelfAttention(dim, True, fused)):
        scatter(layer, seed, 0.5)
        close(layer(x[:, order]), layer(x)[:, order], atol=1e-4, rtol=1e-4)
        weights = layer.weights(x)[..., order, :][..., order]
        close(layer.weights(x[:, order]), weights, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        MultiHeadSelfAttention(16, 4),
        Mlp(16, 24),
        Block(16, 4, 2, norm="pre"),
        Block(16, 4, 2, norm="post"),
    ],
    ids=["attention", "mlp", "pre-norm block", "post-norm block"],
)
def test_every_layer_is_equivariant_and_none_invariant(layer: nn.Module) -> None:
    scatter(layer)
    x = torch.randn(2, 6, 16)
    close(layer(x.flip(1)), layer(x).flip(1))
    assert (layer(x.flip(1)) - layer(x)).abs().max() > 1e-2


def test_sequence_pooling_is_invariant() -> None:
    pool, x = SeqPool(16), torch.randn(2, 6, 16)
    close(pool(x.flip(1)), pool(x))
    assert (pool(x) - x.mean(dim=1)).abs().max() > 1e-2


@given(order=st.permutations(range(16)), seed=seeds)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_without_positions_an_image_is_a_bag_of_patches(
    pooling: str, order: list[int], seed: int
) -> None:
    bag, images = small(pos_embed="none", **POOLINGS[pooling]), random_images(seed=seed)
    with torch.no_grad():
        close(bag(shuffled(images, torch.tensor(order))), bag(images), atol=1e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "sinusoidal_2d"])
def test_positions_tell_patches_apart(positions: str, pooling: str) -> None:
    model, images = small(pos_embed=positions, **POOLINGS[pooling]), random_images()
    with torch.no_grad():
        difference = model(shuffled(images, torch.arange(16).flip(0))) - model(images)
    assert difference.abs().max() > 1e-3


# --- One image beside others


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@settings(max_examples=15)
@given(place=st.integers(0, 4), others=st.integers(0, 4), size=st.floats(0.01, 100), seed=seeds)
def test_an_image_does_not_depend_on_its_batch(
    changes: dict[str, Any], place: int, others: int, size: float, seed: int
) -> None:
    """Wherever it stands in the batch, however many there are, and whatever they show."""
    torch.manual_seed(seed)
    model, image = small(**changes).train(), random_images(1, seed=seed)
    company = size * random_images(others + 1, seed=seed + 1)
    batch = torch.cat([company[:place], image, company[place:]])
    at = min(place, len(company))
    with torch.no_grad():
        close(model(batch)[at : at + 1], model(image))


# --- Learning

OPTIONS: dict[str, tuple[Any, ...]] = {
    "pos_embed": get_args(Positions),
    "act": get_args(Activation),
    "qkv_bias": (True, False),
    "head_dim": (0, 5),
}


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_reach_every_parameter(pooling: str, norm: str) -> None:
    """In every combination of the options. (The fused kernel's are in test_model_parity.py.)

    But for the bias of the keys: it adds the same to all logits of a query, and no softmax
    sees that. Its gradient is zero but for rounding, and the others are not.
    """
    assert {options["global_pool"] for options in POOLINGS.values()} == set(get_args(Pooling))
    images, labels = random_images(4, size=14).double(), torch.arange(4)
    for values in itertools.product(*OPTIONS.values()):
        changes = dict(zip(OPTIONS, values, strict=True)) | POOLINGS[pooling]
        model = small(img_size=14, embed_dim=8, num_heads=2, norm=norm, **changes).double()
        F.cross_entropy(model(images), labels).backward()
        still = [
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is None or not parameter.grad.abs().max() > 0
        ]
        assert still == [], changes
        for block in model.blocks if changes["qkv_bias"] else ():
            query, key, value = (part.abs().max() for part in block.attn.qkv.bias.grad.chunk(3))
            assert key < 1e-6 * torch.minimum(query, value), changes


@pytest.mark.parametrize(
    "changes", [{}, {"global_pool": "seq", "num_heads": 3, "head_dim": 12}], ids=str
)
def test_one_batch_can_be_learnt_by_heart(changes: dict[str, Any]) -> None:
    """Random labels: only a network whose every part works fits them."""
    torch.manual_seed(0)
    arguments = {"embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2} | changes
    model = VisionTransformer(28, 7, 1, 10, **arguments)  # type: ignore[arg-type]
    images, labels = random_images(32), torch.randint(10, (32,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    assert loss < 0.05
    assert (model(images).argmax(1) == labels).all()
