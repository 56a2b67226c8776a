"""How quick this machine is: one step and one picture, timed before the run begins and without a trace in it; then the
steps themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.objective import V_EVERY, Objective
from napari_semigda.engine.planner import Pace
from napari_semigda.engine.predict import believe
from napari_semigda.engine.view import View

_ROOM = 0.6  # share of a graphics card's memory that a run may take: others draw on it too


def measure_pace(
    model: SemiGDA,
    objective_of: Callable[[int], Objective],
    batch: int,
    picture: Tensor,
    view: View,
    read: Callable[[], float],
) -> Pace:
    """Time a step and a prediction; the weights stay as they are, the random numbers do not.

    Parameters
    ----------
    model
        In training mode.
    objective_of
        Takes a number of crops and returns an objective whose steps have so many.
    batch
        How many crops the timed step has.
    picture
        (3, h, w) at the working scale.
    view
        How the run looks at pictures.
    read
        The clock that the run is measured with, in seconds.
    """
    weights = list(model.trained_parts().values())
    device = weights[0].device

    def seconds(action: Callable[[], object]) -> float:
        begun = read()
        action()
        _wait(device)
        return read() - begun

    # The first of each pays for what only ever happens once. Of a step a small one will do, but not on graphics cards:
    # they prepare for every size anew.
    first = 1 if device.type == "cpu" else batch
    objective_of(first).segmentation(0.0).backward()
    timed = objective_of(batch)  # both branches learn in one step of so many, one branch in the others
    step = seconds(lambda: [timed.segmentation(0.0).backward() for _ in range(V_EVERY)]) / V_EVERY
    for weight in weights:
        weight.grad = None
    _, prediction = (seconds(lambda: believe(model, picture, view)) for _ in range(2))
    image_pixels = picture.shape[-2] * picture.shape[-1] / view.scale**2
    return Pace(step, prediction / image_pixels * 1e6, _room(device))


def _wait(device: torch.device) -> None:
    """Until a graphics card has done what it was asked."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def _room(device: torch.device) -> float:
    """How many times the memory of the largest step so far may be used."""
    if device.type == "cpu":
        return math.inf
    if device.type != "cuda":
        return 1.0  # nobody tells: take no more
    return _ROOM * torch.cuda.mem_get_info(device)[1] / max(1, torch.cuda.max_memory_allocated(device))


class StepTimes:
    """How long the steps of a run take.

    Parameters
    ----------
    read
        The clock that the run is measured with, in seconds.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._seconds, self._steps = 0.0, 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What is done inside is a step."""
        begun = self._read()
        yield
        self._seconds += self._read() - begun
        self._steps += 1

    @property
    def mean(self) -> float | None:
        """Seconds a step; None before the first."""
        return self._seconds / self._steps if self._steps else None
