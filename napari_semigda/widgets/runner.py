"""One training process, kept warm, and the thread that listens to it.

A run goes like this: `Runner.submit` hands a frozen job to a napari thread worker; the worker writes it into the run
folder, tells the process to begin, and turns every line that comes back into a frozen event; the events arrive in the
viewer's own thread and leave as psygnal signals. Between runs nothing runs but the idle process.

The process ends with its input, so it cannot outlive the viewer, however the viewer ends.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.qt.threading import GeneratorWorker
from psygnal import Signal

from napari_semigda.engine import answers, exchange
from napari_semigda.engine.exchange import Job, Outcome
from napari_semigda.engine.types import BatchReport, BatchRequest, EngineError, Prediction, Report

COMMAND = (sys.executable, "-P", "-m", "napari_semigda.child")  # -P: nothing is imported from the user's folder
PATIENCE = 3.0  # seconds a process gets to leave by itself


@dataclass(frozen=True)
class Ready:
    """The process has loaded the engine."""

    device: str


@dataclass(frozen=True)
class Copied:
    """So many of so many images are where the process can read them."""

    done: int
    total: int


@dataclass(frozen=True)
class Failure:
    """Why a run ended without a result."""

    message: str
    details: str = ""


Event = Ready | Copied | Report | BatchReport | Prediction | Outcome | Failure


class Runner:
    """Runs jobs in a child process, one at a time.

    Parameters
    ----------
    command : sequence of str, optional
        How to start the process.
    """

    ready = Signal(str)  # the process is up; the device in words
    copied = Signal(int, int)
    reported = Signal(object)  # Report, or BatchReport
    predicted = Signal(object)  # Prediction
    finished = Signal(int, object)  # generation, Outcome
    failed = Signal(object)  # Failure

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._child: _Child | None = None
        self._worker: GeneratorWorker | None = None
        self._quiet = threading.Event()  # set while no thread of ours listens
        self._quiet.set()
        self._job: Job | None = None
        self._pending: tuple[Job, Path] | None = None
        self._over = False  # the result of the job at hand has been announced
        self._halt = threading.Event()  # stop was asked for before the process knew of the job

    @property
    def busy(self) -> bool:
        """Whether a job is running or waiting; loading the engine does not count."""
        return (self._job is not None and not self._over) or self._pending is not None

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        return self._child.pid if self._child is not None and self._child.alive else None

    # -- what a dock asks for -----------------------------------------------------------------------------------

    def warm(self) -> None:
        """Start the process and let it import its libraries, so that the first run need not wait for them."""
        if self._worker is None and self.pid is None:
            self._start(None, None)

    def submit(self, job: Job, folder: Path) -> None:
        """Run `job` in `folder`; a job that is running is stopped first, one that was waiting is forgotten."""
        self._pending = (job, folder)
        if self._worker is None:
            self._next()
        elif self._job is not None:
            self.stop()

    def stop(self) -> None:
        """Ask the run to stop soon: training saves its best weights so far, predicting ends."""
        if self._job is None and self._pending is not None:  # it waits for the engine to load
            (job, _), self._pending = self._pending, None
            self.finished.emit(job.generation, Outcome(stopped=True))
            return
        self._halt.set()
        self._say(do="stop")

    def look(self, plane: int) -> None:
        """Tell the run which plane is on screen."""
        if self._job is not None:
            self._say(do="look", plane=plane)

    def close(self) -> None:
        """End the process and forget the run; takes milliseconds, at most seconds. The runner can be used again."""
        self._pending = self._job = self._worker = None
        if self._child is not None:
            self._child.end()
            self._quiet.wait(PATIENCE)
            self._child.forget()
            self._child = None

    # -- the run ------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Start the waiting job, if there is one."""
        if self._pending is not None:
            job, folder = self._pending
            self._pending = None
            self._start(job, folder)

    def _start(self, job: Job | None, folder: Path | None) -> None:
        self._job, self._over, self._halt = job, False, threading.Event()
        if self.pid is None:
            if self._child is not None:
                self._child.end()
                self._child.forget()
            self._child = _Child(self._command)
        # napari's worker class itself: `create_worker` would add the question "Executing <function ...>, close?"
        # to closing the viewer, which here needs no asking.
        worker = self._worker = GeneratorWorker(_converse, self._child, job, folder, self._halt, self._quiet)
        worker.yielded.connect(lambda event: self._relay(worker, event))
        worker.finished.connect(lambda: self._after(worker))
        worker.start()

    def _relay(self, worker: GeneratorWorker, event: Event) -> None:
        """Pass on what the run says, unless it is a run that nobody waits for any more."""
        if worker is not self._worker:
            return
        match event:
            case Ready(device):
                self.ready.emit(device)
            case Copied(done, total):
                self.copied.emit(done, total)
            case Report() | BatchReport():
                self.reported.emit(event)
            case Prediction():
                self.predicted.emit(event)
            case Outcome():
                self._over = True
                self.finished.emit(self._job.generation, event)
            case Failure():
                self._over = True
                self.failed.emit(event)

    def _after(self, worker: GeneratorWorker) -> None:
        if worker is self._worker:
            self._worker = self._job = None
            self._next()

    def _say(self, **command: Any) -> None:
        if self._child is not None:
            with contextlib.suppress(EngineError):  # it has ended, which the listening thread says better
                self._child.say(**command)


class _Child:
    """The process and its pipes."""

    def __init__(self, command: Sequence[str]) -> None:
        self.device: str | None = None
        self._saying = threading.Lock()
        self._log = tempfile.TemporaryFile(prefix="napari-semigda-log-")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            # Ctrl+C in a terminal is for the viewer. Not a session of its own: Linux shares the processors out by
            # session first, so that a training in another one would be the viewer's equal whatever its niceness.
            process_group=0,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def say(self, **command: Any) -> None:
        """Send one command."""
        try:
            with self._saying:
                self._process.stdin.write(json.dumps(command) + "\n")
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise EngineError("The training process is gone.") from error

    def lines(self) -> Iterator[dict[str, Any]]:
        """What the process says, until it ends."""
        for line in self._process.stdout:
            yield json.loads(line)

    def end(self) -> None:
        """Close the input, which ends the process; kill it should it not listen."""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """Close what is still open, once nobody listens any more."""
        self._process.stdout.close()
        self._log.close()

    def last_words(self) -> Failure:
        """Why the process ended, as far as can be told."""
        status = self._process.wait(PATIENCE)
        with contextlib.suppress(OSError, ValueError):
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 10_000))
            return Failure(_cause(status), self._log.read().decode("utf-8", "replace"))
        return Failure(_cause(status))


def _cause(status: int) -> str:
    """An exit status as a sentence with what to do."""
    kept = "Your painted masks are untouched; press Train to start again."
    if status < 0 and -status in (getattr(signal, "SIGKILL", 9), 9):
        return (
            "The system ended the training process, most likely because memory ran out. "
            f"Close other programs or use smaller images. {kept}"
        )
    if status < 0:
        return f"The training process crashed (signal {-status}). {kept}"
    return f"The training process ended unexpectedly (exit status {status}). {kept}"


def _converse(
    child: _Child, job: Job | None, folder: Path | None, halt: threading.Event, quiet: threading.Event
) -> Iterator[Event]:
    """Runs in a thread: one job from its files to its last word. No RuntimeError may leave: napari would drop it."""
    quiet.clear()
    try:
        yield from _talk(child, job, folder, halt)
    except EngineError as error:
        yield Failure(str(error))
    except Exception as error:
        yield Failure(f"The viewer lost touch with its training process ({error}): press Train to start again.")
    finally:
        quiet.set()


def _talk(child: _Child, job: Job | None, folder: Path | None, halt: threading.Event) -> Iterator[Event]:
    lines = child.lines()
    if child.device is None:
        for line in lines:
            yield from _event(line, None)
            if line["kind"] == "ready":
                child.device = line["device"]
                break
            return  # what kept it from getting ready has been said
        else:
            yield child.last_words()
            return
    if job is None:
        return
    for done, total in exchange.write_job(folder, job):
        yield Copied(done, total)
        if halt.is_set():
            yield Outcome(stopped=True)
            return
        if not child.alive:
            break
    kind = {exchange.PredictRequest: "predict", BatchRequest: "batch"}.get(type(job.request), "train")
    with contextlib.suppress(EngineError):  # its last words follow
        child.say(do=kind, request=str(folder / "request.json"))
        if halt.is_set():  # pressed a moment ago, when it would have been taken for the job before
            child.say(do="stop")
    for line in lines:
        yield from _event(line, folder / f"round-{job.generation}")
        if line["kind"] in ("done", "error"):
            return
    yield child.last_words()


def _event(line: dict[str, Any], folder: Path | None) -> Iterator[Event]:
    match line["kind"]:
        case "ready":
            yield Ready(line["device"])
        case "report":
            report = answers.report_from_json(line, folder)
            yield report
            if report.preview is not None:
                yield report.preview
        case "batch":
            yield answers.batch_from_json(line)
        case "prediction":
            yield answers.prediction_from_json(line, folder)
        case "done":
            yield answers.outcome_from_json(line)
        case "error":
            yield Failure(line["message"], line["details"])
