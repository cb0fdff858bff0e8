"""Each part of the model equals PyTorch's and timm's with the same weights.

Compared are the output and the gradients of the input and of all weights. The whole model
beside timm's is in test_model_timm.py.
"""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import Mlp as TimmMlp
from timm.layers import PatchEmbed as TimmPatchEmbed
from timm.models.vision_transformer import Attention as TimmAttention
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from model_tools import assert_same, by_name, close, gradients, random_images, scatter, seeds, small
from vitrail.model import Block, Mlp, MultiHeadSelfAttention, PatchEmbed, SelfAttention
from vitrail.model.patch_embedding import cut_patches


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


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
    """The same as F.unfold with a linear layer, as conv2d, as timm's layer."""
    torch.manual_seed(seed)
    size = (patch[0] * grid[0], patch[1] * grid[1])
    ours = PatchEmbed(size, patch, channels, width)
    images = torch.randn(2, channels, *size)
    assert ours(images).shape == (2, grid[0] * grid[1], width)

    def unfold(x: Tensor) -> Tensor:
        return F.unfold(x, kernel_size=patch, stride=patch).transpose(1, 2)

    close(cut_patches(images, patch), unfold(images), atol=0, rtol=0)
    weight, bias = ours.proj.weight, ours.proj.bias
    same = [(weight, weight), (bias, bias)]
    assert_same(ours, lambda x: F.linear(unfold(x), weight, bias), images, same)
    assert_same(ours, ours.as_convolution, images, same)

    theirs = TimmPatchEmbed(size, patch, channels, width)
    with torch.no_grad():
        theirs.proj.weight.copy_(weight.view(width, channels, *patch))
        theirs.proj.bias.copy_(bias)
    assert_same(ours, theirs, images, [(weight, theirs.proj.weight), (bias, theirs.proj.bias)])


# --- Q2: MLP


@pytest.mark.parametrize(("act", "layer"), [("gelu", nn.GELU), ("relu", nn.ReLU)])
def test_mlp_is_torchs_layers_and_timms(act: str, layer: type[nn.Module]) -> None:
    ours = scatter(Mlp(6, 15, act), spread=0.3)  # type: ignore[arg-type]
    torchs = nn.Sequential(nn.Linear(6, 15), layer(), nn.Linear(15, 6))
    torchs.load_state_dict(
        {f"{2 * (int(name[2]) - 1)}{name[3:]}": value for name, value in ours.state_dict().items()}
    )
    x = torch.randn(2, 5, 6)
    assert_same(ours, torchs, x, zip(ours.parameters(), torchs.parameters(), strict=True))
    timms = TimmMlp(6, 15, act_layer=layer)
    timms.load_state_dict(ours.state_dict())
    assert_same(ours, timms, x, by_name(ours, timms))


# --- Q3 and Q4: self-attention with one head, then with many


def head_by_head(attention: SelfAttention | MultiHeadSelfAttention, x: Tensor) -> Tensor:
    """Each head alone by F.scaled_dot_product_attention, with its own rows of the weights."""
    heads = getattr(attention, "num_heads", 1)
    weights = attention.qkv.weight.chunk(3)
    biases = [None] * 3 if attention.qkv.bias is None else attention.qkv.bias.chunk(3)
    width = len(weights[0]) // heads
    out = []
    for head in range(heads):
        rows = slice(head * width, (head + 1) * width)
        projected = (
            F.linear(x, weight[rows], None if bias is None else bias[rows])
            for weight, bias in zip(weights, biases, strict=True)
        )
        out.append(F.scaled_dot_product_attention(*projected))
    return attention.proj(torch.cat(out, dim=-1))


def assert_same_as_torch(ours: SelfAttention | MultiHeadSelfAttention, heads: int) -> None:
    """As `nn.MultiheadAttention`, its attention weights included."""
    x = torch.randn(2, 7, ours.proj.out_features)
    theirs = nn.MultiheadAttention(x.shape[-1], heads, batch_first=True)
    pairs = [
        (ours.qkv.weight, theirs.in_proj_weight),
        (ours.qkv.bias, theirs.in_proj_bias),
        (ours.proj.weight, theirs.out_proj.weight),
        (ours.proj.bias, theirs.out_proj.bias),
    ]
    with torch.no_grad():
        for mine, other in pairs:
            other.copy_(mine)
    call = functools.partial(theirs, average_attn_weights=False)
    assert_same(ours, lambda x: call(x, x, x)[0], x, pairs)
    expected = call(x, x, x)[1]
    close(ours.weights(x), expected[:, 0] if isinstance(ours, SelfAttention) else expected)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_is_torchs_with_one_head(fused: bool, bias: bool) -> None:
    ours = scatter(SelfAttention(12, qkv_bias=bias, fused_attn=fused), spread=0.2)
    x = torch.randn(2, 5, 12)
    same = [(parameter, parameter) for parameter in ours.parameters()]
    assert_same(ours, functools.partial(head_by_head, ours), x, same)
    if bias:  # nn.MultiheadAttention has all biases or none
        assert_same_as_torch(ours, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_multi_head_is_torchs(heads: int, fused: bool) -> None:
    ours = scatter(MultiHeadSelfAttention(16, heads, fused_attn=fused), heads, spread=0.2)
    assert_same_as_torch(ours, heads)  # type: ignore[arg-type]


@given(
    width=st.integers(1, 12),
    heads=st.integers(1, 5),
    head_dim=st.integers(1, 6),
    bias=st.booleans(),
    fused=st.booleans(),
    seed=seeds,
)
def test_heads_side_by_side_are_heads_one_by_one(
    width: int, heads: int, head_dim: int, bias: bool, fused: bool, seed: int
) -> None:
    """Also where the heads have a width of their own, that does not divide D."""
    torch.manual_seed(seed)
    ours = scatter(
        MultiHeadSelfAttention(width, heads, bias, fused, head_dim=head_dim), seed, spread=0.3
    )
    x = torch.randn(2, 4, width)
    assert ours.split_heads(x)[0].shape == (2, heads, 4, head_dim)  # type: ignore[operator]
    mine = gradients(ours, x, ours.parameters())
    other = gradients(functools.partial(head_by_head, ours), x, ours.parameters())  # type: ignore[arg-type]
    for found, expected in zip(mine, other, strict=True):
        close(found, expected)


def test_heads_of_their_own_width_are_timms() -> None:
    ours = scatter(MultiHeadSelfAttention(16, 3, head_dim=10), spread=0.2)
    theirs = TimmAttention(16, 3, attn_head_dim=10, qkv_bias=True)
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs, torch.randn(2, 7, 16), by_name(ours, theirs))


def test_one_head_is_self_attention() -> None:
    many, one = MultiHeadSelfAttention(12, 1), SelfAttention(12)
    one.load_state_dict(scatter(many).state_dict())
    x = torch.randn(2, 5, 12)
    assert_same(many, one, x, by_name(many, one))
    close(many.weights(x)[:, 0], one.weights(x))


# --- Q5: the block


@pytest.mark.parametrize("bias", [True, False])
def test_pre_norm_block_is_timms(bias: bool) -> None:
    theirs = TimmBlock(
        24, 4, mlp_ratio=3, qkv_bias=bias, norm_layer=functools.partial(nn.LayerNorm, eps=1e-6)
    )
    ours = Block(24, 4, 3, bias)
    ours.load_state_dict(scatter(theirs, spread=0.2).state_dict())
    assert_same(ours, theirs, torch.randn(2, 7, 24), by_name(ours, theirs), atol=3e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_both_blocks_are_torchs_encoder_layers(act: str, norm: str) -> None:
    ours = scatter(Block(16, 4, 2, act=act, norm=norm), spread=0.2)  # type: ignore[arg-type]
    theirs = nn.TransformerEncoderLayer(
        16, 4, 32, dropout=0.0, activation=act, layer_norm_eps=1e-6, batch_first=True,
        norm_first=norm == "pre",
    )  # fmt: skip
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj.": "self_attn.out_proj."}
    names |= {"mlp.fc1.": "linear1.", "mlp.fc2.": "linear2."}
    other, pairs = dict(theirs.named_parameters()), []
    for name, parameter in ours.named_parameters():
        for old, new in names.items():
            name = name.replace(old, new)
        pairs.append((parameter, other.pop(name)))
    assert not other
    with torch.no_grad():
        for mine, copy in pairs:
            copy.copy_(mine)
    assert_same(ours, theirs, torch.randn(2, 7, 16), pairs, atol=3e-5)


# --- The fused kernel and the written-out form


@pytest.mark.parametrize(
    "changes", [{}, {"num_heads": 1}, {"norm": "post"}, {"num_heads": 3, "head_dim": 9}], ids=str
)
def test_fused_model_is_the_written_out_one(changes: dict[str, object]) -> None:
    fused, plain = small(**changes), small(**changes, fused_attn=False)
    assert_same(fused, plain, random_images(), by_name(fused, plain), atol=1e-4)
