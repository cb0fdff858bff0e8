"""Optimisers and schedules: Muon against PyTorch's own, who trains what, the way to zero."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitrail.muon import Muon, orthogonalise
from vitrail.networks import build
from vitrail.optimizers import make_optimizers, schedule, set_rates
from vitrail.settings import relevant

Settings = dict[str, Any]


# --- Muon


@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 1000))
def test_update_is_nearly_orthogonal(rows: int, columns: int, seed: int) -> None:
    """Singular values near one in the same directions, whatever they were."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linspace(1, 5, min(rows, columns), dtype=torch.float64)  # well conditioned
    made = orthogonalise((u * values @ vt)[None])[0]
    found = torch.linalg.svdvals(made)
    assert found.min() > 0.6
    assert found.max() < 1.3
    # The singular directions are kept: in their basis the update is diagonal.
    inside = u.mT @ made @ vt.mT
    assert (inside - torch.diag(inside.diagonal())).abs().max() < 1e-6


def test_a_batch_is_its_matrices() -> None:
    matrices = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    together = orthogonalise(matrices)
    for one, matrix in zip(together, matrices, strict=True):
        torch.testing.assert_close(one, orthogonalise(matrix[None])[0])


@pytest.mark.parametrize("shape", [(16, 16), (32, 16), (16, 32)])
def test_muon_is_torchs(shape: tuple[int, int]) -> None:
    """Five steps on the same gradients; torch's own works in bfloat16, hence the tolerance."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    arguments = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    pair = [
        Muon([ours], **arguments),
        torch.optim.Muon([theirs], nesterov=True, ns_steps=5, **arguments),
    ]
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        for optimizer, weight in zip(pair, (ours, theirs), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved


def test_queries_keys_and_values_are_three_matrices() -> None:
    """One gradient far larger than the others must not take their share of the step."""
    qkv = nn.Parameter(torch.zeros(24, 8))
    gradient = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    gradient[:8] *= 1000
    qkv.grad = gradient
    Muon([{"params": [qkv], "parts": 3}], lr=1.0).step()
    sizes = [part.norm() for part in qkv.detach().chunk(3)]
    assert max(sizes) < 1.5 * min(sizes)


def test_rows_must_be_whole_matrices() -> None:
    with pytest.raises(ValueError, match="8 rows are not 3 matrices"):
        Muon([{"params": [nn.Parameter(torch.zeros(8, 8))], "parts": 3}])


def test_muon_takes_matrices_only() -> None:
    with pytest.raises(ValueError, match="1 axes"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_a_matrix_without_gradient_stays() -> None:
    still = nn.Parameter(torch.ones(2, 2))
    Muon([still], weight_decay=1.0).step()
    assert torch.equal(still, torch.ones(2, 2))


# --- Who trains what


def small(config: Settings, **changes: Any) -> Settings:
    asked = {"embed_dim": 16, "depth": 2, "num_heads": 2, **changes}
    return relevant({**config["defaults"], "validation": 100, **asked})


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "lion"])
def test_every_parameter_has_one_optimizer(config: Settings, optimizer: str) -> None:
    settings = small(config, optimizer=optimizer)
    network = build(settings)
    taken = [
        id(p)
        for found in make_optimizers(network, settings)
        for group in found.param_groups
        for p in group["params"]
    ]
    assert sorted(taken) == sorted(id(p) for p in network.parameters())


def test_muon_trains_the_matrices_of_the_blocks(config: Settings) -> None:
    settings = small(config, optimizer="muon", matrix_learning_rate=0.5, learning_rate=0.25)
    network = build(settings)
    muon, adamw = make_optimizers(network, settings)
    names = {id(p): name for name, p in network.named_parameters()}
    matrices = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert matrices == {
        f"blocks.{block}.{part}.weight"
        for block in range(2)
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    assert [group["peak"] for group in muon.param_groups] == [0.5, 0.5]
    assert {group["peak"] for group in adamw.param_groups} == {0.25}
    set_rates([muon, adamw], 0.5)
    assert muon.param_groups[0]["lr"] == 0.25
    assert adamw.param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize(
    "changes",
    [
        {"num_heads": 1, "head_dim": 16},  # qkv (48, 16)
        {"num_heads": 3, "head_dim": 16},  # qkv (144, 16)
        {"mlp_ratio": 3},  # fc1 (48, 16), shaped like qkv
    ],
)
def test_muon_knows_queries_keys_and_values_by_name(
    config: Settings, changes: dict[str, Any]
) -> None:
    """Whatever the width of the heads, and whatever else has three times as many rows."""
    settings = small(config, optimizer="muon", **changes)
    network = build(settings)
    muon = make_optimizers(network, settings)[0]
    found = {id(p): group["parts"] for group in muon.param_groups for p in group["params"]}
    for name, p in network.named_parameters():
        if id(p) in found:
            assert found[id(p)] == (3 if name.endswith("attn.qkv.weight") else 1), name


DECAYS = re.compile(r"(patch_embed\.proj|attn\.(qkv|proj)|mlp\.fc[12]|head)\.weight$")


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon", "lion"])
@pytest.mark.parametrize("model", ["vit", "timm"])
def test_weight_decay_is_for_weights(config: Settings, name: str, model: str) -> None:
    """Not for biases, norms, positions or the class token, in our ViT and in timm's."""
    asked = {"timm_model": "vit_tiny_patch16_224"} if model == "timm" else {}
    settings = small(config, model=model, optimizer=name, weight_decay=0.3, **asked)
    network = build(settings)
    names = {id(p): name for name, p in network.named_parameters()}
    assert {"cls_token", "pos_embed"} < set(names.values())
    for optimizer in make_optimizers(network, settings):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                decays = bool(DECAYS.search(names[id(parameter)]))
                assert group["weight_decay"] == (0.3 if decays else 0), names[id(parameter)]


# --- Schedules


@pytest.mark.parametrize("shape", ["cosine", "linear"])
@given(steps=st.integers(2, 500), warmup=st.floats(0, 0.9))
def test_schedule_rises_then_falls_to_zero(shape: str, steps: int, warmup: float) -> None:
    shares = [schedule(step, steps, warmup, shape) for step in range(steps)]
    top = max(1, round(warmup * steps))
    assert max(shares) == pytest.approx(1)
    assert shares[:top] == sorted(shares[:top])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert shares[0] == pytest.approx(1 / top)
    assert 0 <= shares[-1] <= 1
    if top < steps:
        assert schedule(steps, steps, warmup, shape) == pytest.approx(0, abs=1e-12)


def test_linear_is_a_straight_line() -> None:
    shares = [schedule(step, 110, 10 / 110, "linear") for step in range(10, 110)]
    gaps = [first - second for first, second in itertools.pairwise(shares)]
    assert gaps == pytest.approx([0.01] * 99)
    assert schedule(60, 110, 10 / 110, "cosine") == pytest.approx(0.5)
