"""What goes between the attention and the MLP of a block: three ways to decide it.

Each is called with the number of the block, the tokens, and what their attention saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from vitrail.reduction.tokens import Tokens, keep, matched, merge

Importance = Literal["received", "class"]


@dataclass
class Seen:
    """What the attention of a block knows of its N tokens, heads averaged.

    Attributes:
        keys: mean of the heads' keys, (B, N, d_k): what tokens are compared by.
        received: mean attention that each token receives from those alive, (B, N).
        from_class: attention that the class token pays to each, (B, N).
    """

    keys: Tensor
    received: Tensor
    from_class: Tensor

    def importance(self, kind: Importance) -> Tensor:
        """How much each token matters, (B, N), by one of the two measures."""
        return self.received if kind == "received" else self.from_class


class Way(Protocol):
    """Decides what is left; `matches` says whether tokens are compared, which costs MACs."""

    @property
    def matches(self) -> bool: ...

    def __call__(self, layer: int, tokens: Tokens, seen: Seen) -> Tokens: ...


@dataclass(frozen=True)
class Merge:
    """ToMe (Bolya et al. 2023): in every block the r most similar pairs become one token.

    Nothing is learned. At most half of the tokens can merge in one block.
    """

    r: int
    matches = True

    def __call__(self, layer: int, tokens: Tokens, seen: Seen) -> Tokens:
        if tokens.x.shape[1] < 3:  # the class token and no pair
            return tokens
        best, into = matched(seen.keys, tokens.alive)
        r = min(self.r, best.shape[1] - 1, tokens.x.shape[1] // 2)
        chosen = torch.zeros_like(best, dtype=torch.bool)
        chosen.scatter_(1, best.topk(r, dim=1).indices, value=True)
        tokens = merge(tokens, chosen, into)
        return keep(tokens, tokens.alive)


@dataclass(frozen=True)
class Prune:
    """The simple rival: in every block the r tokens that the class token looks at least go.

    The score is that of EViT (Liang et al. 2022), without its fused token.
    """

    r: int
    matches = False

    def __call__(self, layer: int, tokens: Tokens, seen: Seen) -> Tokens:
        score = seen.from_class.clone()
        score[:, 0] = torch.inf  # the class token stays
        left = max(1, score.shape[1] - self.r)
        stay = torch.zeros_like(tokens.alive)
        stay.scatter_(1, score.topk(left, dim=1).indices, value=True)
        return keep(tokens, stay)


@dataclass(frozen=True)
class Threshold:
    """LTMP (Bonnaerens and Dambre 2023) with its learned thresholds, one pair per block.

    A source merges when it is more similar to its target than `merge[l]`; then a token is
    pruned when the attention that it receives is not above `prune[l]`. How many that are
    depends on the image. `importance` is "received", as in the paper, or "class": the
    attention of the class token alone, as in `Prune`.
    """

    merge: tuple[float, ...]
    prune: tuple[float, ...]
    importance: Importance = "received"
    matches = True

    def __call__(self, layer: int, tokens: Tokens, seen: Seen) -> Tokens:
        importance = seen.importance(self.importance).clone()
        if tokens.x.shape[1] > 2:  # the class token and a pair
            best, into = matched(seen.keys, tokens.alive)
            chosen = best > self.merge[layer]
            importance = most_important(importance, chosen, into)
            tokens = merge(tokens, chosen, into)
        importance[:, 0] = torch.inf  # the class token stays
        return keep(tokens, tokens.alive & (importance > self.prune[layer]))


def most_important(importance: Tensor, chosen: Tensor, into: Tensor) -> Tensor:
    """Importance (B, N) after merging: a token is as important as the most of its parts."""
    moved = torch.where(chosen, importance[:, 0::2], -torch.inf)
    importance = importance.clone()
    importance[:, 1::2] = importance[:, 1::2].scatter_reduce(1, into, moved, "amax")
    return importance
