"""What becomes of a training whose process ended or hung. No Qt here.

The first time, another process goes on from the checkpoint, from the start where there is none yet. The second time, a
process makes the model of what the checkpoint holds and marks the images with it; so it does when Stop was pressed.
Where the training was over, only the marking is done again. A training that went well for a while has both chances
anew.
"""

import time
from dataclasses import replace
from pathlib import Path

from napari_semigda.engine.exchange import Job, Outcome, PredictRequest, Resume, checkpoint_of
from napari_semigda.engine.jobs import choose
from napari_semigda.engine.types import Report, TrainRequest
from napari_semigda.widgets import words
from napari_semigda.widgets.events import Event, Lost

WELL_S = 60.0
"""Seconds of going on after which what happened counts as mended."""


class Recovery:
    """Of one job.

    Parameters
    ----------
    job, folder
        As given to the runner; jobs that are no training are not recovered.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self.hung = False
        """Whether it is us who end the process, because it hangs."""
        self._job, self._folder = job, folder
        self._last = Report("starting")
        self._tries = 0
        self._began = time.monotonic()
        self._finishing = False
        self._kept_before: bool | None = None  # once only the marking is left
        self._next: tuple[Job, Path, Resume] | None = None
        checkpoint_of(folder).unlink(missing_ok=True)  # of another job

    @property
    def learning(self) -> bool:
        """Whether the process has a model to make, which it speaks of all the time."""
        return isinstance(self._job.request, TrainRequest) and self._last.model is None

    def next(self) -> tuple[Job, Path, Resume] | None:
        """What is to be started now; asked once a process is gone."""
        again, self._next = self._next, None
        self._began, self.hung = time.monotonic(), False
        return again

    def pass_on(self, event: Event, stopped: bool) -> Event:
        """What the viewer should hear, given what the process said and whether Stop was pressed."""
        if isinstance(event, Lost):
            return self._lost(event, stopped)
        if self._kept_before is None:
            self._last = event if isinstance(event, Report) else self._last
            return event
        match event:  # of a process that only marks
            case Report():
                return replace(event, note=self._last.note, elapsed=self._last.elapsed + event.elapsed)
            case Outcome():
                return replace(event, kept=self._kept_before)
        return event

    def _lost(self, lost: Lost, stopped: bool) -> Event:
        if not isinstance(self._job.request, TrainRequest):
            return lost.failure(self.hung)
        if time.monotonic() - self._began > WELL_S:
            self._tries = 0
        self._tries += 1
        if self._last.model is not None:
            return self._mark(lost)
        checkpoint = checkpoint_of(self._folder)
        age = time.time() - checkpoint.stat().st_mtime if checkpoint.exists() else None
        if age is None and stopped:
            return Outcome(stopped=True)
        finish = stopped or self._tries > 1
        if self._finishing or (finish and age is None):
            return lost.failure(self.hung)
        self._finishing = finish
        if age is None:
            how = "starting again"
        else:
            how = f"{'keeping what it learnt until' if finish else 'going on from'} {words.span(age)} ago"
        note = f"{self._what()}; {how}."
        self._next = self._job, self._folder, Resume(note, finish)
        self._last = replace(self._last, stage="starting", message=note, note=note, preview=None)
        return self._last

    def _mark(self, lost: Lost) -> Event:
        """The model is there: mark the images once more, or end without some of their masks."""
        request, (model, self._kept_before) = self._job.request, choose(self._last, self._job.before)
        note = f"{self._what()}; marking the images again."
        if self._tries > 1:
            return Outcome(model, True, self._kept_before, (f"{self._what()}.",), request.classes)
        marking = PredictRequest(request.planes, model, request.settings.device)
        self._next = replace(self._job, request=marking, before=None), self._folder, Resume(note)
        self._last = replace(self._last, note=note, preview=None)
        return self._last

    def _what(self) -> str:
        what = "stopped answering" if self.hung else "ended unexpectedly"
        return f"The training process {what}{' again' if self._tries > 1 else ''}"
