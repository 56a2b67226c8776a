"""One thread that writes what changed, latest version only, so that nobody waits for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from time import monotonic

from napari_semigda.engine.types import EngineError

RETRY_S = 5.0
"""Time after which a write is tried again that the disk refused."""


class Writer:
    """Writes in the background.

    Parameters
    ----------
    say
        Told a sentence, from the writing thread, when writes begin to fail, and an empty one when they go well again.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, Callable[[], object]] = {}
        self._when_idle: list[Iterator[object]] = []
        self._busy = False
        self._ending = False
        self._not_before = 0.0  # a full disk is not asked again at once
        self._failing = self._said = ""
        self._thread = threading.Thread(target=self._run, name="semigda-writer", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> str:
        """Why the latest write failed; empty when it did not."""
        return self._failing

    def put(self, key: Hashable, write: Callable[[], object]) -> None:
        """Do `write` soon, in place of an earlier one of the same key that has not been done yet."""
        with self._changed:
            self._waiting[key] = write
            self._changed.notify_all()

    def put_idle(self, steps: Iterator[object]) -> None:
        """Go through `steps` one by one while there is nothing to write."""
        with self._changed:
            self._when_idle.append(steps)
            self._changed.notify_all()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all is written; returns whether it is. What failed is tried once more."""
        end = monotonic() + timeout
        with self._changed:
            self._not_before = 0.0
            self._failing = ""
            self._changed.notify_all()
            done = lambda: (not self._waiting and not self._busy) or self._failing  # noqa: E731
            self._changed.wait_for(done, timeout=max(0.0, end - monotonic()))
            return not self._waiting and not self._busy

    def close(self, timeout: float = 30.0) -> bool:
        """Write what is left, then end the thread; returns whether all is written."""
        with self._changed:
            self._when_idle.clear()
        written = self.flush(timeout)
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return written

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ending and not self._ready() and not (self._when_idle and not self._waiting):
                    wait = self._not_before - monotonic() if self._waiting else None
                    self._changed.wait(wait)
                if self._ending:
                    return
                key, write = None, None
                if self._ready():
                    key = next(iter(self._waiting))
                    write = self._waiting.pop(key)
                    self._busy = True
                steps = None if write is not None else self._when_idle[0]
            if write is None:
                self._step(steps)
            else:
                self._write(key, write)

    def _ready(self) -> bool:
        return bool(self._waiting) and monotonic() >= self._not_before

    def _step(self, steps: Iterator[object]) -> None:
        try:
            next(steps)
        except (StopIteration, OSError, EngineError):
            with self._changed:
                if steps in self._when_idle:
                    self._when_idle.remove(steps)

    def _write(self, key: Hashable, write: Callable[[], object]) -> None:
        problem = ""
        try:
            write()
        except EngineError as error:
            problem = str(error)
        except Exception as error:  # whatever it is, the thread must live on and the user must know
            problem = f"A change could not be saved ({type(error).__name__}: {error}): save the masks layer as a file."
        with self._changed:
            self._busy = False
            if problem:
                self._waiting.setdefault(key, write)  # unless there is a newer one
                self._not_before = monotonic() + RETRY_S
            self._failing = problem
            self._changed.notify_all()
        if bool(problem) != bool(self._said):
            self._said = problem
            self._say(problem)
