"""What Q7 times, cell by cell.

A cell is one combination of what, variant, pass, threads and size:

- `attention`: attention with its projections, one cell per entry of `VARIANTS`, and of
  `OTHER_KINDS` at the lengths that fit them (see `vitrail.timing_kinds`);
- `products`: of that, only what lies between the projections;
- `linear`: the rest of a block, whose work grows with N;
- `block`: a whole block with the fused kernel, that is `linear` and `products`;
- `model`: the base ViT with one patch size.

Calls of every length hold about as many tokens, so that the linear layers multiply matrices
of one shape and a call's fixed cost weighs alike at every length.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
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
    block = Block(d, heads, ratio, fused_attn=True).to(device)
    timed: list[tuple[str, str, nn.Module, Callable[[int, int], int], int]] = [
        ("attention", name, variant.build(d, heads).to(device), variant.macs, variant.matrices)
        for name, variant in VARIANTS.items()
    ]
    timed.append(("block", "fused", block, partial(block_macs, r=ratio), 0))
    counts = _counts(width["threads"], device)
    for n in settings["tokens"]:
        batch = max(1, settings["tokens_per_call"] // n)
        x = torch.randn(batch, n, d, device=device)
        for threads in counts:
            for mode in width["passes"] if threads == counts[0] else ["forward"]:
                for what, name, module, macs, matrices in timed:
                    yield Cell(
                        *(what, name, mode, threads, n, d, heads, None, batch, macs(n, d)),
                        matrices,
                        pass_of(module, x, mode),
                        pass_of(module, x[:1], mode)
                        if threads == counts[0] and what == "attention"
                        else None,
                    )
        first = ("forward", counts[0], n, d, heads, None, batch)
        linear_macs = block_macs(n, d, ratio) - 2 * n**2 * d
        yield Cell("linear", "", *first, linear_macs, 0, pass_of(LinearPart(block), x, "forward"))
        heads_of_x = [part.detach() for part in block.attn.split_heads(x)]
        for name, variant in VARIANTS.items():
            if variant.products is not None:
                macs = variant.macs(n, d) - attention_macs(n, d) + 2 * n**2 * d
                call = _without_gradients(variant.products, *heads_of_x)
                yield Cell("products", name, *first, macs, variant.matrices, call)


def _of_other_kinds(
    width: dict[str, Any], settings: dict[str, Any], device: torch.device
) -> Iterator[Cell]:
    """One forward cell per kind and length that fits it."""
    d, heads, threads = width["embed_dim"], width["num_heads"], width["threads"][0]
    modules = {name: kind.build(d, heads).to(device) for name, kind in OTHER_KINDS.items()}
    for n in settings["tokens"]:
        batch = max(1, settings["tokens_per_call"] // n)
        x = torch.randn(batch, n, d, device=device)
        for name, kind in OTHER_KINDS.items():
            if kind.fits(n):
                yield Cell(
                    *("attention", name, "forward", threads, n, d, heads, None, batch),
                    *(kind.macs(n, d, heads), 0),
                    pass_of(modules[name], x, "forward"),
                    pass_of(modules[name], x[:1], "forward"),
                )


def _of_model(settings: dict[str, Any], device: torch.device) -> Iterator[Cell]:
    model = settings["model"]
    variant = "fused" if model["fused_attn"] else "naive"
    sizes = {key: model[key] for key in inspect.signature(vit_macs).parameters if key in model}
    counts = _counts(settings["threads"], device)
    for patch in settings["patch_sizes"]:
        vit = VisionTransformer(**model, patch_size=patch).to(device)
        n = token_count(model["img_size"], patch, class_token=model["class_token"])
        batch = max(1, settings["tokens_per_call"] // n)
        x = torch.randn(batch, model["in_chans"], *vit.patch_embed.img_size, device=device)
        macs = vit_macs(**sizes, patch_size=patch)["total"]
        for threads in counts:
            for mode in settings["passes"]:
                # Training keeps the weights of every block for the backward pass.
                kept = model["depth"] if mode == "train" else 1
                yield Cell(
                    *("model", variant, mode, threads, n, model["embed_dim"], model["num_heads"]),
                    *(patch, batch, macs, 0 if variant == "fused" else 2 + kept),
                    pass_of(vit, x, mode),
                    pass_of(vit, x[:1], mode) if threads == counts[0] else None,
                )


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
