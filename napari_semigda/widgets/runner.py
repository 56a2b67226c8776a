"""One training process, kept warm, and the thread that listens to it.

A run goes like this: `Runner.submit` hands a frozen job to a napari thread worker; the worker writes it into the run
folder, tells the process to begin, and turns every line that comes back into a frozen event; the events arrive in the
viewer's own thread and leave as psygnal signals. Between runs nothing runs but the idle process.

The process ends with its input, so it cannot outlive the viewer, however the viewer ends. A training whose process
ends or hangs is gone on with in a new one (see `recovery`).
"""

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from napari.qt.threading import GeneratorWorker
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_semigda.engine import exchange
from napari_semigda.engine.exchange import Job, Outcome, Resume
from napari_semigda.engine.types import BatchReport, BatchRequest, EngineError, Prediction, Report
from napari_semigda.widgets import process
from napari_semigda.widgets.events import Copied, Event, Failure, Lost, Ready, event_of
from napari_semigda.widgets.process import Child, Watch
from napari_semigda.widgets.recovery import Recovery

COMMAND = (sys.executable, "-P", "-m", "napari_semigda.child")  # -P: nothing is imported from the user's folder
LOOK_EVERY_MS = 1000  # whether the process hangs


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
        self._child: Child | None = None
        self._watch: tuple[Watch, QTimer] | None = None
        self._worker: GeneratorWorker | None = None
        self._quiet = threading.Event()  # set while no thread of ours listens
        self._quiet.set()
        self._job: Job | None = None
        self._recovery: Recovery | None = None  # of the job at hand
        self._pending: tuple[Job, Path] | None = None
        self._over = False  # the result of the job at hand has been announced
        self._halt = threading.Event()  # stop was asked for before the process knew of the job
        self._looked: int | None = None  # at which plane, since the job was submitted

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
        self._pending, self._looked = (job, folder), None
        if self._worker is None:
            self._next()
        elif self._job is not None:
            self.stop()

    def stop(self) -> None:
        """Ask the run to stop soon: training saves its last good weights, predicting ends."""
        if self._job is None and self._pending is not None:  # it waits for the engine to load
            (job, _), self._pending = self._pending, None
            self.finished.emit(job.generation, Outcome(stopped=True))
            return
        self._halt.set()
        if self._child is not None:
            self._child.say(do="stop")

    def look(self, plane: int) -> None:
        """Tell the run which plane is on screen."""
        if self.busy:
            self._looked = plane
            if self._child is not None:
                self._child.say(do="look", plane=plane)

    def close(self) -> None:
        """End the process and forget the run; milliseconds, below a second at worst. The runner can be used again."""
        self._pending = self._job = self._worker = self._recovery = None
        self._halt.set()
        self._stop_watching()
        if self._child is not None:
            self._child.end()
            self._quiet.wait(process.LEAVE_S)
            self._child.forget()
            self._child = None

    # -- the run ------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Start the waiting job, if there is one."""
        if self._pending is not None:
            job, folder = self._pending
            self._pending = None
            self._recovery = Recovery(job, folder)
            self._halt = threading.Event()
            self._start(job, folder)

    def _start(self, job: Job | None, folder: Path | None, resume: Resume | None = None) -> None:
        self._job, self._over = job, False
        if self.pid is None:
            if self._child is not None:
                self._child.end()
                self._child.forget()
            self._child = Child(self._command)
        # napari's worker class itself: `create_worker` would add the question "Executing <function ...>, close?"
        # to closing the viewer, which here needs no asking.
        talk = _talk(self._child, job, folder, resume, self._halt, lambda: self._looked)
        worker = self._worker = GeneratorWorker(_converse, talk, self._quiet)
        worker.yielded.connect(lambda event: self._relay(worker, event))
        worker.finished.connect(lambda: self._after(worker))
        worker.start()
        self._start_watching()

    def _relay(self, worker: GeneratorWorker, event: Event) -> None:
        """Pass on what the run says, unless it is a run that nobody waits for any more."""
        if worker is not self._worker:
            return
        if self._recovery is not None:
            event = self._recovery.pass_on(event, stopped=self._halt.is_set())
        elif isinstance(event, Lost):
            event = event.failure()
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
        if worker is not self._worker:
            return
        self._stop_watching()
        self._worker = self._job = None
        again = None if self._recovery is None else self._recovery.next()
        if again is None:
            self._recovery = None
            self._next()
        else:
            self._start(*again)

    # -- whether it hangs ---------------------------------------------------------------------------------------

    def _start_watching(self) -> None:
        watch, timer = Watch(self._child), QTimer()
        timer.timeout.connect(self._look_whether_it_hangs)
        timer.start(LOOK_EVERY_MS)
        self._watch = watch, timer

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch[1].stop()
            self._watch = None

    def _look_whether_it_hangs(self) -> None:
        patience = process.STOPPING_HANG_S if self._halt.is_set() else process.HANG_S
        mute = process.MUTE_S if self._recovery is not None and self._recovery.learning else math.inf
        if self._watch is not None and self._watch[0].hangs(patience, mute):
            self._stop_watching()
            if self._recovery is not None:
                self._recovery.hung = True
            self._child.kill()  # the listening thread hears of it


def _converse(talk: Iterator[Event], quiet: threading.Event) -> Iterator[Event]:
    """Runs in a thread, and the talk with it. No RuntimeError may leave: napari would drop it."""
    quiet.clear()
    try:
        yield from talk
    except EngineError as error:
        yield Failure(str(error))
    except Exception as error:
        yield Failure(f"The viewer lost touch with its training process ({error}): press Train to start again.")
    finally:
        quiet.set()


def _talk(
    child: Child,
    job: Job | None,
    folder: Path | None,
    resume: Resume | None,
    halt: threading.Event,
    looked: Callable[[], int | None],
) -> Iterator[Event]:
    """One job from its files to its last word; without a job, until the process is ready."""
    lines = child.lines()
    if child.device is None:
        for line in lines:
            yield from event_of(line, None)
            if line["kind"] == "ready":
                child.device, child.at_work = line["device"], False
                break
            return  # what kept it from getting ready has been said
        else:
            yield Lost(*child.last_words())
            return
    if job is None:
        return
    for done, total in exchange.write_job(folder, job):
        yield Copied(done, total)
        if halt.is_set() and resume is None:  # else there is something to keep
            yield Outcome(stopped=True)
            return
        if not child.alive:
            break
    kind = {exchange.PredictRequest: "predict", BatchRequest: "batch"}.get(type(job.request), "train")
    more = {} if resume is None else {"resume": asdict(resume)}
    child.at_work = True
    child.say(do=kind, request=str(folder / "request.json"), **more)
    if halt.is_set():  # pressed a moment ago, when it would have been taken for the job before
        child.say(do="stop")
    if (plane := looked()) is not None:  # the slider moved meanwhile: the job was written with where it stood before
        child.say(do="look", plane=plane)
    for line in lines:
        yield from event_of(line, folder / f"round-{job.generation}")
        if line["kind"] in ("done", "error"):
            child.at_work = False
            return
    yield Lost(*child.last_words())
