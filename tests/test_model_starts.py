"""Where the blocks start (`init`), and which patches are dropped in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model_tools import close, random_images, small
from vitrail.efficiency import count_macs
from vitrail.model import (
    MultiHeadSelfAttention,
    PatchDropout,
    VisionTransformer,
    seed_patches,
    to_timm,
)
from vitrail.model.initialisation import initialise_blocks, mimetic, near_identity

Arguments = dict[str, Any]


def fresh(seed: int = 0, **changes: Any) -> VisionTransformer:
    """A ViT at its start."""
    torch.manual_seed(seed)
    arguments: Arguments = {"embed_dim": 64, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    return VisionTransformer(28, 7, 1, 10, **{**arguments, **changes})


LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def test_timm_starts_all_matrices_of_the_blocks_alike() -> None:
    blocks = fresh(init="timm").blocks
    for name in LAYERS:
        layer = blocks[0].get_submodule(name)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05), name
        assert layer.bias.abs().max() == 0
    theirs = pytest.importorskip("timm").create_model(
        "vit_tiny_patch16_224", img_size=28, patch_size=7, depth=1
    )
    for name in LAYERS:
        std = theirs.blocks[0].get_submodule(name).weight.std().item()
        assert std == pytest.approx(0.02, rel=0.05), name


def test_zero_residual_blocks_are_the_identity_and_learn() -> None:
    model, plain = fresh(init="zero_residual"), fresh()
    tokens = torch.randn(3, 17, 64)
    close(model.blocks(tokens), tokens, atol=0, rtol=0)
    for name in LAYERS:  # the first layers of both branches start as they do otherwise
        same = torch.equal(
            model.blocks[0].get_submodule(name).weight, plain.blocks[0].get_submodule(name).weight
        )
        assert same == (name in ("attn.qkv", "mlp.fc1")), name
    model(random_images()).square().sum().backward()
    for name in ("attn.proj", "mlp.fc2"):
        assert model.blocks[0].get_submodule(name).weight.grad.abs().max() > 0


def test_factors_of_a_matrix_near_the_identity() -> None:
    torch.manual_seed(0)
    left, right = near_identity(128, 0.4, -0.4)
    product = left @ right.T
    assert product.diagonal().mean().item() == pytest.approx(-0.4, abs=0.02)
    rest = product - torch.diag(product.diagonal())
    assert rest.std().item() == pytest.approx(0.4 / 128**0.5, rel=0.05)
    close(left.T @ left, right.T @ right, atol=1e-4)  # the roots of the same singular values
    values = left.square().sum(dim=0)
    assert values.tolist() == sorted(values.tolist(), reverse=True)


def test_mimetic_products() -> None:
    """W_Q W_K^T near +I in every head, with the rank of a head; W_V W_O near -I over all."""
    attention = fresh(init="mimetic").blocks[1].attn
    queries, keys, values = attention.qkv.weight.detach().view(3, 4, 16, 64)
    for query, key in zip(queries, keys, strict=True):
        product = query.T @ key
        assert torch.linalg.matrix_rank(product) == 16
        # 16 of 64 singular values: more than a quarter of the trace of 0.7 I, for they are
        # the largest; a random start has none at all.
        assert 64 * 0.7 / 4 < product.trace() < 64 * 0.7
    together = values.flatten(0, 1).T @ attention.proj.weight.detach().T
    assert together.diagonal().mean().item() == pytest.approx(-0.4, abs=0.05)
    assert (together - torch.diag(together.diagonal())).std().item() == pytest.approx(
        0.05, abs=0.01
    )
    assert attention.qkv.bias.abs().max() == 0
    assert not torch.equal(queries[0], queries[1])


def test_best_rank_of_a_head() -> None:
    """What a head cannot hold is the smallest singular values."""
    torch.manual_seed(3)
    attention = MultiHeadSelfAttention(32, 2)
    torch.manual_seed(7)
    mimetic(attention)
    torch.manual_seed(7)
    wanted = 0.7 * torch.randn(32, 32) / 32**0.5 + 0.7 * torch.eye(32)
    found = attention.qkv.weight[:16].T @ attention.qkv.weight[32:48]
    lost = torch.linalg.svdvals(wanted - found.detach())
    close(lost[:16], torch.linalg.svdvals(wanted)[16:], atol=1e-4)


def test_unknown_starts_are_named() -> None:
    with pytest.raises(ValueError, match=r"init must be one of xavier, timm, .* not 'normal'"):
        initialise_blocks(fresh().blocks, "normal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"mimetic.* head_dim"):
        fresh(init="mimetic", head_dim=8)


# --- Dropped patches


def kept_rows(before: torch.Tensor, after: torch.Tensor) -> list[list[int]]:
    """For each image the places of the tokens that are left."""
    return [
        [(rows == row).all(dim=1).nonzero().item() for row in left]
        for rows, left in zip(before, after, strict=True)
    ]


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("prob", [0.1, 0.5, 0.9, 0.99])
def test_patches_are_dropped_as_in_timm(prob: float, prefix: int) -> None:
    """As many, rows unchanged and in order, the prefix kept; nothing in evaluation."""
    theirs = pytest.importorskip("timm").layers.PatchDropout(prob, prefix, ordered=True)
    ours = PatchDropout(prob, prefix)
    x = torch.randn(5, prefix + 10, 3)
    torch.manual_seed(0)
    mine = ours(x)
    assert mine.shape == theirs(x).shape
    places = kept_rows(x, mine)
    assert places == [sorted(set(row)) for row in places]
    assert all(row[:prefix] == list(range(prefix)) for row in places)
    if prob == 0.5:
        assert len({tuple(row) for row in places}) > 1  # each image has its own
    assert ours.eval()(x) is x
    assert torch.equal(theirs.eval()(x), x)


def test_every_patch_is_dropped_as_often() -> None:
    drop = PatchDropout(0.75, 0)
    seed_patches(drop, 0)
    x = torch.arange(8.0).view(1, 8, 1).expand(4000, 8, 1)
    counts = drop(x).flatten().long().bincount(minlength=8)
    assert counts.sum() == 2 * 4000
    assert (counts - 1000).abs().max() < 120  # four standard deviations


def test_the_seed_alone_decides_what_is_dropped() -> None:
    x, places = torch.randn(6, 17, 3), []
    for noise, seed in ((1, 5), (9, 5), (1, 6)):
        drop = PatchDropout(0.5)
        seed_patches(drop, seed)
        torch.rand(noise)
        places.append(kept_rows(x, drop(x)))
    assert places[0] == places[1] != places[2]


def test_the_model_drops_in_training_alone() -> None:
    model, plain = small(patch_drop_rate=0.5), small()
    images = random_images()
    assert torch.equal(model(images), plain(images))  # both in evaluation
    assert count_macs(model.train(), images) == count_macs(plain, images)
    seen: list[int] = []
    model.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    model(images)
    assert seen == [1 + 8]
    assert (model(images) - plain(images)).abs().max() > 1e-3


@pytest.mark.parametrize("prob", [-0.1, 1.0, 1.5])
def test_a_share_outside_its_range_is_refused(prob: float) -> None:
    with pytest.raises(ValueError, match="patch_drop_rate"):
        fresh(patch_drop_rate=prob)


def test_windows_and_timm_take_all_patches() -> None:
    windows = {"attention": "window", "window_size": 2, "class_token": False}
    with pytest.raises(ValueError, match="patch_drop_rate"):
        fresh(patch_drop_rate=0.5, global_pool="avg", **windows)
    with pytest.raises(ValueError, match="to_timm: patch_drop_rate"):
        to_timm(fresh(patch_drop_rate=0.5))
