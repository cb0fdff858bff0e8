"""Ways to train for less: SAM, importance sampling, growing networks, Lion, dropped patches."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitrail import gradients, train
from vitrail.data import Mnist
from vitrail.efficiency import count_macs
from vitrail.growing import Growth, first_stage, refine, stack
from vitrail.networks import build, load_run
from vitrail.optimizers import make_optimizers
from vitrail.run_folder import write_run
from vitrail.sam import climbed
from vitrail.selection import PRESAMPLE, draw, gradient_bound, mean_loss, presample
from vitrail.settings import arm_id, in_full, relevant, run_id, steps_of

Settings = dict[str, Any]
CPU = torch.device("cpu")
IMAGES = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.fixture
def small(config: Settings) -> Any:
    """A function that gives the settings of a small ViT, in full."""

    def made(**changes: Any) -> Settings:
        asked = {"embed_dim": 16, "depth": 2, "num_heads": 2, "train_size": 500}
        asked |= {"validation": 100, "epochs": 1, "batch_size": 32, "evaluations": 3}
        return relevant({**config["defaults"], **asked, **changes})

    return made


METHODS: list[Settings] = [
    {"optimizer": "lion", "learning_rate": 0.001},
    {"sam_radius": 0.05},
    {"sam_radius": 0.05, "optimizer": "adamw"},
    {"selection": "importance"},
    {"selection": "importance", "label_smoothing": 0.1, "rotation": 5},
    {"grow": "depth"},
    {"grow": "depth", "optimizer": "adamw", "norm": "post"},
    {"grow": "patch_size"},
    {"grow": "patch_size", "class_token": False, "global_pool": "avg", "optimizer": "sgd"},
    {"patch_drop_rate": 0.5},
    {"patch_drop_rate": 0.5, "sam_radius": 0.05, "grow": "depth", "selection": "importance"},
    {"init": "mimetic"},
    {"init": "zero_residual"},
    {"attention": "linear"},
    {"attention": "window", "window_size": 2, "class_token": False, "global_pool": "avg"},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_same_seed_same_bits_and_it_learns(
    small: Any, mnist: Mnist, tmp_path: Any, method: Settings
) -> None:
    """Whatever was computed in between; and the network comes back from disk as it was."""
    settings = small(**{"epochs": 6, "learning_rate": 0.01, **method})
    first = train.run(settings, 0, mnist, CPU, None)
    torch.rand(17)
    again = train.run(settings, 0, mnist, CPU, None)
    assert first[1].history == again[1].history
    assert first[2].tobytes() == again[2].tobytes()
    assert first[3]["val_accuracy"] > 0.8
    assert first[1].history[-1]["samples"] == 32 * steps_of(settings)
    tables = {"history.csv": first[1].history, "timing.csv": first[1].seconds}
    folder = tmp_path / run_id(arm_id(settings), 0)
    write_run(folder, settings, 0, first[3], {}, (first[0], tables, first[2]))
    network = load_run(folder)
    images = train.pixels(mnist.test_images, settings, CPU)
    assert train.logits_of(network, images, "fp32").numpy().tobytes() == first[2].tobytes()
    assert first[3]["macs"] == count_macs(build(settings), torch.zeros(1, 1, 28, 28))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method_changes_the_training(small: Any, mnist: Mnist, method: Settings) -> None:
    """Against the arm without its first setting."""
    others = dict(list(method.items())[1:])
    found = [
        train.run(small(**{"epochs": 0.3, "evaluations": 1, **asked}), 0, mnist, CPU, None)[2]
        for asked in (method, others)
    ]
    assert found[0].tobytes() != found[1].tobytes()


# --- Sharpness-aware minimisation


def test_sam_climbs_the_gradient_and_comes_back() -> None:
    """w + rho g / |g| over all weights together, and the same bits afterwards."""
    layer, frozen = nn.Linear(3, 2), nn.Linear(2, 2)
    layer.weight.grad, layer.bias.grad = torch.full((2, 3), 2.0), torch.tensor([-5.0, 0.0])
    network = nn.Sequential(layer, frozen)
    before = copy.deepcopy(network.state_dict())
    length = math.sqrt(6 * 4 + 25)  # 7
    with climbed(network, 0.7):
        torch.testing.assert_close(layer.weight, before["0.weight"] + 0.1 * 2)
        torch.testing.assert_close(layer.bias, before["0.bias"] + torch.tensor([-0.5, 0.0]))
        assert torch.equal(frozen.weight, before["1.weight"])  # no gradient, no way up
        moved = torch.cat([(p - before[name]).flatten() for name, p in network.named_parameters()])
        assert moved.norm().item() == pytest.approx(0.7, rel=1e-5)
        layer.weight.grad = torch.ones(2, 3)
    assert length == 7
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(layer.weight.grad, torch.ones(2, 3))


def test_sam_of_a_flat_loss_stays() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 2), torch.zeros(1)
    before = layer.weight.detach().clone()
    with climbed(layer, 1.0):
        assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("radius", [0, 0.05])
def test_sam_takes_two_passes_over_one_batch(
    small: Any, mnist: Mnist, monkeypatch: pytest.MonkeyPatch, radius: float
) -> None:
    seen: list[bytes] = []
    real = gradients.gradient

    def spying(network: nn.Module, batch: Any, *rest: Any) -> torch.Tensor:
        seen.append(batch[0].numpy().tobytes())
        return real(network, batch, *rest)

    monkeypatch.setattr(gradients, "gradient", spying)
    settings = small(sam_radius=radius)
    train.run(settings, 0, mnist, CPU, None)
    steps = steps_of(settings)
    if not radius:
        assert len(set(seen)) == len(seen) == steps
        return
    assert seen[::2] == seen[1::2]
    assert len(set(seen)) == steps


# --- Importance sampling


def test_the_score_is_the_gradient_at_the_logits() -> None:
    logits = torch.randn(5, 10, requires_grad=True)
    labels = torch.tensor([3, 0, 9, 9, 1])
    for smoothing in (0.0, 0.2):
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
        (expected,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(gradient_bound(logits, labels, smoothing), expected.norm(dim=1))


def test_the_gradient_stays_unbiased() -> None:
    """The mean over many draws of the weighted loss is the plain mean of the pre-sample."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(30, 10, generator=generator), torch.arange(30) % 10
    scores, plain = gradient_bound(logits, labels), mean_loss(logits, labels, None).item()
    found = []
    for _ in range(4000):
        picked, weights = draw(scores, 10, generator)
        found.append(mean_loss(logits[picked], labels[picked], weights).item())
    values = torch.tensor(found)
    error = values.std().item() / math.sqrt(len(found))
    assert values.mean().item() == pytest.approx(plain, abs=4 * error)
    # Without the weights it would not be: large losses come more often.
    found = []
    for _ in range(300):
        picked, _ = draw(scores, 10, generator)
        found.append(mean_loss(logits[picked], labels[picked], None).item())
    assert sum(found) / 300 > plain + 20 * error


def test_images_come_in_proportion_to_their_scores() -> None:
    picked, weights = draw(torch.tensor([1.0, 0, 3]), 8000, torch.Generator().manual_seed(0))
    counts = picked.bincount(minlength=3)
    assert counts[1] == 0
    assert counts[2] / 8000 == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(weights, torch.tensor([4 / 3, 0, 4 / 9])[picked])


@pytest.mark.parametrize("scores", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_scores_that_say_nothing_count_alike(scores: list[float]) -> None:
    """A training that diverged goes on to its end."""
    picked, weights = draw(torch.tensor(scores), 50, torch.Generator().manual_seed(0))
    assert set(picked.tolist()) == {0, 1}
    assert torch.equal(weights, torch.ones(50))


def test_a_pre_sample_begins_with_the_batch_of_the_other_arms() -> None:
    chosen = torch.tensor([5, 2, 9])
    found = presample(chosen, 10, torch.Generator().manual_seed(0))
    assert len(found) == PRESAMPLE * 3
    assert torch.equal(found[:3], chosen)
    assert found.min() >= 0 and found.max() < 10


# --- Growing networks


def test_the_first_half_is_cheaper(small: Any) -> None:
    for change, key, value in (
        ({"grow": "depth", "depth": 4}, "depth", 2),
        ({"grow": "patch_size"}, "patch_size", 14),
    ):
        whole = in_full(small(**change))
        first = first_stage(whole)
        assert {**whole, key: value} == first
        zero = torch.zeros(1, 1, 28, 28)
        assert count_macs(build(first), zero) < 0.6 * count_macs(build(whole), zero)
    plain = in_full(small())
    assert first_stage(plain) == plain


def test_blocks_are_stacked(small: Any) -> None:
    network: Any = build(small(depth=3))
    before = list(network.blocks)
    stack(network)
    assert list(network.blocks)[:3] == before
    for low, high in zip(before, list(network.blocks)[3:], strict=True):
        for mine, other in zip(low.parameters(), high.parameters(), strict=True):
            assert torch.equal(mine, other)
            assert mine is not other


def test_patches_are_refined_by_timm(small: Any) -> None:
    """The names and shapes of the fine network, the values of timm's resampling."""
    layers = pytest.importorskip("timm").layers
    network: Any = build(small(patch_size=14))
    fine: Any = build(small(patch_size=7))
    coarse = {name: value.clone() for name, value in network.state_dict().items()}
    refine(network, 7)
    found = network.state_dict()
    shapes = {name: value.shape for name, value in fine.state_dict().items()}
    assert {name: value.shape for name, value in found.items()} == shapes
    maps = coarse["patch_embed.proj.weight"].view(16, 1, 14, 14)
    kernel = layers.resample_patch_embed(maps, [7, 7])
    assert torch.equal(found["patch_embed.proj.weight"], kernel.flatten(1))
    assert torch.equal(found["patch_embed.proj.bias"], coarse["patch_embed.proj.bias"])
    places = layers.resample_abs_pos_embed(coarse["pos_embed"], [4, 4], [2, 2], 1)
    assert torch.equal(found["pos_embed"], places)
    assert network(IMAGES).shape == (4, 10)


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd", "lion"])
@pytest.mark.parametrize("grow", ["depth", "patch_size"])
def test_what_stays_keeps_its_state(small: Any, grow: str, optimizer: str) -> None:
    settings = in_full(small(grow=grow, optimizer=optimizer))
    network: Any = build(first_stage(settings))
    old = make_optimizers(network, settings)
    network(IMAGES).square().sum().backward()
    for one in old:
        one.step()
    kept = {id(p): (name, p) for name, p in network.named_parameters()}
    states = {id(p): state for one in old for p, state in one.state.items()}
    growth = Growth(settings, steps=10)
    assert [done for done in range(10) if growth.due(done)] == [5]
    new = growth.grow(network, old)
    for one in new:
        for group in one.param_groups:
            assert group["peak"] > 0
            for p in group["params"]:
                if id(p) in kept:
                    assert one.state[p] is states[id(p)]
                else:
                    assert p not in one.state
    names = dict(network.named_parameters())
    fresh = {name for name, p in names.items() if id(p) not in kept}
    if grow == "patch_size":
        assert fresh == {"patch_embed.proj.weight", "pos_embed"}
    else:
        assert fresh == {name for name in names if name.startswith("blocks.1.")}
    trained = [id(p) for one in new for group in one.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in names.values())
    network(IMAGES).square().sum().backward()
    for one in new:
        one.step()


def test_it_grows_half_way(small: Any, mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, after half of the steps, and what is evaluated is the network of the moment."""
    depths: list[int] = []
    real = gradients.gradient

    def spying(network: Any, *rest: Any) -> torch.Tensor:
        depths.append(len(network.blocks))
        return real(network, *rest)

    monkeypatch.setattr(gradients, "gradient", spying)
    settings = small(grow="depth", depth=4)
    network, log, _, _ = train.run(settings, 0, mnist, CPU, None)
    steps = steps_of(settings)
    assert depths == [2] * (steps // 2) + [4] * (steps - steps // 2)
    assert len(network.blocks) == 4
    plain = train.run(small(depth=4), 0, mnist, CPU, None)[1]
    for mine, other in zip(log.history, plain.history, strict=True):
        assert mine["learning_rate"] == other["learning_rate"]  # one schedule over all steps


def test_a_grown_network_has_the_kernel_of_its_length(small: Any) -> None:
    settings = in_full(small(grow="patch_size", patch_size=2))
    network: Any = build(first_stage(settings))
    assert not network.blocks[0].attn.fused_attn
    Growth(settings, 10).grow(network, make_optimizers(network, settings))
    assert network.blocks[0].attn.fused_attn == build(settings).blocks[0].attn.fused_attn is True


# --- Lion


def test_lion_steps_by_the_sign(small: Any) -> None:
    """Chen et al. 2023: the first step is the rate, up or down, of every weight."""
    settings = small(optimizer="lion", learning_rate=0.01, weight_decay=0)
    network = build(settings)
    (lion,) = make_optimizers(network, settings)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network(IMAGES).square().sum().backward()
    lion.step()
    for name, p in network.named_parameters():
        torch.testing.assert_close(p, before[name] - 0.01 * p.grad.sign())
    assert lion.param_groups[0]["betas"] == (0.9, 0.99)
