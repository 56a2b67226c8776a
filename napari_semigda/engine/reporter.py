"""What a round tells while it runs: how far it is, how long it will still take, and how good its masks are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from napari_semigda.engine.examiner import Examiner
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.planner import Pace, Plan, tail_seconds
from napari_semigda.engine.schedule import Clock
from napari_semigda.engine.types import Prediction, Report, Stage

REPORT_EVERY = 0.2  # seconds
PREVIEW_EVERY, _PREVIEW_SHARE = 4.0, 1 / 12
"""Seconds from one preview of an image to the next, or more where previews would take a larger share of the time."""
MOVED_EVERY, _MOVED_SHARE = 0.5, 1 / 3
"""The same where the viewer has moved on to another image: somebody waits for that one."""


class Reporter:
    """Makes the reports of one round, and says when one is due.

    Parameters
    ----------
    clock, plan
        Of the round.
    examiner, objective
        Whose figures are told.
    checked, predicted
        Million pixels that are looked at after the last step: of the images held out, and of those that will be
        predicted in each orientation.
    """

    def __init__(
        self, clock: Clock, plan: Plan, examiner: Examiner, objective: Objective, checked: float, predicted: float
    ) -> None:
        self.ramp = 0.0
        """Weight of the unlabelled images in the last step, 0..1."""
        self.note = ""
        """What the user should know of how the run goes, from now on."""
        self._clock, self._plan, self._examiner, self._objective = clock, plan, examiner, objective
        self._checked, self._predicted = checked, predicted
        self._stage: Stage | None = None  # told last
        self._reported = self._previewed = -math.inf
        self._preview_seconds = 0.0
        self._shown: int | None = None  # image of the last preview
        self._looks = [plan.megapixel_seconds]  # seconds a megapixel, of every preview

    def due(self, stage: Stage) -> bool:
        """Whether the user should hear something again: of a new stage at once."""
        return stage != self._stage or time.monotonic() - self._reported > REPORT_EVERY

    def preview_due(self, index: int) -> bool:
        """Whether the image in view, number `index`, should be shown anew."""
        again = index == self._shown
        every, share = (PREVIEW_EVERY, _PREVIEW_SHARE) if again else (MOVED_EVERY, _MOVED_SHARE)
        return time.monotonic() - self._previewed > max(every, self._preview_seconds / share)

    def report(self, stage: Stage, message: str = "", **more: Any) -> Report:
        """What is known now; `more` are further fields of the report."""
        self._stage, self._reported = stage, time.monotonic()
        examiner = self._examiner
        return Report(
            stage,
            step=self._clock.step,
            fraction=self._clock.fraction(),
            elapsed=self._clock.elapsed,
            remaining=self._remaining(saved="model" in more),
            at_most=self._clock.at_most,
            loss=self._objective.loss.value,
            unlabelled_loss=self._objective.unlabelled_loss.value,
            ramp=self.ramp,
            dice=examiner.dice,
            dice_by_class=examiner.dice_by_class,
            held_out=examiner.names,
            dice_by_image=examiner.dice_by_image,
            message=message,
            note=self.note,
            **more,
        )

    def preview(self, stage: Stage, look: Callable[[], Prediction]) -> Report:
        """A report with what the model makes of one image; what `look` takes is learnt from."""
        begun, read = time.monotonic(), self._clock.read()
        found = look()
        self._looks.append((self._clock.read() - read) / found.mask.size * 1e6)
        self._previewed = time.monotonic()
        self._preview_seconds = self._previewed - begun
        self._shown = found.index
        return self.report(stage, preview=found)

    def _remaining(self, saved: bool) -> float | None:
        pace, training = Pace(self._plan.step_seconds, median(self._looks)), self._clock.remaining()
        if saved:
            return pace.megapixel * self._predicted
        return None if training is None else training + tail_seconds(pace, self._checked, self._predicted)
