"""The exponential moving average of the weights: the steadier model that is scored, shown and saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages of a set of weights, swapped in for prediction (no second model in memory).

    Parameters
    ----------
    weights
        The trained weights by name; read at every `update`.
    decay
        Share of the old average a step, reached after a warm-up of (1 + step) / (10 + step).
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float = 0.99) -> None:
        self._weights = dict(weights)
        self._decay = decay
        self._steps = 0
        self._average = [w.detach().clone() for w in self._weights.values()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights in, after an optimiser step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, _data(self._weights.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside this block, and its own again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the averages by name, on the CPU."""
        return {name: a.cpu().clone() for name, a in zip(self._weights, self._average, strict=True)}

    @torch.no_grad()
    def load(self, snapshot: Mapping[str, Tensor]) -> None:
        """Set the averages to a snapshot."""
        for name, average in zip(self._weights, self._average, strict=True):
            average.copy_(snapshot[name])

    @torch.no_grad()
    def hand_over(self) -> None:
        """Give the model the averages, for good."""
        for weight, average in zip(_data(self._weights.values()), self._average, strict=True):
            weight.copy_(average)

    def state(self) -> dict[str, Any]:
        """The averages by name, and how many steps are in them."""
        return {"steps": self._steps, "average": dict(zip(self._weights, self._average, strict=True))}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._steps = state["steps"]
        self.load(state["average"])

    def _swap(self) -> None:
        for weight, average in zip(_data(self._weights.values()), self._average, strict=True):
            held = weight.clone()
            weight.copy_(average)
            average.copy_(held)


def _data(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [p.data for p in parameters]
