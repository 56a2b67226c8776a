"""From losses to weights: the optimiser, its rate, the averaged weights, and what is done when learning goes wrong."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.several import ALONE, Alone

LEARNING_RATE, TRUNK_RATE = 1e-3, 3.5e-4
WARM_UP_STEPS = 20
BAD_STEPS = 10
"""In a row, after which a run has diverged."""
SANE_LOSS = 1e4
"""No loss of ours is a hundredth of it unless the weights have run away."""


class Learner:
    """Takes steps.

    A run that diverges goes back to its averaged weights, which no bad step has touched, and goes on at half the rate;
    one that does so again is given up.

    Parameters
    ----------
    model
        On its device.
    several
        Who learns together: from the sum of their gradients.
    """

    def __init__(self, model: SemiGDA, several: Alone = ALONE) -> None:
        self._parts, self._several = model.trained_parts(), several
        self.average = MovingAverage(self._parts)
        self.optimiser = self._make_optimiser()
        self.note = ""
        """A sentence on what went wrong so far."""
        self.given_up = False
        """Whether no more can be learnt."""
        self._calm = 1.0
        self._bad_steps = 0

    def _make_optimiser(self) -> torch.optim.Optimizer:
        trunk = [w for name, w in self._parts.items() if ".trunk." in name]
        rest = [w for name, w in self._parts.items() if ".trunk." not in name]
        groups = [{"params": trunk, "rate": TRUNK_RATE}, {"params": rest, "rate": LEARNING_RATE}]
        fused = rest[0].device.type in ("cpu", "cuda")  # four times as fast on a CPU
        return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-2, fused=fused)

    def set_rate(self, fraction: float, step: int, steps: int) -> None:
        """Linear warm-up, then polynomial decay (power 0.9, as in the paper) over the time.

        Parameters
        ----------
        fraction
            How far the run is, 0..1.
        step, steps
            Steps so far, and those expected in all.
        """
        warm_up = min(1.0, (step + 1) / min(WARM_UP_STEPS, 1 + steps // 5))
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * self._calm * warm_up * max(0.01, (1 - fraction) ** 0.9)

    def step(self, loss: Tensor) -> bool:
        """Learn from a loss; returns whether that went well. Weights and averages stay as they are where it did not."""
        value = self._several.same(float(loss.detach()))
        if math.isfinite(value) and abs(value) < SANE_LOSS:
            with self._several.together():
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
            self._several.add_up(self._parts.values())
            with self._several.together():
                if torch.isfinite(torch.nn.utils.clip_grad_norm_(self._parts.values(), 3.0)):
                    self.optimiser.step()
                    self.average.update()
                    self._bad_steps = 0
                    return True
        self._bad_steps += 1
        if self._bad_steps >= BAD_STEPS:
            self._settle()
        return False

    def _settle(self) -> None:
        """What is done about a run that has diverged."""
        self._bad_steps = 0
        if self._calm < 1:
            self.given_up = True
            self.note = "Training diverged again, so it ended early, with the last good weights."
            return
        self._calm = 0.5
        self.note = "Training diverged: it goes on from the last good weights, at half the learning rate."
        self.optimiser.state.clear()
        self.average.hand_over()

    def free(self) -> None:
        """Let go of gradients, and of what a step that ran out of memory left half made."""
        self.optimiser.zero_grad(set_to_none=True)
        for weight, known in list(self.optimiser.state.items()):
            if "exp_avg_sq" not in known:
                del self.optimiser.state[weight]
        if next(iter(self._parts.values())).is_cuda:
            torch.cuda.empty_cache()

    # ---- kept and taken up again, see `resume` --------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the next step depends on: plain values and tensors."""
        names = {weight: name for name, weight in self._parts.items()}
        return {
            "weights": {name: weight.detach() for name, weight in self._parts.items()},
            "average": self.average.state(),
            "optimiser": {names[weight]: dict(known) for weight, known in self.optimiser.state.items()},
            "calm": self._calm,
            "bad_steps": self._bad_steps,
            "given_up": self.given_up,
            "note": self.note,
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for name, weight in self._parts.items():
            weight.copy_(state["weights"][name])
        self.average.load_state(state["average"])
        self.optimiser.state.clear()
        for name, known in state["optimiser"].items():
            weight = self._parts[name]
            as_weight = {key: torch.empty_like(weight).copy_(known[key]) for key in ("exp_avg", "exp_avg_sq")}
            self.optimiser.state[weight] = {"step": known["step"].to(self._where(weight), copy=True), **as_weight}
        self._calm, self._bad_steps = state["calm"], state["bad_steps"]
        self.given_up, self.note = state["given_up"], state["note"]

    @staticmethod
    def _where(weight: Tensor) -> torch.device:
        """Fused optimisers count their steps on the device."""
        return weight.device if weight.device.type == "cuda" else torch.device("cpu")
