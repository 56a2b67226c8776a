"""Temporary folders that end with their program, even with one that was killed.

They hold copies of the user's images and masks, so none may stay on the disk for months. Each has a lock that the
system drops with the process; the next program that needs such a folder removes those whose lock nobody holds.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "napari-semigda-"
_LOCK = "in-use"
_TRIES = 3


class Scratch:
    """A temporary folder; removed by `close`, with this object, or after the end of the program.

    Attributes
    ----------
    path : Path
        The folder.
    """

    def __init__(self) -> None:
        remove_left_over()
        for _ in range(_TRIES):
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = FileLock(self.path / _LOCK, timeout=0, thread_local=False)
            with suppress(Timeout, OSError, NotImplementedError):  # a disk without locks: then nobody removes it either
                lock.acquire()
            if self.path.is_dir():  # else somebody took it for left over before it was locked
                break
        self.close = weakref.finalize(self, _remove, self.path, lock)
        """Remove the folder; nothing happens the second time."""


def _remove(path: Path, lock: FileLock) -> None:
    with suppress(OSError):
        lock.release()  # first: some systems remove no file that is open
    shutil.rmtree(path, ignore_errors=True)


@cache
def remove_left_over() -> None:
    """Remove the folders of programs that were killed; once in a program."""
    with suppress(OSError):
        for lock_file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{_LOCK}"):
            lock = FileLock(lock_file, timeout=0, thread_local=False)
            with suppress(Timeout, OSError, NotImplementedError):  # in use, or somebody else's
                lock.acquire()
                _remove(lock_file.parent, lock)
