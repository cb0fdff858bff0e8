"""Q2: the block's MLP, one hidden layer applied to every token alike."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Activation = Literal["gelu", "relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


class Mlp(nn.Module):
    """Two linear layers with GELU between (Dosovitskiy et al. 2021, section 3.1).

    (..., D) -> (..., D) with `hidden_features` units between; GELU is the exact one,
    x Phi(x), of Hendrycks and Gimpel (2016). `act="relu"` is the Q2 ablation. `drop_rate` is
    the dropout after the first layer; that after the second is the block's.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        act: Activation = "gelu",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = ACTIVATIONS[act]()
        self.drop = nn.Dropout(drop_rate)
        self.fc2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        # region: mlp
        hidden = self.act(self.fc1(x))  # (B, N, r*D)
        return self.fc2(self.drop(hidden))  # (B, N, D)
        # endregion: mlp
