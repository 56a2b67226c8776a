"""When things happen in a run: a clock in the user's minutes (or steps), and events at fractions of it."""

from __future__ import annotations

import time

from napari_semigda.engine.types import Settings


class Clock:
    """How much of a run has passed.

    Fractions come from steps where `max_steps` is set (a run is then reproducible), else from wall or CPU time.
    """

    def __init__(self, settings: Settings) -> None:
        self._read = time.process_time if settings.clock == "cpu" else time.monotonic
        self._seconds = settings.minutes * 60
        self._max_steps = settings.max_steps
        self._start = self._read()
        self.step = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._read() - self._start

    def fraction(self) -> float:
        """0 at the start, 1 when the run is over."""
        done = self.step / self._max_steps if self._max_steps else self.elapsed / self._seconds
        return min(1.0, done)

    def remaining(self) -> float | None:
        """Seconds to go; None while they cannot be known."""
        if self._max_steps is None:
            return max(0.0, self._seconds - self.elapsed)
        done = self.fraction()
        return self.elapsed * (1 - done) / done if done > 0.05 else None


class Events:
    """Fractions of a run at which something is due, each once."""

    def __init__(self, *fractions: float) -> None:
        self._ahead = sorted(fractions)

    def due(self, fraction: float) -> bool:
        """Whether at least one of them has been passed since the last question."""
        passed = [f for f in self._ahead if f <= fraction]
        self._ahead = self._ahead[len(passed) :]
        return bool(passed)
