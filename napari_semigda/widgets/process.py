"""The training process and its pipes, held so that the viewer never waits for it; no Qt here.

What is to be said goes through a thread: a process that does not read lets a pipe fill up, and whoever writes into a
full one waits. What it says is read by the thread of a run (see `runner`).
"""

import contextlib
import json
import math
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

LEAVE_S = 0.3  # seconds a process gets to leave by itself when the viewer waits for that
LAST_WORDS_S = 3.0  # the same, when it does not
HANG_S = 120.0
"""Seconds without a word and without computing, after which a process is taken for hung."""
STOPPING_HANG_S = 20.0
"""The same, once Stop was pressed."""
MUTE_S = 1800.0
"""Seconds without a word, whatever it computes: no single thing that learning does takes as long."""
_COMPUTES = 0.001  # share of one processor: more than waiting takes, less than a busy computer leaves a nice process
_TICK_S = 5.0  # a longer time between two looks is one that the viewer or the computer slept through


class Child:
    """One process.

    Parameters
    ----------
    command
        How to start it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.device: str | None = None
        """In words, once it has loaded the engine."""
        self.at_work = True
        """Whether it has something to do; while images are copied for it, it rightly waits."""
        self.lines_heard = 0
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
        self._to_say: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._write, name="semigda-commands", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def say(self, **command: Any) -> None:
        """Send one command, now or when the process listens; returns at once."""
        self._to_say.put(command)

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has ended, which the listening thread says better
            while (command := self._to_say.get()) is not None:
                self._process.stdin.write(json.dumps(command) + "\n")
                self._process.stdin.flush()
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """What the process says, until it ends."""
        for line in self._process.stdout:
            self.lines_heard += 1
            try:
                yield json.loads(line)
            except ValueError:  # half a line: it was killed while it spoke
                return

    def kill(self) -> None:
        """End the process now; whoever listens hears its end."""
        self._process.kill()

    def end(self) -> None:
        """Close the input, which ends the process; kill it should it not listen."""
        self._to_say.put(None)
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                # One that waits for a dead disk, or whom a busy computer gives no time, leaves when it can. Somebody
                # has to wait for that: else it stays in the list of processes as long as the viewer.
                threading.Thread(target=self._process.wait, name="semigda-end", daemon=True).start()

    def forget(self) -> None:
        """Close what is still open, once nobody listens any more."""
        self._to_say.put(None)
        self._process.stdout.close()
        self._log.close()

    def last_words(self) -> tuple[int, str]:
        """The exit status of a process that has ended, and the end of its log."""
        status = self._process.wait(LAST_WORDS_S)
        with contextlib.suppress(OSError, ValueError):
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 10_000))
            return status, self._log.read().decode("utf-8", "replace")
        return status, ""


class Watch:
    """Tells a process that hangs from one that is busy.

    Both may say nothing for minutes: a look at a large image is one long operation. But one that works uses a
    processor, and one that is stuck does not. That is asked of the system, so the process need not be able to answer.

    Parameters
    ----------
    child
        Whom to watch; to be looked at about every second from now on.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._lines = child.lines_heard
        self._looked = time.monotonic()
        self._used = self._cpu_seconds()
        self._idle = self._mute = 0.0

    def hangs(self, patience: float, mute: float = math.inf) -> bool:
        """Whether the process has neither spoken nor computed for `patience` seconds, or not spoken for `mute`."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _TICK_S), now
        self._idle, self._mute = self._idle + passed, self._mute + passed
        used = self._cpu_seconds()
        if self._child.lines_heard != self._lines or not self._child.at_work:
            self._lines, self._mute, self._idle, self._used = self._child.lines_heard, 0.0, 0.0, used
        elif used - self._used > _COMPUTES * max(self._idle, 1.0):
            self._idle, self._used = 0.0, used
        return self._idle >= patience or self._mute >= mute

    def _cpu_seconds(self) -> float:
        try:
            times = psutil.Process(self._child.pid).cpu_times()
        except psutil.Error:  # it has ended, which the listening thread says
            return float("inf")
        return times.user + times.system
