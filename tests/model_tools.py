"""What the tests of the model share: small models, random inputs, comparison of gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from vitrail.model import VisionTransformer

torch.set_num_threads(1)
close = functools.partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
seeds = st.integers(0, 2**32 - 1)

# Every way to pool, with what it needs.
POOLINGS: dict[str, dict[str, Any]] = {
    "token": {"global_pool": "token"},
    "avg": {"global_pool": "avg"},
    "avg, no class token": {"global_pool": "avg", "class_token": False},
    "seq": {"global_pool": "seq"},
    "seq, no class token": {"global_pool": "seq", "class_token": False},
}
# One change from the default each.
VARIANTS: list[dict[str, Any]] = [
    *POOLINGS.values(),
    {"pos_embed": "none"},
    {"pos_embed": "sinusoidal"},
    {"pos_embed": "sinusoidal_2d"},
    {"norm": "post"},
    {"norm": "post", "global_pool": "avg"},
    {"act": "relu"},
    {"qkv_bias": False},
    {"depth": 1, "num_heads": 1},
    {"num_heads": 5, "head_dim": 12},
    {"fused_attn": False},
]


def scatter(module: nn.Module, seed: int = 0, spread: float = 0.05) -> nn.Module:
    """Random values everywhere: with zero biases and unit norms a swap would not be seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return module


def small(**changes: Any) -> VisionTransformer:
    """A small ViT in evaluation mode, no weight at its initial value."""
    arguments = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    arguments |= {"embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    torch.manual_seed(0)
    return scatter(VisionTransformer(**{**arguments, **changes})).eval()  # type: ignore[return-value]


def random_images(count: int = 3, size: int = 28, channels: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator)


def shuffled(images: Tensor, order: Tensor, patch: int = 7) -> Tensor:
    """The same images with their patches in another order."""
    patches = F.unfold(images, patch, stride=patch)[:, :, order]
    return F.fold(patches, images.shape[-2:], patch, stride=patch)


def gradients(
    call: Callable[[Tensor], Tensor], x: Tensor, parameters: Iterable[Tensor] = ()
) -> list[Tensor]:
    """The output, then the gradients of a fixed weighted sum of it.

    The first gradient is with respect to `x`, the others to `parameters` in their order.
    """
    x = x.clone().requires_grad_()
    out = call(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *parameters])]


def assert_same(
    ours: Callable[[Tensor], Tensor],
    theirs: Callable[[Tensor], Tensor],
    x: Tensor,
    parameters: Iterable[tuple[Tensor, Tensor]],
    atol: float = 1e-5,
) -> None:
    """Equal outputs, gradients of the input and of each pair (our parameter, theirs).

    The two of a pair may differ in shape, as a matrix and a kernel do, not in order.
    """
    mine, other = zip(*parameters, strict=True)
    for found, expected in zip(gradients(ours, x, mine), gradients(theirs, x, other), strict=True):
        assert expected.abs().max() > 0  # a gradient that is zero would prove nothing
        close(found, expected.view_as(found), atol=atol)


def by_name(ours: nn.Module, theirs: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The parameters of two modules with the same names, in pairs."""
    mine, other = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert set(mine) == set(other)
    return [(mine[name], other[name]) for name in mine]
