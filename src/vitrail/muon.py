"""Muon: momentum whose update is made orthogonal, for the matrices of the blocks.

The optimiser of Jordan et al. (2024). torch.optim.Muon and timm's compute the same in
bfloat16, one matrix after the other; here equal shapes are one batch in the weights' own
precision, because CPUs without bfloat16 arithmetic emulate it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Of the quintic iteration; they trade exactness for speed, so singular values end between
# about 0.7 and 1.2 and not at one (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPSILON = 1e-7


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrix U V^T of each U S V^T, nearly: (B, rows, columns).

    Newton and Schulz's iteration on the singular values, which needs products alone.
    """
    if matrices.shape[-2] > matrices.shape[-1]:  # the products are of the shorter side
        return orthogonalise(matrices.mT).mT
    a, b, c = COEFFICIENTS
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + EPSILON)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, as the step of each matrix.

    Args:
        params: matrices (rows, columns), or groups of them. A group with `parts=3` holds
            tensors of three matrices one below the other, as the projections of queries,
            keys and values are: each is made orthogonal by itself, for together the one
            with the largest gradient would take the step of the others.
        lr: length of a step; a matrix with more rows than columns takes
            sqrt(rows / columns) times that, so that its outputs change by as much.
        momentum: share of the past in the running mean of gradients.
        weight_decay: decoupled, times `lr`.

    Raises:
        ValueError: when a parameter is no matrix, or `parts` does not divide its rows.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "parts": 1}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not a tensor of {matrix.ndim} axes")
                if len(matrix) % group["parts"]:
                    raise ValueError(f"{len(matrix)} rows are not {group['parts']} matrices")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; equal shapes are made orthogonal together."""
        loss = closure() if closure is not None else None
        alike: dict[torch.Size, list[tuple[Tensor, Tensor, dict[str, Any]]]] = {}
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                mean = state.setdefault("momentum", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(mean, group["momentum"])
                pieces = matrix.chunk(group["parts"]), update.chunk(group["parts"])
                for weight, direction in zip(*pieces, strict=True):
                    alike.setdefault(weight.shape, []).append((weight, direction, group))
        for (rows, columns), steps in alike.items():
            updates = orthogonalise(torch.stack([direction for _, direction, _ in steps]))
            for (weight, _, group), direction in zip(steps, updates, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(direction, alpha=group["lr"] * max(1.0, rows / columns) ** 0.5)
        return loss
