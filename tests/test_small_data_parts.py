"""Tokenisers, locality self-attention and dropout, each against a slow reference."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from model_tools import close, random_images, scatter, seeds, small
from vitrail import train
from vitrail.data import Mnist
from vitrail.efficiency import (
    attention_macs,
    count_macs,
    count_parameters,
    patch_embedding_macs,
    tokenizer_stages,
    tokenizer_widths,
    vit_macs,
)
from vitrail.model import (
    ConvTokenizer,
    LocalitySelfAttention,
    MultiHeadSelfAttention,
    ShiftedPatchEmbed,
    VisionTransformer,
    to_timm,
)
from vitrail.networks import build, load_run
from vitrail.optimizers import make_optimizers
from vitrail.run_folder import write_run
from vitrail.setting_checks import checked
from vitrail.settings import arm_id, run_id

Settings = dict[str, Any]
NO_TOKEN = {"class_token": False, "global_pool": "avg"}
# Each part alone and all together, as settings of an arm.
PARTS: dict[str, Settings] = {
    "conv": {"patch_embed": "conv"},
    "shifted": {"patch_embed": "shifted"},
    "lsa": {"attention": "lsa"},
    "dropout": {"drop_rate": 0.1},
    "all": {"patch_embed": "conv", "attention": "lsa", "drop_rate": 0.1, "init": "mimetic"},
}


@pytest.fixture(autouse=True)
def fixed_start() -> Any:
    """The same random numbers for every test, and deterministic kernels as in training."""
    torch.manual_seed(0)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


# --- The convolutional tokeniser


@pytest.mark.parametrize(
    ("patch", "stages", "grid"), [(2, 1, 14), (4, 2, 7), (7, 3, 4), (14, 4, 2), (28, 5, 1)]
)
def test_stages_lead_to_the_grid_of_the_patches(patch: int, stages: int, grid: int) -> None:
    tokenizer = ConvTokenizer(28, patch, 1, 64)
    assert len(tokenizer.stages) == stages == tokenizer_stages(28, patch)
    assert tokenizer.grid_size == (grid, grid)
    assert tokenizer.stages(random_images()).shape == (3, 64, grid, grid)
    assert tokenizer(random_images()).shape == (3, grid**2, 64)
    linear = small(patch_size=patch)
    model = small(patch_size=patch, patch_embed="conv")
    assert model.embed(random_images()).shape == linear.embed(random_images()).shape
    assert model(random_images()).shape == (3, 10)


def convolved(maps: Tensor, kernel: Tensor) -> Tensor:
    """A 3x3 convolution with a border of zeros, pixel by pixel: (C, H, W) -> (K, H, W)."""
    _, height, width = maps.shape
    out = torch.zeros(len(kernel), height, width)
    for row in range(height):
        for column in range(width):
            for i in range(3):
                for j in range(3):
                    y, x = row + i - 1, column + j - 1
                    if 0 <= y < height and 0 <= x < width:
                        out[:, row, column] += kernel[:, :, i, j] @ maps[:, y, x]
    return out


def pooled(maps: Tensor) -> Tensor:
    """The largest of 3x3 around every second pixel: (C, H, W) -> (C, ceil(H/2), ceil(W/2))."""
    _, height, width = maps.shape
    rows = [
        torch.stack(
            [
                maps[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].amax(dim=(1, 2))
                for x in range(0, width, 2)
            ],
            dim=1,
        )
        for y in range(0, height, 2)
    ]
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(("size", "patch"), [(12, 4), (7, 7), ((8, 16), 4)])
def test_convolutions_by_loops(size: Any, patch: int) -> None:
    tokenizer = ConvTokenizer(size, patch, 2, 8)
    images = torch.randn(2, 2, *tokenizer.img_size)
    for image, tokens in zip(images, tokenizer(images), strict=True):
        maps = image
        for convolution in tokenizer.parameters():
            maps = pooled(convolved(maps, convolution.detach()).clamp(min=0))
        rows, columns = tokenizer.grid_size
        for row in range(rows):  # tokens come in reading order
            for column in range(columns):
                close(tokens[row * columns + column], maps[:, row, column])


def test_maps_double_up_to_the_width_of_a_token() -> None:
    assert tokenizer_widths(3, 64) == [16, 32, 64]
    assert tokenizer_widths(5, 8) == [1, 1, 2, 4, 8]
    kernels = [tuple(p.shape) for p in ConvTokenizer(28, 7, 1, 64).parameters()]
    assert kernels == [(16, 1, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]


def test_convolutions_start_as_in_cct() -> None:
    """Normal with variance 2 / inputs (He et al. 2015), whatever starts the blocks."""
    for init in ("xavier", "timm"):
        tokenizer = small_start(patch_embed="conv", embed_dim=128, init=init).patch_embed
        for kernel in list(tokenizer.parameters())[1:]:
            assert kernel.std().item() == pytest.approx(math.sqrt(2 / kernel[0].numel()), rel=0.03)


def small_start(**changes: Any) -> VisionTransformer:
    """A ViT at its start."""
    arguments: Settings = {"embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    return VisionTransformer(28, 7, 1, 10, **{**arguments, **changes})


def test_tokens_move_with_the_image() -> None:
    """By one step of the grid, inside; linear patches of the same image know no overlap."""
    tokenizer = ConvTokenizer(64, 8, 1, 16)
    image = torch.zeros(1, 1, 64, 64)
    image[:, :, 24:40, 24:40] = torch.randn(16, 16)
    tokens = tokenizer(image).view(8, 8, 16)
    moved = tokenizer(image.roll((8, 8), dims=(2, 3))).view(8, 8, 16)
    close(moved[1:], tokens.roll((1, 1), dims=(0, 1))[1:])
    assert tokens.abs().max() > 0.1
    # A pixel reaches the tokens of the patches around its own.
    other = image.clone()
    other[:, :, 31, 31] += 1
    changed = (tokenizer(other).view(8, 8, 16) != tokens).any(dim=-1)
    assert changed.sum() > 1


# --- Shifted patches


@pytest.mark.parametrize(("size", "patch", "channels"), [(28, 7, 1), (12, 4, 3), ((8, 12), 2, 2)])
def test_shifted_patches_by_loops(size: Any, patch: int, channels: int) -> None:
    """Every value of every patch of the five images, its mean and its deviation."""
    embed = ShiftedPatchEmbed(size, patch, channels, 6)
    scatter(embed, spread=0.3)
    height, width = embed.img_size
    images = torch.randn(2, channels, height, width)
    half, columns = patch // 2, width // patch
    found = embed(images)
    for image, tokens in zip(images, found, strict=True):
        for token, vector in enumerate(tokens):
            top, left = token // columns * patch, token % columns * patch
            values = []
            # A copy that is moved up shows at (y, x) what was further down, and so on.
            for down, right in ((0, 0), (half, half), (half, -half), (-half, half), (-half, -half)):
                for channel in range(channels):
                    for y in range(top + down, top + down + patch):
                        for x in range(left + right, left + right + patch):
                            inside = 0 <= y < height and 0 <= x < width
                            values.append(image[channel, y, x].item() if inside else 0.0)
            patches = torch.tensor(values)
            deviation = (patches.var(correction=0) + embed.norm.eps).sqrt()
            normalised = (patches - patches.mean()) / deviation
            normalised = normalised * embed.norm.weight + embed.norm.bias
            close(vector, embed.proj.weight @ normalised + embed.proj.bias)


def test_shifted_patches_do_not_see_brightness() -> None:
    """Their layer norm takes away the size and the mean of a patch, away from the border."""
    embed = ShiftedPatchEmbed(28, 4, 1, 8)
    images = random_images(2)
    inner = torch.zeros(7, 7, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    tokens, other = embed(images), embed(3 * images + 2)
    close(tokens[:, inner.flatten()], other[:, inner.flatten()], atol=1e-4)
    assert (tokens - other)[:, ~inner.flatten()].abs().max() > 1e-3


# --- Locality self-attention

LSA = [
    LocalitySelfAttention(16, 4),
    LocalitySelfAttention(16, 4, fused_attn=False),
    LocalitySelfAttention(16, 3, head_dim=5, qkv_bias=False),
]


@pytest.mark.parametrize("attention", LSA)
def test_locality_attention_by_loops(attention: LocalitySelfAttention) -> None:
    scatter(attention, spread=0.3)
    x = torch.randn(2, 7, 16)
    query, key, value = attention.split_heads(x)
    heads = torch.zeros(2, attention.num_heads, 7, attention.head_dim)
    weights = torch.zeros(2, attention.num_heads, 7, 7)
    for image in range(2):
        for head in range(attention.num_heads):
            for i in range(7):
                others = [j for j in range(7) if j != i]
                logits = [
                    (query[image, head, i] @ key[image, head, j] / attention.temperature).item()
                    for j in others
                ]
                total = sum(math.exp(logit) for logit in logits)
                for j, logit in zip(others, logits, strict=True):
                    weights[image, head, i, j] = math.exp(logit) / total
                    heads[image, head, i] += weights[image, head, i, j] * value[image, head, j]
    close(attention.weights(x), weights)
    close(attention(x), attention.proj(heads.transpose(1, 2).flatten(2)))


@given(seeds, st.integers(2, 12))
def test_nobody_sees_itself(seed: int, tokens: int) -> None:
    torch.manual_seed(seed)
    attention = LocalitySelfAttention(8, 2)
    weights = attention.weights(3 * torch.randn(2, tokens, 8))
    assert (weights.diagonal(dim1=-2, dim2=-1) == 0).all()
    close(weights.sum(dim=-1), torch.ones(2, 2, tokens))
    assert (weights >= 0).all()


def test_without_the_mask_it_is_softmax_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start: the temperature is the root of the width of a head."""
    attention = LocalitySelfAttention(16, 4, fused_attn=False)
    plain = MultiHeadSelfAttention(16, 4)
    plain.load_state_dict({k: v for k, v in attention.state_dict().items() if k != "temperature"})
    assert attention.temperature.item() == 2.0
    x = torch.randn(2, 9, 16)
    assert (attention(x) - plain(x)).abs().max() > 1e-3
    monkeypatch.setattr(torch, "eye", lambda n, **kwargs: torch.zeros(n, n, **kwargs))
    close(attention(x), plain(x))
    close(attention.weights(x), plain.weights(x))


@pytest.mark.parametrize("fused", [True, False])
def test_the_temperature_learns(fused: bool) -> None:
    """Its gradient is that of the loss, measured by a small step either way."""
    attention = LocalitySelfAttention(16, 4, fused_attn=fused).double()
    x = torch.randn(2, 9, 16, dtype=torch.float64)

    def loss() -> Tensor:
        return attention(x).square().sum()

    loss().backward()
    found = attention.temperature.grad
    assert found is not None
    with torch.no_grad():
        attention.temperature += 1e-5
        above = loss()
        attention.temperature -= 2e-5
        below = loss()
    assert found.item() == pytest.approx(((above - below) / 2e-5).item(), rel=1e-5)
    assert abs(found.item()) > 1e-4


def test_order_of_tokens_is_nothing_to_locality_attention() -> None:
    attention, x = LocalitySelfAttention(16, 4), torch.randn(2, 9, 16)
    order = torch.randperm(9)
    close(attention(x[:, order]), attention(x)[:, order])


def test_maps_of_the_whole_model() -> None:
    model = small(attention="lsa")
    maps = model.attention_maps(random_images())
    assert [tuple(found.shape) for found in maps] == [(3, 4, 17, 17)] * 2
    for found in maps:
        assert (found.diagonal(dim1=-2, dim2=-1) == 0).all()  # the class token's too


@pytest.mark.parametrize("init", ["xavier", "timm", "zero_residual", "mimetic"])
def test_blocks_start_alike(init: str) -> None:
    """With the numbers that the base ViT draws, whatever the attention."""
    torch.manual_seed(0)
    plain = dict(small_start(init=init).blocks.named_parameters())
    torch.manual_seed(0)
    blocks = dict(small_start(init=init, attention="lsa").blocks.named_parameters())
    temperatures = {f"{block}.attn.temperature" for block in range(2)}
    assert set(blocks) - set(plain) == temperatures
    for name, parameter in plain.items():
        assert torch.equal(parameter, blocks[name]), name
    for name in temperatures:
        assert blocks[name].item() == pytest.approx(math.sqrt(8))


# --- Dropout


def test_without_dropout_nothing_changes() -> None:
    """Bit for bit, and no random number is drawn."""
    model, plain = small(drop_rate=0).train(), small().train()
    state = torch.get_rng_state()
    assert torch.equal(model(random_images()), plain(random_images()))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_dropout_is_for_training(norm: str) -> None:
    model, plain = small(drop_rate=0.5, norm=norm), small(norm=norm)
    images = random_images()
    assert torch.equal(model(images), plain(images))
    assert torch.equal(model.train().embed(images), plain.embed(images))
    torch.manual_seed(1)
    first = model(images)
    torch.manual_seed(1)
    assert torch.equal(model(images), first)
    assert (model(images) - first).abs().max() > 1e-3


@pytest.mark.parametrize("attention", ["softmax", "linear", "lsa"])
def test_where_units_are_dropped(attention: str) -> None:
    """After the positions, the attention's projection and both layers of the MLP, nowhere else."""
    model: Any = small(drop_rate=0.25, attention=attention).train()
    calls: list[tuple[Tensor, Tensor]] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(
                lambda module, args, output: calls.append((args[0].detach(), output.detach()))
            )
    wanted: list[Tensor] = []
    block = model.blocks[0]
    for module in (block.attn.proj, block.mlp.act, block.mlp.fc2):
        module.register_forward_hook(
            lambda module, args, output: wanted.append(output.detach().clone())
        )
    images = random_images(20)
    model(images)
    assert len(calls) == 1 + 3 * 2
    assert torch.equal(calls[0][0], model.embed(images))
    for (given_, dropped), expected in zip(calls[1:4], wanted, strict=True):
        assert torch.equal(given_, expected)
        gone = (dropped == 0) & (given_ != 0)
        assert gone.float().mean().item() == pytest.approx(0.25, abs=0.03)
        close(dropped[~gone], given_[~gone] / 0.75)


@pytest.mark.parametrize("rate", [-0.1, 1])
def test_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ValueError, match="drop_rate must be"):
        small(drop_rate=rate)


# --- Costs


@pytest.mark.parametrize("patch", [2, 4, 7, 14, 28])
@pytest.mark.parametrize("kind", ["linear", "conv", "shifted"])
def test_work_of_the_whole_model(kind: str, patch: int) -> None:
    model = small(patch_size=patch, patch_embed=kind)
    sizes: Settings = {"img_size": 28, "patch_size": patch, "in_chans": 1, "num_classes": 10}
    sizes |= {"embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0, "patch_embed": kind}
    macs = vit_macs(**sizes)
    assert count_macs(model, random_images(2)) == 2 * macs["total"]
    assert count_macs(model.patch_embed, random_images(2)) == 2 * macs["patch_embedding"]


def test_work_of_the_patch_embeddings_of_the_base_vit() -> None:
    """By hand: 16 patches of 49 pixels; three stages at 28, 14 and 7 pixels."""
    assert patch_embedding_macs("linear", 28, 7, 1, 64) == 16 * 49 * 64
    assert patch_embedding_macs("shifted", 28, 7, 1, 64) == 16 * 5 * 49 * 64
    stages = 9 * (28**2 * 16 + 14**2 * 16 * 32 + 7**2 * 32 * 64)
    assert patch_embedding_macs("conv", 28, 7, 1, 64) == stages == 1_919_232
    base: Settings = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    base |= {"embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 2}
    whole = [vit_macs(**base, patch_embed=kind)["total"] for kind in ("linear", "conv")]
    assert 1.5 < whole[1] / whole[0] < 2


@pytest.mark.parametrize("fused", [True, False])
def test_work_of_locality_attention(fused: bool) -> None:
    attention = LocalitySelfAttention(32, 4, fused_attn=fused)
    assert count_macs(attention, torch.zeros(3, 17, 32)) == 3 * attention_macs(17, 32)
    plain = count_parameters(MultiHeadSelfAttention(32, 4))
    assert count_parameters(attention) == plain + 1
    model, base = small(attention="lsa"), small()
    assert count_macs(model, random_images()) == count_macs(base, random_images())


# --- In training


def arm(config: Settings, **changes: Any) -> Settings:
    """A ViT that learns the stand-in for MNIST in a second or two."""
    tiny = {"embed_dim": 16, "depth": 2, "num_heads": 2, "train_size": 500, "validation": 100}
    tiny |= {"epochs": 5, "batch_size": 32, "learning_rate": 0.01, "evaluations": 3}
    return checked({**config["defaults"], "validation": 100}, {**tiny, **changes}, "a test")


@pytest.mark.parametrize("part", PARTS)
def test_it_learns_and_repeats_itself(
    config: Settings, mnist: Mnist, tmp_path: Any, part: str
) -> None:
    settings = arm(config, **PARTS[part])
    network, log, logits, summary = train.run(settings, 0, mnist, torch.device("cpu"), None)
    assert summary["test_accuracy"] > 0.9
    again = train.run(settings, 0, mnist, torch.device("cpu"), None)
    assert again[1].history == log.history
    assert again[2].tobytes() == logits.tobytes()
    tables = {"history.csv": log.history, "timing.csv": log.seconds}
    folder = tmp_path / run_id(arm_id(settings), 0)
    write_run(folder, settings, 0, summary, {}, (network, tables, logits))
    images = train.pixels(mnist.test_images, settings, torch.device("cpu"))
    found = train.logits_of(load_run(folder), images, "fp32")
    assert found.numpy().tobytes() == logits.tobytes()
    plain = train.run(arm(config), 0, mnist, torch.device("cpu"), None)
    assert plain[2].tobytes() != logits.tobytes()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "lion"])
def test_who_trains_the_parts(config: Settings, optimizer: str) -> None:
    """Convolutions decay and are none of Muon's; the temperature does not decay."""
    settings = arm(config, **PARTS["all"], optimizer=optimizer, weight_decay=0.1)
    network = build(settings)
    names = {id(p): name for name, p in network.named_parameters()}
    for found in make_optimizers(network, settings):
        mine = {
            names[id(p)]: group["weight_decay"]
            for group in found.param_groups
            for p in group["params"]
        }
        if type(found).__name__ == "Muon":
            assert all(name.endswith("weight") and name.startswith("blocks.") for name in mine)
            continue
        assert mine["blocks.0.attn.temperature"] == mine["blocks.1.attn.temperature"] == 0
        convolutions = [name for name in mine if name.startswith("patch_embed.stages")]
        assert len(convolutions) == 3
        assert all(mine[name] == 0.1 for name in convolutions)
    before = copy.deepcopy(network.state_dict())
    network(random_images()).square().sum().backward()
    for found in make_optimizers(network, settings):
        found.step()
    for name in ("blocks.0.attn.temperature", "patch_embed.stages.0.0.weight"):
        assert not torch.equal(network.state_dict()[name], before[name]), name


@pytest.mark.parametrize(
    "changes", [{"grow": "depth"}, {"sam_radius": 0.05}, {"precision": "bf16"}]
)
def test_parts_beside_other_ways_to_train(
    config: Settings, mnist: Mnist, changes: Settings
) -> None:
    settings = arm(config, **PARTS["all"], **changes, optimizer="muon", epochs=1)
    log = train.run(settings, 0, mnist, torch.device("cpu"), None)[1]
    assert math.isfinite(log.history[-1]["val_loss"])


# --- What does not fit together


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("patch_embed", {"patch_embed": "overlapping"}),
        (r"patch_size \(1, 1\)", {"patch_embed": "conv", "patch_size": 1}),
        ("half a patch", {"patch_embed": "shifted", "patch_size": 1}),
        ("halves the image", {"patch_embed": "conv", "img_size": (28, 56), "patch_size": 7}),
        ("halves the image", {"patch_embed": "conv", "img_size": 30, "patch_size": 3}),
        ("two tokens", {"attention": "lsa", "patch_size": 28, **NO_TOKEN}),
        ("two tokens", {"attention": "lsa", "patch_size": 14, "patch_drop_rate": 0.7, **NO_TOKEN}),
    ],
)
def test_bad_arguments_are_named(name: str, changes: Settings) -> None:
    with pytest.raises(ValueError, match=name):
        small(**changes)


@pytest.mark.parametrize("kind", ["conv", "shifted"])
def test_images_of_another_size_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"images have shape \(1, 14, 14\)"):
        small(patch_embed=kind)(random_images(size=14))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ConvTokenizer", {"patch_embed": "conv"}),
        ("ShiftedPatchEmbed", {"patch_embed": "shifted"}),
        ("LocalitySelfAttention", {"attention": "lsa"}),
        ("drop_rate", {"drop_rate": 0.1}),
    ],
)
def test_timm_has_no_such_part(name: str, changes: Settings) -> None:
    with pytest.raises(ValueError, match=f"to_timm: {name} is not supported"):
        to_timm(small(**changes))
