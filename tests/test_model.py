"""The model: equal to PyTorch's and timm's with the same weights, and its properties."""

from __future__ import annotations

import functools
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import PatchEmbed as TimmPatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from vitrail.model import (
    Block,
    Mlp,
    MultiHeadSelfAttention,
    PatchEmbed,
    SelfAttention,
    VisionTransformer,
    attention_weights,
    from_timm,
    sinusoidal,
    sinusoidal_1d,
    sinusoidal_2d,
)
from vitrail.model.attention import attend, logit_variance
from vitrail.model.patch_embedding import cut_patches

torch.set_num_threads(1)
close = functools.partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
seeds = st.integers(0, 2**32 - 1)


def scatter(module: nn.Module, seed: int = 0, spread: float = 0.05) -> nn.Module:
    """Random values everywhere: with zero biases and unit norms a swap would not be seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return module


def small(**changes: object) -> VisionTransformer:
    """A small ViT in evaluation mode, no weight at its initial value."""
    arguments = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    arguments |= {"embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    torch.manual_seed(0)
    return scatter(VisionTransformer(**{**arguments, **changes})).eval()  # type: ignore[arg-type]


def random_images(count: int = 3, size: int = 28, channels: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator)


def gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """(output, gradient of a fixed weighted sum of it with respect to the input)."""
    x = x.clone().requires_grad_()
    out = module(x)
    out = out[0] if isinstance(out, tuple) else out
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    (slope,) = torch.autograd.grad((out * weights).sum(), x)
    return out.detach(), slope


# --- Q1: patch embedding


@given(
    patch=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 3),
    width=st.integers(1, 9),
    seed=seeds,
)
def test_patch_embedding_is_a_convolution(
    patch: tuple[int, int], grid: tuple[int, int], channels: int, width: int, seed: int
) -> None:
    """The same numbers as F.unfold with a linear layer, as conv2d, as timm's layer."""
    torch.manual_seed(seed)
    size = (patch[0] * grid[0], patch[1] * grid[1])
    ours = PatchEmbed(size, patch, channels, width)
    images = torch.randn(2, channels, *size)
    tokens = ours(images)
    assert tokens.shape == (2, grid[0] * grid[1], width)

    unfolded = F.unfold(images, kernel_size=patch, stride=patch).transpose(1, 2)
    close(cut_patches(images, patch), unfolded, atol=0, rtol=0)
    close(tokens, ours.proj(unfolded))
    close(tokens, ours.as_convolution(images))

    theirs = TimmPatchEmbed(size, patch, channels, width)
    with torch.no_grad():
        theirs.proj.weight.copy_(ours.proj.weight.view(width, channels, *patch))
        theirs.proj.bias.copy_(ours.proj.bias)
    close(tokens, theirs(images))


def test_patches_come_in_reading_order() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert cut_patches(image, (2, 2)).tolist() == [
        [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    ]


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
    close(mlp(x), F.linear(hidden, mlp.fc2.weight, mlp.fc2.bias))


def test_mlp_treats_every_token_alike() -> None:
    mlp, x = Mlp(6, 10), torch.randn(2, 5, 6)
    order = torch.randperm(5)
    close(mlp(x[:, order]), mlp(x)[:, order])
    assert Mlp(6).fc1.out_features == 6


# --- Q3: self-attention


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(1, 8)),
    size=st.floats(0.1, 50),
    seed=seeds,
)
def test_attention_is_a_weighted_mean(
    shape: tuple[int, int, int, int], size: float, seed: int
) -> None:
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


def test_attention_of_two_tokens_by_hand() -> None:
    query = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    key = torch.tensor([[2.0, 9.0, 9.0, 9.0], [0.0, 9.0, 9.0, 9.0]])
    first = math.e / (math.e + 1)  # logits 2 / sqrt(4) and 0
    close(attention_weights(query, key), torch.tensor([[first, 1 - first], [0.5, 0.5]]))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_is_torchs_with_one_head(fused: bool, bias: bool) -> None:
    ours = scatter(SelfAttention(12, qkv_bias=bias, fused_attn=fused))
    x = torch.randn(2, 5, 12)
    query, key, value = (
        F.linear(x, weight, None if ours.qkv.bias is None else ours.qkv.bias[12 * i : 12 * (i + 1)])
        for i, weight in enumerate(ours.qkv.weight.chunk(3))
    )
    close(ours(x), ours.proj(F.scaled_dot_product_attention(query, key, value)))
    if bias:
        assert_same_as_torch(ours, 1, x)


def assert_same_as_torch(
    ours: SelfAttention | MultiHeadSelfAttention, heads: int, x: Tensor
) -> None:
    """Output, gradient and attention weights equal those of nn.MultiheadAttention."""
    theirs = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.proj.weight)
        theirs.out_proj.bias.copy_(ours.proj.bias)

    class Self(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return theirs(tokens, tokens, tokens, average_attn_weights=False)[0]

    for mine, other in zip(gradients(ours, x), gradients(Self(), x), strict=True):
        close(mine, other)
    expected = theirs(x, x, x, average_attn_weights=False)[1]
    close(ours.weights(x), expected[:, 0] if isinstance(ours, SelfAttention) else expected)


def test_scale_keeps_the_variance_of_logits_at_one() -> None:
    for width in (4, 64, 256):
        before, after = logit_variance(width)
        assert before == pytest.approx(width, rel=0.1)
        assert after == pytest.approx(1, rel=0.1)
        assert before / after == pytest.approx(width, rel=1e-4)


# --- Q4: many heads


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_multi_head_is_torchs(heads: int, fused: bool) -> None:
    ours = scatter(MultiHeadSelfAttention(16, heads, fused_attn=fused), seed=heads)
    assert_same_as_torch(ours, heads, torch.randn(2, 7, 16))  # type: ignore[arg-type]


def test_one_head_is_self_attention() -> None:
    many, one = MultiHeadSelfAttention(12, 1), SelfAttention(12)
    one.load_state_dict(scatter(many).state_dict())
    x = torch.randn(2, 5, 12)
    close(many(x), one(x))
    close(many.weights(x)[:, 0], one.weights(x))


@given(heads=st.integers(1, 4), width=st.integers(1, 5), tokens=st.integers(2, 9), seed=seeds)
def test_multi_head_moves_with_its_tokens(heads: int, width: int, tokens: int, seed: int) -> None:
    """Permuting the tokens permutes the outputs alike."""
    torch.manual_seed(seed)
    attention = scatter(MultiHeadSelfAttention(heads * width, heads), seed, 0.5)
    x = torch.randn(2, tokens, heads * width)
    order = torch.randperm(tokens)
    close(attention(x[:, order]), attention(x)[:, order], atol=1e-4, rtol=1e-4)


def test_multi_head_is_not_invariant() -> None:
    attention, x = scatter(MultiHeadSelfAttention(16, 4)), torch.randn(1, 6, 16)
    difference = attention(x.flip(1)) - attention(x)
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize("heads", [0, 3, -4, 128])
def test_heads_must_divide_the_width(heads: int) -> None:
    with pytest.raises(ValueError, match="num_heads"):
        MultiHeadSelfAttention(64, heads)


# --- Q5: the block


@pytest.mark.parametrize("bias", [True, False])
def test_pre_norm_block_is_timms(bias: bool) -> None:
    theirs = TimmBlock(
        24, 4, mlp_ratio=3, qkv_bias=bias, norm_layer=functools.partial(nn.LayerNorm, eps=1e-6)
    )
    ours = Block(24, 4, 3, bias)
    ours.load_state_dict(scatter(theirs, spread=0.2).state_dict())
    x = torch.randn(2, 7, 24)
    for mine, other in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        close(mine, other)


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_post_norm_block_is_torchs_encoder_layer(act: str) -> None:
    ours = scatter(Block(16, 4, 2, act=act, norm="post"), spread=0.2)  # type: ignore[arg-type]
    theirs = nn.TransformerEncoderLayer(
        16, 4, 32, dropout=0.0, activation=act, layer_norm_eps=1e-6, batch_first=True
    )
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj.": "self_attn.out_proj."}
    names |= {"mlp.fc1.": "linear1.", "mlp.fc2.": "linear2."}
    state = {}
    for name, value in ours.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = value
    theirs.load_state_dict(state)
    x = torch.randn(2, 7, 16)
    for mine, other in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        close(mine, other)


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


# --- Q6: the whole model


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
    torch.manual_seed(0)
    theirs = scatter(timm.create_model(name, **arguments), spread=0.02).eval()
    ours = from_timm(theirs)
    assert not ours.training
    height, width = ours.patch_embed.img_size
    images = torch.randn(2, ours.patch_embed.in_chans, height, width)
    with torch.no_grad():
        close(ours(images), theirs(images))
        close(ours(images[:1]), ours(images)[:1])


NOT_OURS = {
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
}


@pytest.mark.parametrize("part", NOT_OURS)
def test_a_part_that_ours_lacks_is_refused_by_name(part: str) -> None:
    """Never a model that runs and gives other logits."""
    base = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    base |= {"embed_dim": 32, "depth": 1, "num_heads": 2}
    theirs = TimmVisionTransformer(**{**base, **NOT_OURS[part]})
    with pytest.raises(ValueError, match=f"(?i){part}"):
        from_timm(theirs)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), Block(8, 2)])
def test_another_model_is_refused_by_name(model: nn.Module) -> None:
    with pytest.raises(TypeError, match=type(model).__name__):
        from_timm(model)


def test_distilled_model_of_timm_is_refused() -> None:
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1)
    with pytest.raises((TypeError, ValueError), match=r"Distilled|dist_token"):
        from_timm(theirs)


@pytest.mark.parametrize(("width", "hidden"), [(196, 198), (192, 499), (64, 129), (98, 27)])
def test_hidden_width_is_kept(width: int, hidden: int) -> None:
    """The ratio of two whole numbers gives the second one back."""
    theirs = TimmVisionTransformer(
        img_size=28, patch_size=14, in_chans=1, num_classes=3, embed_dim=width, depth=1,
        num_heads=1, mlp_ratio=hidden / width + 1e-9,
    )  # fmt: skip
    assert theirs.blocks[0].mlp.fc1.out_features == hidden
    assert from_timm(theirs).blocks[0].mlp.fc1.out_features == hidden


VARIANTS = [
    {},
    {"pos_embed": "none"},
    {"pos_embed": "sinusoidal"},
    {"pos_embed": "sinusoidal_2d"},
    {"global_pool": "avg"},
    {"global_pool": "avg", "class_token": False},
    {"norm": "post"},
    {"norm": "post", "global_pool": "avg"},
    {"act": "relu"},
    {"qkv_bias": False},
    {"depth": 1, "num_heads": 1},
    {"fused_attn": False},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_gradients_reach_every_parameter(changes: dict[str, object]) -> None:
    model = small(**changes)
    F.cross_entropy(model(random_images(4)), torch.tensor([0, 1, 2, 3])).backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert still == []


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_an_image_does_not_depend_on_its_batch(changes: dict[str, object]) -> None:
    model, images = small(**changes).train(), random_images(5)
    with torch.no_grad():
        together = model(images)
        close(together[2:3], model(images[2:3]))
        others = torch.cat([100 * random_images(2, seed=1), images[2:3]])
        close(together[2:3], model(others)[2:3])


def test_fused_model_is_the_written_out_one() -> None:
    for changes in ({}, {"num_heads": 1}, {"norm": "post"}):
        fused, plain = small(**changes), small(**changes, fused_attn=False)
        for mine, other in zip(
            gradients(fused, random_images()), gradients(plain, random_images()), strict=True
        ):
            close(mine, other)


def shuffled(images: Tensor, order: Tensor, patch: int = 7) -> Tensor:
    """The same images with their patches in another order."""
    patches = F.unfold(images, patch, stride=patch)[:, :, order]
    return F.fold(patches, images.shape[-2:], patch, stride=patch)


@given(seed=seeds)
def test_without_positions_an_image_is_a_bag_of_patches(seed: int) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    for changes in ({}, {"global_pool": "avg", "class_token": False}):
        bag = small(pos_embed="none", **changes)
        with torch.no_grad():
            close(bag(shuffled(random_images(), order)), bag(random_images()), atol=1e-4)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "sinusoidal_2d"])
def test_positions_tell_patches_apart(positions: str) -> None:
    model, images = small(pos_embed=positions), random_images()
    with torch.no_grad():
        difference = model(shuffled(images, torch.arange(16).flip(0))) - model(images)
    assert difference.abs().max() > 1e-3


def test_start_of_the_tokens() -> None:
    """The class token starts near zero, learned positions near 0.02, biases at zero."""
    torch.manual_seed(0)
    model = VisionTransformer(28, 7, 1, 10, 64, 2, 4)
    assert 0 < model.cls_token.abs().max() < 1e-4
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)
    for block in model.blocks:
        assert block.attn.qkv.bias.abs().max() == 0
        # Xavier: uniform with variance 2 / (64 + 64), each of the three matrices by itself
        for part in block.attn.qkv.weight.chunk(3):
            assert part.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.05)


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


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("patch_size", {"patch_size": 5}),
        ("num_heads", {"num_heads": 5}),
        ("num_heads", {"num_heads": 0}),
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


def test_one_batch_can_be_learnt_by_heart() -> None:
    """Random labels: only a network whose every part works fits them."""
    torch.manual_seed(0)
    model = VisionTransformer(28, 7, 1, 10, 32, 2, 4, 2)
    images, labels = random_images(32), torch.randint(10, (32,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert (model(images).argmax(1) == labels).all()


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
