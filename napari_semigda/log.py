"""What happened, one JSON object a line, for whoever has to find out why something went wrong.

A project has its own in ``semigda/logs``; what happens without one goes to the folder that the system has for such
files. Five files of one megabyte at most. No pixel and no name of a file or a person goes in (see `redact`), and a disk
that takes nothing is not heard of: a log is never worth an error.

::

    {"time": "2026-11-23T10:00:00.120+00:00", "level": "INFO", "process": 4711, "event": "round ended", "dice": 0.91}
"""

from __future__ import annotations

import json
import logging
import math
import re
import traceback
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from logging.handlers import RotatingFileHandler
from pathlib import Path

import platformdirs

from napari_semigda.redact import Redactor

NAME = "log.jsonl"
BYTES, OLDER = 2**20, 4  # of each file, and how many full ones are kept
LONGEST = 8_000  # letters of a traceback, its end
Fact = str | int | float | bool | None | tuple[str | int | float, ...]


class Log:
    """The log in one folder; the folder and the file are made when there is something to say.

    Parameters
    ----------
    folder
        Where its files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._plain = Redactor()
        self._handler = _Quiet(folder / NAME, maxBytes=BYTES, backupCount=OLDER, encoding="utf-8", delay=True)
        self._handler.setFormatter(_Lines())
        self._logger = logging.Logger("napari_semigda")  # of its own: who sets up logging for a program is not us
        self._logger.addHandler(self._handler)

    def hide(self, names: Iterable[str]) -> None:
        """Leave these names out of whatever is noted from now on."""
        self._plain.hide(names)

    def event(self, what: str, /, **facts: Fact) -> None:
        """Note that something happened: ``event("round ended", number=3, dice=0.91)``."""
        self._note(logging.INFO, what, facts)

    def problem(self, what: str, error: BaseException | str = "", /, **facts: Fact) -> None:
        """Note that something went wrong, with the sentence or the traceback that tells why."""
        said = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        self._note(logging.ERROR, what, {**facts, "details": said[-LONGEST:]})

    def _note(self, level: int, what: str, facts: dict[str, Fact]) -> None:
        with suppress(Exception):  # never worth an error
            told = {name: self._told(fact) for name, fact in facts.items()}
            self._logger.log(level, "%s", what, extra={"facts": told})

    def _told(self, fact: Fact) -> Fact:
        if isinstance(fact, float):
            return round(fact, 4) if math.isfinite(fact) else str(fact)
        if fact is None or isinstance(fact, int):
            return fact
        if isinstance(fact, tuple):
            return [self._told(each) for each in fact]
        plain_word = re.fullmatch(r"[\w.+-]{0,40}", fact) and not self._plain.knows(fact)
        return fact if plain_word else self._plain(fact)

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError, ValueError):  # what a full disk did not take
            self._handler.close()


@cache
def computer_log() -> Log:
    """The log of what happens without a project."""
    return Log(platformdirs.user_state_path("napari-semigda", appauthor=False) / "logs")


def last_lines(folder: Path, count: int) -> list[str]:
    """The newest lines of a log, at most `count`, the newest last; none where there is no log."""
    kept: deque[str] = deque(maxlen=count)
    for number in range(OLDER, -1, -1):
        path = folder / (f"{NAME}.{number}" if number else NAME)
        with suppress(OSError), path.open(encoding="utf-8", errors="replace") as lines:
            kept.extend(line.rstrip("\n")[: 2 * LONGEST] for line in lines)
    return list(kept)


class _Quiet(RotatingFileHandler):
    """Says nothing of a disk that is full, read-only or gone."""

    def _open(self):
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in logging
        with suppress(OSError, ValueError):  # what the disk did not take must not be tried for ever
            self.close()
        self.stream = None


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "process": record.process, "event": record.getMessage()}
        return json.dumps(line | record.facts)
