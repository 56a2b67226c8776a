"""Whether an image is still what it was, be it one file or a folder of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 4 * 2**20


def size_and_date(path: Path) -> tuple[int, int]:
    """Bytes, and when it was changed last in nanoseconds; of a folder the sum and the latest of its files.

    Raises
    ------
    OSError
        When it is not there.
    """
    if not path.is_dir():
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    seen = [status for _, status in _files(path)]
    return sum(status.st_size for status in seen), max((status.st_mtime_ns for status in seen), default=0)


def contents(path: Path) -> Iterator[bytes]:
    """What is to be hashed, in blocks that are quick to read: a copy of an image gives the same.

    Raises
    ------
    OSError
        When something cannot be read.
    """
    if not path.is_dir():
        yield from _blocks(path)
        return
    for name, status in _files(path):
        yield f"{name}\n{status.st_size}\n".encode()
        yield from _blocks(path / name)


def _files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """Names of all files in a folder, hidden ones aside, in order."""
    with os.scandir(folder) as entries:
        return sorted((each.name, each.stat()) for each in entries if each.is_file() and not each.name.startswith("."))


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
