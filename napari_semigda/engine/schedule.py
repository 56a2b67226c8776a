"""When things happen in a run: a clock in the user's minutes (or steps), an open end, and events on its way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from napari_semigda.engine.types import Settings

READ = {"wall": time.monotonic, "cpu": time.process_time}
"""What minutes are counted in; seconds since some moment."""

HOLD = 0.6  # fraction at which an open-ended run waits: all it does is under way, and nothing held out is used up
_FIRST_STRETCH = 1 / 12  # of the most time: as fast as a run of that length until it waits
_COOL_DOWN = 0.25  # of the time so far, once it stops improving
_CHECK_EVERY = 0.125  # of the time so far
_PATIENCE = 4  # checks in a row without a gain
_GAIN = 0.002  # Dice, or loss where there is none


class OpenEnd:
    """The course of a run that goes on until it stops improving, in shares of the most time it may take.

    A run's rate, ramps and checks hang on its fraction. So the fraction rises as in an ordinary run, then waits at
    `HOLD`, which keeps the learning rate where it is, and rises to 1 in a cool-down of a quarter of the time so far:
    when several checks in a row brought no gain, or when there is only just time for it.
    """

    least = HOLD * _FIRST_STRETCH * (1 + _CHECK_EVERY) ** _PATIENCE * (1 + _COOL_DOWN)
    """Share of the most time that such a run takes at least."""

    def __init__(self) -> None:
        self._released: float | None = None
        self._next_check = HOLD * _FIRST_STRETCH
        self._best: float | None = None
        self._checks_in_vain = 0

    @property
    def held(self) -> bool:
        """Whether nobody knows yet when the run will end."""
        return self._released is None

    @property
    def end(self) -> float:
        """Share of the most time at which the run ends (while it is held: at the latest)."""
        return 1.0 if self._released is None else self._released * (1 + _COOL_DOWN)

    def fraction(self, spent: float) -> float:
        """Fraction of the run when this share of the most time is gone."""
        if self._released is None and spent * (1 + _COOL_DOWN) >= 1:
            self._released = 1 / (1 + _COOL_DOWN)
        if self._released is None:
            return min(HOLD, spent / _FIRST_STRETCH)
        cooled = (spent - self._released) / (_COOL_DOWN * self._released)
        return min(1.0, HOLD + (1 - HOLD) * max(0.0, cooled))

    def due(self, spent: float) -> bool:
        """Whether it is time to ask if the run still improves."""
        return self.held and spent >= self._next_check

    def note(self, figure: float, spent: float) -> None:
        """Take the outcome of a check in: a figure that is higher when the masks are better."""
        self._next_check = spent * (1 + _CHECK_EVERY)
        if self._best is None or figure > self._best + _GAIN:
            self._best, self._checks_in_vain = figure, 0
            return
        self._checks_in_vain += 1
        if self._checks_in_vain >= _PATIENCE and self.held:
            self._released = spent

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        vars(self).update(state)


class Clock:
    """How far a run is: by wall time, CPU time or steps, or as an earlier run went. It starts when it is made.

    Parameters
    ----------
    settings
        Minutes, `max_steps`, whether the end is open, and what is counted.
    """

    def __init__(self, settings: Settings) -> None:
        self.read = READ[settings.clock]
        self.seconds = settings.minutes * 60
        """Of training; the planner takes off what follows it."""
        self._max_steps = settings.max_steps
        self._open_end = OpenEnd() if settings.until_best else None
        self._replay: Sequence[float] = ()
        self._replayed_checks: Sequence[int] = ()
        self._start = self.read()
        self.passed: list[float] = []
        """Fraction at the begin of each step so far."""
        self.checked: list[int] = []
        """Steps before which it was asked whether the run still improves."""

    def replay(self, fractions: Sequence[float], checks: Sequence[int]) -> None:
        """Go as an earlier run went: its `passed` and `checked`."""
        self._replay, self._replayed_checks = fractions, checks
        self._max_steps, self._open_end = len(fractions), None

    @property
    def step(self) -> int:
        """Steps begun."""
        return len(self.passed)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.read() - self._start

    def fraction(self) -> float:
        """0 at the start, 1 when the run is over."""
        if self._max_steps is not None and self.step >= self._max_steps:
            return 1.0
        if self._replay:
            return self._replay[self.step]
        spent = self._spent()
        return min(1.0, round(spent if self._open_end is None else self._open_end.fraction(spent), 5))

    def begin_step(self, fraction: float) -> None:
        """Count a step that begins at this fraction."""
        self.passed.append(fraction)

    def ask_whether_it_improves(self) -> bool:
        """Whether the run has an open end and a check is due; the answer is remembered for a replay."""
        if self._replay:
            due = self.step in self._replayed_checks
        else:
            due = self._open_end is not None and self._open_end.due(self._spent())
        if due:
            self.checked.append(self.step)
        return due

    def note(self, figure: float) -> None:
        """Take the outcome of that check in: a figure that is higher when the masks are better."""
        if self._open_end is not None:
            self._open_end.note(figure, self._spent())

    def remaining(self) -> float | None:
        """Seconds of training to go; None while they cannot be known."""
        spent, end = self._spent(), 1.0 if self._open_end is None else self._open_end.end
        if self._max_steps is None:
            return max(0.0, (end - spent) * self.seconds)
        return max(0.0, (end - spent) / spent * self.elapsed) if self.step >= 3 else None

    @property
    def at_most(self) -> bool:
        """Whether the run may well end sooner than `remaining` says."""
        return self._open_end is not None and self._open_end.held

    def state(self) -> dict[str, Any]:
        """How far the run has come: plain values."""
        return {
            "elapsed": self.elapsed,
            "seconds": self.seconds,
            "passed": self.passed,
            "checked": self.checked,
            "open_end": None if self._open_end is None else self._open_end.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`: what was lost since does not count."""
        self._start = self.read() - state["elapsed"]
        self.seconds = state["seconds"]
        self.passed, self.checked = list(state["passed"]), list(state["checked"])
        if self._open_end is not None:
            self._open_end.load_state(state["open_end"])

    def _spent(self) -> float:
        return self.step / self._max_steps if self._max_steps else self.elapsed / self.seconds


class Events:
    """Fractions of a run at which something is due, each once."""

    def __init__(self, *fractions: float) -> None:
        self._ahead = sorted(fractions)

    def due(self, fraction: float) -> bool:
        """Whether at least one of them has been passed since the last question."""
        passed = [f for f in self._ahead if f <= fraction]
        self._ahead = self._ahead[len(passed) :]
        return bool(passed)
