"""Early stopping: the weights of the evaluation that did best on labels held out of training.

All steps are taken and the best evaluation is kept, which is early stopping with endless
patience: what it costs is a fifth of the labels, what it may bring are the better weights.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import nn


class Best:
    """The weights with the lowest loss so far.

    Attributes:
        look_number: the evaluation that they come from, counted from 0; -1 for the last one,
            when no loss was a finite number.
    """

    def __init__(self) -> None:
        self.look_number = -1
        self._looks = 0
        self._loss = math.inf
        self._state: dict[str, Any] | None = None

    def look(self, network: nn.Module, loss: float) -> None:
        """Keep a copy of the weights if the loss is lower than any before."""
        if loss < self._loss:
            self.look_number, self._loss = self._looks, loss
            self._state = copy.deepcopy(network.state_dict())
        self._looks += 1

    def restore(self, network: nn.Module) -> None:
        """Put the best weights back."""
        if self._state is not None:
            network.load_state_dict(self._state)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on from here."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of another."""
        vars(self).update(state)
