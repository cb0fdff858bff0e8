"""Linear and window attention: what they compute, by hand, and what it costs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from model_tools import close, random_images, scatter, small
from vitrail.efficiency import (
    attention_macs,
    count_macs,
    count_parameters,
    linear_attention_macs,
    vit_macs,
    window_attention_macs,
)
from vitrail.model import (
    LinearAttention,
    MultiHeadSelfAttention,
    VisionTransformer,
    WindowAttention,
    to_timm,
)
from vitrail.model.efficient_attention import cut_windows, join_windows

NO_TOKEN = {"class_token": False, "global_pool": "avg"}


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def with_weights(attention: MultiHeadSelfAttention, x: Tensor) -> Tensor:
    """The output that the matrix of `weights` implies."""
    _, _, value = attention.split_heads(x)
    return attention.proj((attention.weights(x) @ value).transpose(1, 2).flatten(2))


ALL = [
    LinearAttention(16, 4),
    LinearAttention(16, 3, head_dim=5),
    WindowAttention(16, 4, window_size=2),
    WindowAttention(16, 4, window_size=2, shift=1),
    WindowAttention(16, 4, window_size=3, shift=1, fused_attn=False),
    WindowAttention(16, 2, head_dim=3, window_size=3, shift=2),
]


@pytest.mark.parametrize("attention", ALL)
def test_the_output_is_that_of_the_weights(attention: MultiHeadSelfAttention) -> None:
    """And every row of them is a weighted mean."""
    scatter(attention, spread=0.3)
    x = torch.randn(2, 36, 16)
    weights = attention.weights(x)
    assert weights.shape == (2, attention.num_heads, 36, 36)
    assert (weights >= 0).all()
    close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    close(attention(x), with_weights(attention, x))


@pytest.mark.parametrize("attention", ALL)
def test_parameters_are_those_of_multi_head_attention(attention: MultiHeadSelfAttention) -> None:
    heads, width = attention.num_heads, attention.head_dim
    plain = MultiHeadSelfAttention(16, heads, head_dim=width)
    shapes = {name: p.shape for name, p in plain.named_parameters()}
    assert {name: p.shape for name, p in attention.named_parameters()} == shapes


def test_linear_attention_by_hand() -> None:
    """Weights in proportion to phi(q) . phi(k), phi(x) = x + 1 above zero and e^x below."""
    attention = LinearAttention(1, 1, qkv_bias=False)
    with torch.no_grad():
        attention.qkv.weight.copy_(torch.tensor([[1.0], [1.0], [1.0]]))
        attention.proj.weight.fill_(1)
        attention.proj.bias.zero_()
    x = torch.tensor([[[1.0], [-2.0]]])
    up, down = 2.0, math.exp(-2)
    share = up / (up + down)  # the same for both queries: one feature cancels out
    close(attention.weights(x)[0, 0], torch.tensor([[share, 1 - share]] * 2))
    close(attention(x)[0, :, 0], torch.full((2,), share - 2 * (1 - share)))


def test_linear_attention_has_no_matrix_of_all_tokens() -> None:
    """The work grows in proportion to the number of tokens, exactly."""
    attention = LinearAttention(32, 4)
    macs = [count_macs(attention, torch.zeros(1, n, 32)) for n in (10, 20, 2000)]
    assert macs == [linear_attention_macs(n, 32, 4) for n in (10, 20, 2000)]
    assert macs[1] == 2 * macs[0]
    assert macs[2] == 200 * macs[0]
    # Cheaper than softmax above n = d_k, nearly: 2 n D^2 / H against 2 n^2 D.
    assert linear_attention_macs(8, 32, 4) > attention_macs(8, 32)
    assert linear_attention_macs(9, 32, 4) < attention_macs(9, 32)


# --- Windows


@given(
    rows=st.integers(1, 4), w=st.integers(1, 4), shift=st.integers(0, 3), batch=st.integers(1, 2)
)
def test_windows_are_cut_and_joined(rows: int, w: int, shift: int, batch: int) -> None:
    x = torch.randn(batch, (rows * w) ** 2, 3)
    windows = cut_windows(x, w, shift)
    assert windows.shape == (batch, rows**2, w**2, 3)
    assert torch.equal(join_windows(windows, shift), x)


def test_windows_come_in_reading_order() -> None:
    found = cut_windows(torch.arange(16).view(1, 16, 1), 2)[0, :, :, 0]
    assert found.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    moved = cut_windows(torch.arange(16).view(1, 16, 1), 2, shift=1)[0, :, :, 0]
    assert moved[0].tolist() == [5, 6, 9, 10]
    assert moved[3].tolist() == [15, 12, 3, 0]  # the four corners


@pytest.mark.parametrize(("w", "shift"), [(2, 0), (2, 1), (3, 1), (3, 2)])
def test_who_sees_whom(w: int, shift: int) -> None:
    """Tokens whose rows and columns lie between the same borders, counted without wrapping."""
    side = 6
    attention = WindowAttention(8, 2, window_size=w, shift=shift)
    seen = attention.weights(torch.randn(1, side**2, 8))[0, 0] > 0
    piece = [(place + w - shift) // w for place in range(side)]  # borders at shift + k w
    for i in range(side**2):
        for j in range(side**2):
            rows, columns = divmod(i, side), divmod(j, side)
            same = all(piece[a] == piece[b] for a, b in zip(rows, columns, strict=True))
            assert seen[i, j] == same, (i, j)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("fused", [True, False])
def test_one_window_is_softmax_attention(shift: int, fused: bool) -> None:
    plain = MultiHeadSelfAttention(16, 4)
    windows = WindowAttention(16, 4, window_size=5, shift=shift, fused_attn=fused)
    windows.load_state_dict(plain.state_dict())
    x = torch.randn(2, 25, 16)
    close(windows(x), plain(x))
    close(windows.weights(x), plain.weights(x))


@pytest.mark.parametrize(("n", "w", "shift"), [(16, 2, 0), (16, 2, 1), (36, 3, 1), (49, 7, 3)])
@pytest.mark.parametrize("fused", [True, False])
def test_work_of_windows(n: int, w: int, shift: int, fused: bool) -> None:
    attention = WindowAttention(32, 4, window_size=w, shift=shift, fused_attn=fused)
    assert count_macs(attention, torch.zeros(3, n, 32)) == 3 * window_attention_macs(n, 32, w)


@pytest.mark.parametrize("tokens", [17, 15, 9])
def test_tokens_that_fit_no_windows_are_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match=f"window_size 2 divides, not {tokens} tokens"):
        WindowAttention(8, 2, window_size=2)(torch.zeros(1, tokens, 8))


# --- In the whole model


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "linear"},
        {"attention": "linear", "num_heads": 3, "head_dim": 10},
        {"attention": "linear", **NO_TOKEN},
        {"attention": "window", "window_size": 2, **NO_TOKEN},
        {"attention": "window", "window_size": 4, **NO_TOKEN, "patch_size": 7},
        {"attention": "window", "window_size": 7, **NO_TOKEN, "patch_size": 2},
    ],
)
def test_formula_of_the_whole_model(changes: dict[str, object]) -> None:
    model = small(**changes)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10, "depth": 2}
    sizes |= {"embed_dim": 32, "num_heads": 4, "mlp_ratio": 2.0, **changes}
    macs = vit_macs(**sizes)  # type: ignore[arg-type]
    assert count_macs(model, random_images(2)) == 2 * macs["total"]
    assert count_parameters(model) == count_parameters(small(**{**changes, "attention": "softmax"}))


def test_every_second_block_is_shifted_by_half_a_window() -> None:
    model = small(attention="window", window_size=2, depth=5, **NO_TOKEN)
    assert [block.attn.shift for block in model.blocks] == [0, 1, 0, 1, 0]
    odd = small(attention="window", window_size=7, patch_size=4, depth=3, **NO_TOKEN)
    assert [block.attn.shift for block in odd.blocks] == [0, 3, 0]


@pytest.mark.parametrize("kind", ["linear", "window"])
def test_the_kind_changes_the_output_and_not_the_start(kind: str) -> None:
    more = {**NO_TOKEN, "window_size": 2}
    model, plain = small(attention=kind, **more), small(**more)
    for (name, mine), other in zip(
        model.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other), name
    assert (model(random_images()) - plain(random_images())).abs().max() > 1e-3
    maps = model.attention_maps(random_images())
    assert [attention.shape for attention in maps] == [(3, 4, 16, 16)] * 2


@pytest.mark.parametrize("attention", ALL)
def test_gradients_reach_every_parameter(attention: nn.Module) -> None:
    attention.zero_grad()
    attention(torch.randn(2, 36, 16)).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("attention", {"attention": "flash"}),
        ("class token", {"attention": "window", "window_size": 2}),
        ("window_size 3", {"attention": "window", "window_size": 3, **NO_TOKEN}),
        ("window_size 0", {"attention": "window", "window_size": 0, **NO_TOKEN}),
        ("4 x 8", {"attention": "window", "window_size": 2, "img_size": (28, 56), **NO_TOKEN}),
    ],
)
def test_bad_arguments_are_named(name: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=name):
        small(**changes)


@pytest.mark.parametrize("kind", ["linear", "window"])
def test_timm_has_no_such_attention(kind: str) -> None:
    model = VisionTransformer(28, 7, 1, 10, 16, 1, 2, attention=kind, window_size=2, **NO_TOKEN)
    with pytest.raises(ValueError, match=rf"to_timm: {kind.title()}Attention"):
        to_timm(model)
