"""The engine as a child process: jobs in, reports out, gone when its parent is gone.

Started as ``python -m napari_semigda.engine.worker``. One JSON object a line:

==========  =========================================================================================
to us       ``{"do": "train" | "predict" | "batch", "request": "FOLDER/request.json"}``, ``{"do": "stop"}``,
            ``{"do": "look", "plane": 3}``, ``{"do": "quit"}``; the end of the input also ends the process
from us     ``{"kind": "ready", "device": "CPU"}``, ``{"kind": "report", ...}``,
            ``{"kind": "prediction", "plane": 3, ...}``, ``{"kind": "batch", "done": 7, ...}``,
            ``{"kind": "done", "model": ..., ...}``,
            ``{"kind": "error", "message": sentence, "details": traceback}``
==========  =========================================================================================

Arrays go through files (see `exchange` and `answers`). The input is read in a thread of its own, so that stop and the
end of the input are heard in the middle of a training step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from napari_semigda.engine import exchange
from napari_semigda.engine.answers import prediction_to_json, report_to_json
from napari_semigda.engine.types import (
    BatchReport,
    BatchRequest,
    EngineError,
    Plane,
    Prediction,
    Report,
    TrainRequest,
)
from napari_semigda.engine.verdict import worse

NICENESS = 10  # enough for the viewer to come first, and not so much that any other program stops a training
BATCH_S = 0.2  # between two words about a batch

Batch = Callable[[BatchRequest, Any, Callable[[], bool]], Iterator[BatchReport]]
"""Takes a request, a predictor and whether to stop."""


class Engine(Protocol):
    """What the worker needs of the engine; `TorchEngine` in use, something quick in the tests of the transport."""

    def load(self) -> str:
        """Import whatever is slow; return the device in words."""

    def trainer(self) -> Any:
        """A new trainer with ``fit``, ``stop`` and ``look_at``."""

    def predictor(self, model: Path, device: str) -> Any:
        """A predictor with ``predict``."""


class TorchEngine:
    """The real engine, imported when the process has already said hello to its pipes."""

    def load(self) -> str:
        """Import torch and the engine.

        Returns
        -------
        str
            The device that "auto" means here, in words.
        """
        import torch._dynamo  # noqa: F401 - the first optimiser imports it: seconds that are free now

        from napari_semigda.engine import predict, train  # noqa: F401
        from napari_semigda.engine.device import describe_device, pick_device

        return describe_device(pick_device("auto"))

    def trainer(self) -> Any:
        from napari_semigda.engine.train import Trainer

        return Trainer()

    def predictor(self, model: Path, device: str) -> Any:
        from napari_semigda.engine.predict import Predictor

        return Predictor(model, device)


class Worker:
    """Does one job after another and says how they go.

    Parameters
    ----------
    engine : Engine
        What trains and predicts.
    write : callable
        Takes one line of text without its newline.
    batch : callable, optional
        Does what a `BatchRequest` asks for. Files are above the engine, so it is told from there.
    """

    def __init__(self, engine: Engine, write: Callable[[str], Any], batch: Batch | None = None) -> None:
        self._engine = engine
        self._run_batch = batch
        self._write = write
        self._writing = threading.Lock()
        self._jobs: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._trainer: Any = None
        self._view: int | None = None  # None: nobody looked since the job came
        self._stems = 0

    # -- heard in the reading thread ----------------------------------------------------------------------------

    def listen(self, lines: Iterable[bytes]) -> None:
        """Obey lines until they end; returns when the process should end."""
        for line in lines:
            try:
                command = json.loads(line)
                action = command["do"]
            except (ValueError, KeyError, TypeError):
                self.send(kind="error", message="The viewer said something that is not a command.", details=repr(line))
                continue
            if action == "quit":
                return
            self._obey(action, command)

    def _obey(self, action: str, command: dict[str, Any]) -> None:
        if action in ("train", "predict", "batch"):
            self._stop.clear()  # a stop meant for the job before must not end this one
            self._view = None
            self._jobs.put(Path(command["request"]))
        elif action == "stop":
            self._stop.set()
            if (trainer := self._trainer) is not None:
                trainer.stop()
        elif action == "look":
            self._view = int(command["plane"])
            if (trainer := self._trainer) is not None:
                trainer.look_at(self._view)

    # -- said and done in the main thread -----------------------------------------------------------------------

    def send(self, **content: Any) -> None:
        """Say one thing."""
        with self._writing:
            self._write(json.dumps(content))

    def serve(self) -> None:
        """Load the engine, then do jobs until told to finish; returns at once when the engine cannot be loaded."""
        device = None
        with self._said_in_words("The training engine could not be loaded"):
            device = self._engine.load()
        if device is None:
            return
        self.send(kind="ready", device=device)
        while (path := self._jobs.get()) is not None:
            with self._said_in_words("This could not be finished"):
                self._do(path)
            self._trainer = None

    def finish(self) -> None:
        """Make `serve` return after the job at hand."""
        self._jobs.put(None)

    @contextlib.contextmanager
    def _said_in_words(self, lead: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # whatever it was, the user waits for a word about it
            self.send(kind="error", message=in_words(error, lead), details=traceback.format_exc())
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise

    def _do(self, path: Path) -> None:
        job = exchange.read_job(path)
        if self._view is None:
            self._view = job.view
        answers = path.parent / f"round-{job.generation}"
        if isinstance(job.request, TrainRequest):
            self._train(job, answers)
        elif isinstance(job.request, BatchRequest):
            self._batch(job.request)
        else:
            predictor = self._engine.predictor(job.request.model, job.request.device)
            skipped = self._predict(predictor, job.request.planes, answers)
            stopped = self._stop.is_set()
            self._done(exchange.Outcome(job.request.model, stopped, skipped=skipped, classes=predictor.classes))

    def _batch(self, request: BatchRequest) -> None:
        """Run files through a model; a few words a second."""
        if self._run_batch is None:
            raise EngineError("This process does no batches: restart the viewer.")
        predictor = self._engine.predictor(request.model, request.device)
        report, failed, told, due = BatchReport(len(request.images)), [], 0, 0.0

        def tell() -> None:
            self.send(kind="batch", **asdict(replace(report, failed=tuple(failed[told:]))))

        for report in self._run_batch(request, predictor, self._stop.is_set):
            failed += report.failed
            if time.monotonic() >= due:
                tell()
                told, due = len(failed), time.monotonic() + BATCH_S
        tell()
        stopped = report.done < report.total
        self._done(exchange.Outcome(request.model, stopped, skipped=tuple(failed), classes=predictor.classes))

    def _train(self, job: exchange.Job, answers: Path) -> None:
        """Train, choose between the new model and the one in use, predict every plane with the better one."""
        trainer = self._trainer = self._engine.trainer()
        if self._stop.is_set():  # pressed before there was anything to stop
            self._done(exchange.Outcome(stopped=True))
            return
        trainer.look_at(self._view)
        last = Report("starting")
        for last in trainer.fit(replace(job.request, then_predict=True, keep_start=False)):
            self._report(last, answers)
            if self._stop.is_set():  # again, should it have come before the trainer was listening
                trainer.stop()
        self._trainer = None
        stopped = last.stage == "stopped"
        self._stop.clear()  # it ended the training; pressed again it ends the predicting
        if last.model is None:
            self._done(exchange.Outcome(stopped=stopped))
            return
        kept = job.before is not None and _is_worse(last, job.before)
        chosen = job.before.model if kept else last.model
        predictor = self._engine.predictor(chosen, job.request.settings.device)
        skipped = self._predict(predictor, job.request.planes, answers, last)
        stopped = stopped or self._stop.is_set()
        self._done(exchange.Outcome(chosen, stopped, kept, skipped, predictor.classes))

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
                self._show(predictor.predict(planes[index], index), answers)
            except EngineError as error:  # one bad image must not cost the user all the others
                skipped.append(str(error))
            done, elapsed = len(planes) - len(left), time.monotonic() - began
            remaining = elapsed / done * len(left)
            report = replace(said, stage="predicting", fraction=done / len(planes), preview=None, message="")
            self._report(replace(report, elapsed=said.elapsed + elapsed, remaining=remaining), answers)
        return tuple(skipped)

    def _report(self, report: Report, answers: Path) -> None:
        content = report_to_json(report, answers, self._stem())
        self.send(kind="report", **content)

    def _show(self, prediction: Prediction, answers: Path) -> None:
        content = prediction_to_json(prediction, answers, self._stem())
        self.send(kind="prediction", final=True, **content)

    def _done(self, outcome: exchange.Outcome) -> None:
        self.send(
            kind="done",
            model=None if outcome.model is None else str(outcome.model),
            stopped=outcome.stopped,
            kept=outcome.kept,
            skipped=list(outcome.skipped),
            classes={str(number): name for number, name in outcome.classes.items()},
        )

    def _stem(self) -> str:
        self._stems += 1
        return f"answer-{self._stems:06d}"


def _is_worse(last: Report, before: exchange.Standing) -> bool:
    """Whether the model of a round is clearly worse than the one in use until then.

    A round that went on from it has measured it again, on the masks as they are now: that is the fairer comparison.
    """
    if last.findings is not None and last.findings.before:
        return worse(last.findings)
    return before.beats(exchange.Standing.of(last.model, last))


def in_words(error: BaseException, lead: str) -> str:
    """Any exception as a sentence with what to do.

    Parameters
    ----------
    error : BaseException
        What happened.
    lead : str
        What could not be done, without a full stop, for errors nobody foresaw.

    Returns
    -------
    str
        One or two sentences, no traceback.
    """
    text = str(error)
    if isinstance(error, EngineError):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return (
            "The memory of this computer ran out. Close other programs or use smaller images, "
            "then press Train again; on a graphics card, choose the device CPU under Advanced."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full: make room on it, then press Train again. Your painted masks are untouched."
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return f"{lead} ({type(error).__name__}: {first_line[:200]}). Your painted masks are untouched; try again."


def _own_pipes() -> tuple[BinaryIO, Callable[[str], Any]]:
    """Keep both pipes to ourselves: whatever a library prints goes to stderr, whatever it reads is empty."""
    lines = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1, newline="\n")
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return lines, lambda text: answers.write(text + "\n")  # line-buffered


def _yield_to_the_viewer() -> None:
    """Lower this process's claim on the processors, as far as the system has words for it."""
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
    if hasattr(os, "SCHED_BATCH"):  # Linux: threads that wake at every layer of the network must not push in
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def run(engine: Engine, batch: Batch | None = None) -> None:
    """Serve `engine`, and batches where somebody knows how, on this process's pipes until they close."""
    _yield_to_the_viewer()
    lines, write = _own_pipes()
    worker = Worker(engine, write, batch)

    def obey_then_leave() -> None:
        try:
            worker.listen(lines)
        finally:
            os._exit(0)  # in the middle of a step if need be: nobody is listening any more

    threading.Thread(target=obey_then_leave, name="commands", daemon=True).start()
    try:
        worker.serve()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    run(TorchEngine())
