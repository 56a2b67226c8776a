"""Whether an image is still what it was, be it one file or a folder of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 4 * 2**20
_DESCRIPTIONS = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}


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

    Of the chunks of an OME-Zarr, which may be millions, only names and sizes count.

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
        if not _is_zarr(path) or name.rpartition("/")[2] in _DESCRIPTIONS:
            yield from _blocks(path / name)


def _is_zarr(folder: Path) -> bool:
    return folder.suffix.lower() == ".zarr"


def _files(folder: Path, below: str = "") -> list[tuple[str, os.stat_result]]:
    """Names of the files that an image consists of, in order: not hidden ones, nor labels that lie in an OME-Zarr."""
    found = []
    with os.scandir(folder / below) as entries:
        for each in entries:
            name = f"{below}{each.name}"
            if each.is_file() and (each.name in _DESCRIPTIONS or not each.name.startswith(".")):
                found.append((name, each.stat()))
            elif _is_zarr(folder) and each.is_dir() and name != "labels":
                found += _files(folder, f"{name}/")
    return sorted(found, key=lambda file: file[0])


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
