"""What Q7 times, cell by cell.

A cell is one combination of what, variant, pass, threads and size:

- `attention`: attention with its projections, one cell per entry of `VARIANTS`, and of
  `OTHER_KINDS` at the lengths that fit them (see `vitrail.timing_kinds`);
- `products`: of that, only what lies between the projections;
- `linear`: the rest of a block, whose work grows with N;
- `block`: a whole block with the fused kernel, that is `linear` and `products`;
- `model`: the base ViT with one patch size.

Calls of every length hold about as many tokens, so that the linear layers multiply matrices
of one shape and a call's fixed cost weighs alike at every length. Inputs, and weights on the
device, come with the first call that needs them: where memory ends there, that cell has a reason.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.efficiency import attention_macs, block_macs, token_count, vit_macs
from vitrail.meters import Call
from vitrail.model import Block, VisionTransformer
from vitrail.timing_kinds import OTHER_KINDS, VARIANTS


@dataclass
class Cell:
    """One thing to measure. Seconds, `peak` and `macs` (forward) are those of one sequence."""

    what: str
    variant: str
    mode: str  # forward or train
    threads: int
    n: int
    embed_dim: int
    num_heads: int
    patch_size: int | None
    batch_size: int  # sequences in a call
    macs: int
    matrices: int  # N x N matrices per head and sequence that are alive together
    call: Call
    single: Call | None = None  # a call with one sequence, where its memory is measured
    inner: int = 0
    repeats: int = 0
    seconds: list[float] = field(default_factory=list)
    peak: float = math.nan
    faults: float = math.nan  # memory pages fetched from the system, for one call
    reason: str = ""

    @property
    def needed_gib(self) -> float:
        """Estimate of the memory that the N x N matrices take, in float32."""
        return self.matrices * self.n**2 * self.num_heads * self.batch_size * 4 / 2**30

    def fail(self, reason: str) -> None:
        """Keep the row, without figures."""
        self.reason, self.inner, self.repeats = reason, 0, 0
        self.seconds, self.peak, self.faults = [], math.nan, math.nan


class Later:
    """A call that `make` gives when it is first made."""

    def __init__(self, make: Callable[..., Call], *given: object) -> None:
        self.make = partial(make, *given)
        self.made: Call | None = None

    def __call__(self) -> object:
        if self.made is None:
            self.made = self.make()
        return self.made()


class LinearPart(nn.Module):
    """A pre-norm block without the products of its attention: (B, N, D) -> (B, N, D).

    Every layer is there; the output projection reads the values as they are.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        values = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)[2]
        x = x + block.attn.proj(values)
        return x + block.mlp(block.norm2(x))


def cells(settings: dict[str, Any], device: torch.device) -> Iterator[Cell]:
    """All cells of checked settings: width by width, other kinds of attention, the model.

    Further numbers of threads time only the forward pass of attention and blocks, and all of
    the model. `linear` and `products` are there to explain, with the first number alone, and
    so are the other kinds of attention, at the first width.
    Away from the CPU the number of threads means nothing and only the first is taken.
    """
    for width in settings["widths"]:
        yield from _of_width(width, settings, device)
    yield from _of_other_kinds(settings["widths"][0], settings, device)
    yield from _of_model(settings, device)


def _counts(threads: list[int], device: torch.device) -> list[int]:
    return threads if device.type == "cpu" else threads[:1]


def _of_width(
    width: dict[str, Any], settings: dict[str, Any], device: torch.device
) -> Iterator[Cell]:
    d, heads, ratio = width["embed_dim"], width["num_heads"], settings["mlp_ratio"]
    block = Block(d, heads, ratio, fused_attn=True)
    timed: list[tuple[str, str, nn.Module, Callable[[int, int], int], int]] = [
        ("attention", name, variant.build(d, heads), variant.macs, variant.matrices)
        for name, variant in VARIANTS.items()
    ]
    timed.append(("block", "fused", block, partial(block_macs, r=ratio), 0))
    counts = _counts(width["threads"], device)
    for n in settings["tokens"]:
        batch = max(1, settings["tokens_per_call"] // n)
        x = _inputs(batch, n, d, device=device)
        for threads in counts:
            for mode in width["passes"] if threads == counts[0] else ["forward"]:
                for what, name, module, macs, matrices in timed:
                    yield Cell(
                        *(what, name, mode, threads, n, d, heads, None, batch, macs(n, d)),
                        matrices,
                        Later(_passing, module, x, mode),
                        Later(_passing, module, x, mode, 1)
                        if threads == counts[0] and what == "attention"
                        else None,
                    )
        first = ("forward", counts[0], n, d, heads, None, batch)
        linear_macs = block_macs(n, d, ratio) - 2 * n**2 * d
        linear = Later(_passing, LinearPart(block), x, "forward")
        yield Cell("linear", "", *first, linear_macs, 0, linear)
        for name, variant in VARIANTS.items():
            if variant.products is not None:
                macs = variant.macs(n, d) - attention_macs(n, d) + 2 * n**2 * d
                call = Later(_multiplying, variant.products, block, x)
                yield Cell("products", name, *first, macs, variant.matrices, call)


def _of_other_kinds(
    width: dict[str, Any], settings: dict[str, Any], device: torch.device
) -> Iterator[Cell]:
    """One forward cell per kind and length that fits it."""
    d, heads, threads = width["embed_dim"], width["num_heads"], width["threads"][0]
    modules = {name: kind.build(d, heads) for name, kind in OTHER_KINDS.items()}
    for n in settings["tokens"]:
        batch = max(1, settings["tokens_per_call"] // n)
        x = _inputs(batch, n, d, device=device)
        for name, kind in OTHER_KINDS.items():
            if kind.fits(n):
                yield Cell(
                    *("attention", name, "forward", threads, n, d, heads, None, batch),
                    *(kind.macs(n, d, heads), 0),
                    Later(_passing, modules[name], x, "forward"),
                    Later(_passing, modules[name], x, "forward", 1),
                )


def _of_model(settings: dict[str, Any], device: torch.device) -> Iterator[Cell]:
    model = settings["model"]
    variant = "fused" if model["fused_attn"] else "naive"
    sizes = {key: model[key] for key in inspect.signature(vit_macs).parameters if key in model}
    counts = _counts(settings["threads"], device)
    for patch in settings["patch_sizes"]:
        vit = VisionTransformer(**model, patch_size=patch)
        n = token_count(model["img_size"], patch, class_token=model["class_token"])
        batch = max(1, settings["tokens_per_call"] // n)
        x = _inputs(batch, model["in_chans"], *vit.patch_embed.img_size, device=device)
        macs = vit_macs(**sizes, patch_size=patch)["total"]
        for threads in counts:
            for mode in settings["passes"]:
                # Training keeps the weights of every block for the backward pass.
                kept = model["depth"] if mode == "train" else 1
                yield Cell(
                    *("model", variant, mode, threads, n, model["embed_dim"], model["num_heads"]),
                    *(patch, batch, macs, 0 if variant == "fused" else 2 + kept),
                    Later(_passing, vit, x, mode),
                    Later(_passing, vit, x, mode, 1) if threads == counts[0] else None,
                )


def _inputs(*shape: int, device: torch.device) -> Callable[[], Tensor]:
    """Random inputs on the device, made once for all that ask."""
    return cache(partial(torch.randn, *shape, device=device))


def _passing(
    module: nn.Module, x: Callable[[], Tensor], mode: str, sequences: int | None = None
) -> Call:
    """`pass_of` the module, on the device of its input, and the first sequences or all."""
    return pass_of(module.to(x().device), x()[:sequences], mode)


def _multiplying(products: Callable[..., object], block: Block, x: Callable[[], Tensor]) -> Call:
    """What lies between the projections of a block, of its heads (B, H, N, d_k)."""
    heads = block.to(x().device).attn.split_heads(x())
    return _without_gradients(products, *(part.detach() for part in heads))


def pass_of(module: nn.Module, x: Tensor, mode: str) -> Call:
    """The call to measure; `train` starts from the gradient of the output, all ones."""
    if mode == "forward":
        return _without_gradients(module, x)
    x = x.clone().requires_grad_()
    leaves = [x, *module.parameters()]

    def train() -> object:
        out = module(x)
        return torch.autograd.grad(out, leaves, torch.ones_like(out))

    return train


def _without_gradients(function: Callable[..., object], *inputs: Tensor) -> Call:
    def forward() -> object:
        with torch.inference_mode():
            return function(*inputs)

    return forward
