"""Q6: pooling with one learned score per token, instead of a class token or the mean."""

from __future__ import annotations

from torch import Tensor, nn


class SeqPool(nn.Module):
    """Sequence pooling of Hassani et al. (2021), section 3.1: (B, N, D) -> (B, D).

    A weighted mean of the tokens; the weights are the softmax of a linear score. The
    score has no bias: softmax takes away what all tokens have in common.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # region: seq_pool
        weights = self.score(x).softmax(dim=1)  # (B, N, 1), sum to one over the tokens
        return (weights.transpose(1, 2) @ x).squeeze(1)  # (B, 1, N) @ (B, N, D) -> (B, D)
        # endregion: seq_pool

    def weights(self, x: Tensor) -> Tensor:
        """The share of every token in the mean: (B, N, D) -> (B, N)."""
        return self.score(x).softmax(dim=1).squeeze(-1)
