"""The engine as a child process: jobs in, reports out, gone when its parent is gone.

Started as ``python -m napari_semigda.engine.worker``. One JSON object a line:

==========  =========================================================================================
to us       ``{"do": "train" | "predict" | "batch", "request": "FOLDER/request.json"}``, ``{"do": "stop"}``,
            ``{"do": "look", "plane": 3}``, ``{"do": "quit"}``; the end of the input also ends the process.
            A training that was cut off: ``"resume": {"note": sentence, "finish": false}`` as well
from us     ``{"kind": "ready", "device": "CPU"}``, ``{"kind": "report", ...}``,
            ``{"kind": "prediction", "plane": 3, ...}``, ``{"kind": "batch", "done": 7, ...}``,
            ``{"kind": "done", "model": ..., ...}``,
            ``{"kind": "error", "message": sentence, "details": traceback}``
==========  =========================================================================================

Arrays go through files (see `exchange` and `answers`). The input is read in a thread of its own, so that stop and the
end of the input are heard in the middle of a training step. How a job is done is the business of `jobs`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from napari_semigda.engine.exchange import Resume
from napari_semigda.engine.jobs import Engine, Files, Jobs
from napari_semigda.engine.trouble import lost_device, ran_out_of_memory
from napari_semigda.engine.types import EngineError

NICENESS = 10  # enough for the viewer to come first, and not so much that any other program stops a training


class TorchEngine:
    """The real engine, imported when the process has already said hello to its pipes."""

    def load(self) -> str:
        """Import torch and the engine.

        Returns
        -------
        str
            The device that "auto" means here and why, in words.
        """
        import torch._dynamo  # noqa: F401 - the first optimiser imports it: seconds that are free now

        from napari_semigda.engine import predict, train  # noqa: F401
        from napari_semigda.engine.device import explain_device

        return explain_device()

    def trainer(self) -> Any:
        from napari_semigda.engine.train import Trainer

        return Trainer()

    def predictor(self, model: Path, device: str) -> Any:
        from napari_semigda.engine.predict import Predictor

        return Predictor(model, device)


class Worker:
    """Hears what is wanted, has it done, and says how that goes.

    Parameters
    ----------
    engine : Engine
        What trains and predicts.
    write : callable
        Takes one line of text without its newline.
    files : Files, optional
        What is done with files.
    """

    def __init__(self, engine: Engine, write: Callable[[str], Any], files: Files = Files()) -> None:  # noqa: B008
        self._engine = engine
        self._jobs = Jobs(engine, self.send, files)
        self._write = write
        self._writing = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Path, Resume | None] | None] = queue.SimpleQueue()

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
            self._jobs.expect()
            resume = command.get("resume")
            self._waiting.put((Path(command["request"]), resume and Resume(**resume)))
        elif action == "stop":
            self._jobs.stop()
        elif action == "look":
            self._jobs.look_at(int(command["plane"]))

    # -- said, and done in the main thread ----------------------------------------------------------------------

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
        while (job := self._waiting.get()) is not None:
            with self._said_in_words("This could not be finished"):
                self._jobs.do(*job)

    def finish(self) -> None:
        """Make `serve` return after the job at hand."""
        self._waiting.put(None)

    @contextlib.contextmanager
    def _said_in_words(self, lead: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # whatever it was, the user waits for a word about it
            self.send(kind="error", message=in_words(error, lead), details=traceback.format_exc())
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise


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
    if ran_out_of_memory(error):
        return (
            "The memory of this computer ran out. Close other programs or use smaller images, "
            "then press Train again; on a graphics card, choose the device CPU under Advanced."
        )
    if lost_device(error):
        return "The graphics card stopped working. Choose the device CPU under Advanced, then press Train again."
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


def run(engine: Engine, files: Files = Files()) -> None:  # noqa: B008 - frozen
    """Serve `engine`, and what is done with files, on this process's pipes until they close."""
    _yield_to_the_viewer()
    lines, write = _own_pipes()
    worker = Worker(engine, write, files)

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
