"""One job of the training process, from its request to its last word: train, predict, or run a batch of files.

What is to be said goes through one callable, in the words of `worker`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from napari_semigda.engine.answers import batch_to_json, outcome_to_json, prediction_to_json, report_to_json
from napari_semigda.engine.exchange import Job, Outcome, PredictRequest, Resume, Standing, checkpoint_of, read_job
from napari_semigda.engine.handover import OpenPlace
from napari_semigda.engine.types import BatchReport, BatchRequest, EngineError, Plane, Report, TrainRequest
from napari_semigda.engine.verdict import refused
from napari_semigda.engine.volume import smoothed

BATCH_S = 0.2  # between two words about a batch
GROWN_S = 0.4  # between two words about masks that grow: the viewer reads what is in view after each

Batch = Callable[[BatchRequest, Any, Callable[[], bool]], Iterator[BatchReport]]
"""Takes a request, a predictor and whether to stop."""


class Files(NamedTuple):
    """What is done with files; they are above the engine, so it is told from there."""

    batch: Batch | None = None
    """Does what a `BatchRequest` asks for."""
    grow: Callable[[PredictRequest, Any, Callable[[], bool], Callable[[], int]], Iterator[float]] | None = None
    """Has masks of large images grow: takes a request, a predictor, whether to stop and which plane is in view."""
    opener: Callable[[], OpenPlace] | None = None
    """Makes what finds large images that are not copied, for one job."""


class Engine(Protocol):
    """What is needed of the engine; `TorchEngine` in use, something quick in the tests of the transport."""

    def load(self) -> str:
        """Import whatever is slow; return the device in words."""

    def trainer(self) -> Any:
        """A new trainer with ``fit``, ``stop``, ``look_at`` and ``device``."""

    def predictor(self, model: Path, device: str) -> Any:
        """A predictor with ``predict``, and with ``among`` to be told of the planes."""


class Jobs:
    """Does one job after another.

    Parameters
    ----------
    engine : Engine
        What trains and predicts.
    say : callable
        Takes one thing to say as keywords, ``kind`` among them.
    files : Files, optional
        What is done with files.
    """

    def __init__(self, engine: Engine, say: Callable[..., Any], files: Files = Files()) -> None:  # noqa: B008 - frozen
        self._engine = engine
        self._say = say
        self._files = files
        self._stop = threading.Event()
        self._trainer: Any = None
        self._view: int | None = None  # None: nobody looked since the job came
        self._stems = 0

    # -- told by another thread, at any time --------------------------------------------------------------------

    def expect(self) -> None:
        """A job is on its way: a stop meant for the one before must not end this one."""
        self._stop.clear()
        self._view = None

    def stop(self) -> None:
        """End the job soon: training saves its last good weights and predicts, predicting ends."""
        self._stop.set()
        if (trainer := self._trainer) is not None:
            trainer.stop()

    def look_at(self, plane: int) -> None:
        """Preview and predict this plane first."""
        self._view = plane
        if (trainer := self._trainer) is not None:
            trainer.look_at(plane)

    # -- done ---------------------------------------------------------------------------------------------------

    def do(self, path: Path, resume: Resume | None = None) -> None:
        """Do the job of a ``request.json``; any exception means that it could not be finished.

        With `resume`, a training goes on from its checkpoint, from its start where there is none.
        """
        job = read_job(path, self._files.opener and self._files.opener())
        if self._view is None:
            self._view = job.view
        answers = path.parent / f"round-{job.generation}"
        try:
            if isinstance(job.request, TrainRequest):
                outcome = self._train(job, answers, checkpoint_of(path.parent), resume)
            elif isinstance(job.request, BatchRequest):
                outcome = self._batch(job.request)
            else:
                predictor = self._engine.predictor(job.request.model, job.request.device)
                planes = job.request.planes
                if job.request.masks is not None:
                    skipped = self._grow(job.request, predictor, answers)
                else:
                    skipped = self._predict(smoothed(predictor, planes, job.request.smooth), planes, answers)
                stopped = self._stop.is_set()
                outcome = Outcome(job.request.model, stopped, skipped=skipped, classes=predictor.classes)
        finally:
            self._trainer = None
        self._say(kind="done", **outcome_to_json(outcome))

    def _train(self, job: Job, answers: Path, checkpoint: Path, resume: Resume | None) -> Outcome:
        """Train, choose between the new model and the one in use, predict every plane with the better one."""
        trainer = self._trainer = self._engine.trainer()
        goes_on = resume is not None and checkpoint.exists()
        if self._stop.is_set() and not goes_on:  # pressed before there was anything to stop
            return Outcome(stopped=True)
        trainer.look_at(self._view)
        request = replace(job.request, then_predict=True, keep_start=False, checkpoint=checkpoint, resume=goes_on)
        last, note = Report("starting"), "" if resume is None else resume.note
        for report in trainer.fit(request):
            last = replace(report, note=f"{note} {report.note}".strip())
            self._report(last, answers)
            if self._stop.is_set() or (resume is not None and resume.finish):  # it may not have listened before
                trainer.stop()
        self._trainer = None
        stopped = last.stage == "stopped"
        self._stop.clear()  # it ended the training; pressed again it ends the predicting
        if last.model is None:
            return Outcome(stopped=stopped)
        chosen, kept_before = choose(last, job.before)
        predictor = self._engine.predictor(chosen, trainer.device)
        planes = job.request.planes
        skipped = self._predict(predictor.among(planes), planes, answers, last)
        return Outcome(chosen, stopped or self._stop.is_set(), kept_before, skipped, predictor.classes)

    def _predict(
        self, predictor: Any, planes: tuple[Plane, ...], answers: Path, said: Report | None = None
    ) -> tuple[str, ...]:
        """Predict the plane in view, then its neighbours outwards, following the view as it moves.

        Reports count the time on from what was `said` last.
        """
        said = said or Report("predicting")
        left, skipped, began = set(range(len(planes))), [], time.monotonic()
        while left and not self._stop.is_set():
            index = min(left, key=lambda plane: (abs(plane - self._view), plane))
            left.remove(index)
            try:
                prediction = predictor.predict(planes[index], index)
                self._say(kind="prediction", **prediction_to_json(prediction, answers, self._stem()))
            except EngineError as error:  # one bad image must not cost the user all the others
                skipped.append(str(error))
            done, elapsed = len(planes) - len(left), time.monotonic() - began
            remaining = elapsed / done * len(left)
            report = replace(said, stage="predicting", fraction=done / len(planes), preview=None, message="")
            self._report(replace(report, elapsed=said.elapsed + elapsed, remaining=remaining), answers)
        return tuple(skipped)

    def _grow(self, request: PredictRequest, predictor: Any, answers: Path) -> tuple[str, ...]:
        """Predict large planes into a folder; a few words a second, after each of which there is more to see."""
        if self._files.grow is None:
            raise EngineError("This process writes no masks: restart the viewer.")
        before, began, due = None, time.monotonic(), 0.0
        for fraction in self._files.grow(request, predictor, self._stop.is_set, lambda: self._view):
            before = fraction if before is None else before
            elapsed = time.monotonic() - began
            if time.monotonic() >= due or fraction == 1:
                remaining = elapsed / (fraction - before) * (1 - fraction) if fraction > before else None
                self._report(Report("predicting", fraction=fraction, elapsed=elapsed, remaining=remaining), answers)
                due = time.monotonic() + GROWN_S
        return ()

    def _batch(self, request: BatchRequest) -> Outcome:
        """Run files through a model; a few words a second."""
        if self._files.batch is None:
            raise EngineError("This process does no batches: restart the viewer.")
        predictor = self._engine.predictor(request.model, request.device)
        report, failed, told, due = BatchReport(len(request.images)), [], 0, 0.0

        def tell() -> None:
            self._say(kind="batch", **batch_to_json(replace(report, failed=tuple(failed[told:]))))

        for report in self._files.batch(request, predictor, self._stop.is_set):
            failed += report.failed
            if time.monotonic() >= due:
                tell()
                told, due = len(failed), time.monotonic() + BATCH_S
        tell()
        stopped = report.done < report.total
        return Outcome(request.model, stopped, skipped=tuple(failed), classes=predictor.classes)

    def _report(self, report: Report, answers: Path) -> None:
        self._say(kind="report", **report_to_json(report, answers, self._stem()))

    def _stem(self) -> str:
        self._stems += 1
        return f"answer-{self._stems:06d}"


def choose(last: Report, before: Standing | None) -> tuple[Path, bool]:
    """The model to use after a round, and whether that is the one before because the new one is clearly worse.

    A round that went on from it has measured it again, on the masks as they are now: that is the fairer comparison.

    Parameters
    ----------
    last
        The last report of the round's training.
    before
        The model in use until then.
    """
    if before is None:
        return last.model, False
    if last.findings is not None and last.findings.before:
        kept = refused(last.findings)
    else:
        kept = before.beats(Standing.of(last.model, last))
    return (before.model if kept else last.model), kept
