"""When things happen in a run: a clock in the user's minutes (or steps), the plan it leaves, and events on its way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from napari_semigda.engine.types import Settings


@dataclass
class Plan:
    """What a run chose for this machine; the same plan, seed and images give the same weights again.

    Every choice that depends on speed hangs on the fractions, so that they are all a replay needs.
    """

    fractions: list[float] = field(default_factory=list)  # how far the run was at each step, 0..1
    batch: int = 4
    crop: int = 0
    scale: float = 1.0
    poses: tuple[int, ...] = ()


class Clock:
    """How far a run is: by wall time, CPU time or steps, or as an earlier run went.

    Parameters
    ----------
    settings
        Minutes, `max_steps` and what is counted.
    replay
        Fractions of an earlier run, one a step.
    """

    def __init__(self, settings: Settings, replay: Sequence[float] = ()) -> None:
        self._read = time.process_time if settings.clock == "cpu" else time.monotonic
        self._seconds = settings.minutes * 60
        self._replay = list(replay)
        self._max_steps = len(self._replay) or settings.max_steps
        self._start = self._read()
        self.passed: list[float] = []
        """Fraction at the begin of each step so far."""

    @property
    def step(self) -> int:
        """Steps begun."""
        return len(self.passed)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._read() - self._start

    def fraction(self) -> float:
        """0 at the start, 1 when the run is over."""
        if self._max_steps is not None and self.step >= self._max_steps:
            return 1.0
        if self._replay:
            return self._replay[self.step]
        done = self.step / self._max_steps if self._max_steps else self.elapsed / self._seconds
        return min(1.0, round(done, 5))

    def begin_step(self, fraction: float) -> None:
        """Count a step that begins at this fraction."""
        self.passed.append(fraction)

    def remaining(self) -> float | None:
        """Seconds to go; None while they cannot be known."""
        if self._max_steps is None:
            return max(0.0, self._seconds - self.elapsed)
        return self.elapsed * (self._max_steps - self.step) / self.step if self.step >= 3 else None

    def steps_expected(self, fraction: float) -> float:
        """How many steps the whole run will have at the pace so far."""
        return self.step / fraction if fraction > 0 else float("inf")


class Events:
    """Fractions of a run at which something is due, each once."""

    def __init__(self, *fractions: float) -> None:
        self._ahead = sorted(fractions)

    def due(self, fraction: float) -> bool:
        """Whether at least one of them has been passed since the last question."""
        passed = [f for f in self._ahead if f <= fraction]
        self._ahead = self._ahead[len(passed) :]
        return bool(passed)
