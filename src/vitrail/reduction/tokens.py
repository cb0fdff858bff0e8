"""The tokens that are left of a batch of images between two blocks.

Images of a batch may keep different numbers of tokens. They lie in one tensor all the
same: in front those that are alive, behind them padding that nothing attends to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Tokens:
    """What is left of B images: N places, some of them padding.

    Attributes:
        x: the tokens, (B, N, D); the class token is at place 0.
        size: how many patches each stands for, (B, N).
        alive: False at padding, (B, N).
        owner: for each token of the start, its place now, -1 when it was pruned, (B, N_0);
            None when nobody asked to follow them.
    """

    x: Tensor
    size: Tensor
    alive: Tensor
    owner: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Tokens alive per image, (B,)."""
        return self.alive.sum(dim=1)


def start(x: Tensor, follow: bool = False) -> Tokens:
    """All tokens alive, each standing for itself; `follow` keeps track of them."""
    batch, n, _ = x.shape
    ones = x.new_ones(batch, n)
    owner = torch.arange(n, device=x.device).expand(batch, n) if follow else None
    return Tokens(x, ones, ones.bool(), owner)


def matched(metric: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Bipartite soft matching (Bolya et al. 2023, section 3): who is most like whom.

    The tokens at even places are the sources, those at odd places the targets. The class
    token, at place 0, merges with nobody.

    Args:
        metric: what tokens are compared by, (B, N, d); by its direction alone.
        alive: (B, N).

    Returns:
        For each source, (B, ceil(N / 2)): its highest cosine similarity, -inf where there
        is none to be had, and the place of that target among the targets.
    """
    # region: matching
    metric = torch.nn.functional.normalize(metric, dim=-1)
    source, target = metric[:, 0::2], metric[:, 1::2]
    similarity = source @ target.transpose(1, 2)  # (B, sources, targets)
    similarity = similarity.masked_fill(~alive[:, None, 1::2], -torch.inf)
    similarity = similarity.masked_fill(~alive[:, 0::2, None], -torch.inf)
    similarity[:, 0] = -torch.inf  # the class token
    best, into = similarity.max(dim=-1)
    # endregion: matching
    return best, into


def merge(tokens: Tokens, chosen: Tensor, into: Tensor) -> Tokens:
    """Put the chosen sources into their targets: the mean of both, weighted by size.

    Args:
        chosen: which sources merge, (B, sources) bool.
        into: their targets, as `matched` gives them.
    """
    weight = chosen * tokens.size[:, 0::2]  # zero for a source that stays
    size = tokens.size.clone()
    size[:, 1::2] = size[:, 1::2].scatter_add(1, into, weight)
    places = into.unsqueeze(-1).expand(-1, -1, tokens.x.shape[-1])
    moved = tokens.x[:, 0::2] * weight.unsqueeze(-1)
    held = tokens.x[:, 1::2] * tokens.size[:, 1::2].unsqueeze(-1)
    x = tokens.x.clone()
    x[:, 1::2] = held.scatter_add(1, places, moved) / size[:, 1::2].unsqueeze(-1)
    alive = tokens.alive.clone()
    alive[:, 0::2] &= ~chosen
    owner = tokens.owner
    if owner is not None:
        place = torch.arange(tokens.x.shape[1], device=owner.device).repeat(len(owner), 1)
        place[:, 0::2] = torch.where(chosen, 2 * into + 1, place[:, 0::2])
        owner = _followed(owner, place)
    return Tokens(x, size, alive, owner)


def keep(tokens: Tokens, alive: Tensor) -> Tokens:
    """Drop all but the tokens that stay alive, (B, N): really, to the longest that is left.

    The order is kept. Images that keep fewer tokens than the longest get padding.
    """
    order = alive.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    order = order[:, : int(alive.sum(dim=1).max())]
    x = tokens.x.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.x.shape[-1]))
    owner = tokens.owner
    if owner is not None:
        place = alive.cumsum(dim=1) - 1
        owner = _followed(owner, torch.where(alive, place, -1))
    return Tokens(x, tokens.size.gather(1, order), alive.gather(1, order), owner)


def _followed(owner: Tensor, place: Tensor) -> Tensor:
    """Owners after every token has moved to `place`; what was pruned stays so."""
    return torch.where(owner < 0, owner, place.gather(1, owner.clamp(min=0)))
