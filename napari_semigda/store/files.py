"""Files that are whole at every moment: replaced in one step, on the disk when we say so, the version before kept."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from filelock import FileLock, Timeout

from napari_semigda.engine.strangers import parse_json
from napari_semigda.engine.types import EngineError

PLACES = ("masks", "rounds", "pictures")
"""Folders that files are written into."""
PREVIOUS = ".previous"
"""Added to the name of a file for the version before."""


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file anew; whoever reads it, or looks after a power cut, finds the old or the new version, never a part.

    Parameters
    ----------
    path
        What to replace. The version there now stays as ``NAME.previous``.
    write
        Writes the new version to the path it is given, in the same folder and with the same suffix.

    Raises
    ------
    EngineError
        When the disk refuses; the old version is then untouched.
    """
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        _flush(part)
        keep_previous(path)
        os.replace(part, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise EngineError(refusal(path, error)) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def keep_previous(path: Path) -> None:
    """Give the present version a second name, so that there is no moment without one under the first."""
    if not path.exists():
        return
    link = path.with_name(f".{os.getpid()}.part.{path.name}{PREVIOUS}")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without links
        shutil.copy2(path, link)
    os.replace(link, path.with_name(path.name + PREVIOUS))
    link.unlink(missing_ok=True)  # POSIX leaves both names where they were one file already


def retire(path: Path) -> None:
    """Remove a file and keep it as ``NAME.previous``."""
    try:
        if path.exists():
            os.replace(path, path.with_name(path.name + PREVIOUS))
            _flush_folder(path.parent)
    except OSError as error:
        raise EngineError(refusal(path, error)) from error


def set_aside(path: Path, why: str) -> None:
    """Rename a file that cannot be used to ``NAME.damaged``, ``NAME.damaged2``..., so that nothing overwrites it."""
    for number in ("", *range(2, 1000)):
        aside = path.with_name(f"{path.name}.{why}{number}")
        if not aside.exists():
            with suppress(OSError):  # on a read-only disk it is safe where it is
                os.replace(path, aside)
            return


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written; only for whoever holds the lock."""
    with suppress(OSError):
        for part in (*folder.glob(".*.part.*"), *folder.glob("*.part")):  # ours, and of the training process
            part.unlink(missing_ok=True)


def refusal(path: Path, error: OSError) -> str:
    """A sentence on a disk that does not take a file."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{path} cannot be saved ({reason}): free some space, or make the folder writable. Work goes on meanwhile."


def plain_name(name: Any) -> str:
    """`name` when it names a file right in its folder, wherever it is opened; ValueError for every other thing."""
    if not isinstance(name, str) or not name or name in (".", "..") or "\0" in name:
        raise ValueError(f"{name!r} is no file name")
    if PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        raise ValueError(f"{name!r} leads out of the folder")
    if len(name.encode("utf-8", "surrogateescape")) > 255:
        raise ValueError(f"{name!r:.40} is longer than names of files are")
    return name


def check_places(home: Path) -> None:
    """Refuse a project whose folders are links that lead out of it: what is written there would land elsewhere.

    Images may be links; they are never written to.
    """
    inside = home.resolve()
    for name in PLACES:
        if not (home / name).resolve().is_relative_to(inside):
            raise EngineError(f"{home / name} is a link that leads out of the project: put a folder in its place.")


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file; see `replace_file`."""
    replace_file(path, lambda part: part.write_text(json.dumps(content, indent=1), encoding="utf-8"))


class Lock:
    """Keeps a folder from being opened twice.

    The system holds it and drops it with the process, however that ends, so no lock is ever stale.

    Parameters
    ----------
    folder
        Where the file ``lock`` goes, which exists.

    Raises
    ------
    EngineError
        When another process, or another viewer of this one, holds it, or see `check_places`.
    OSError
        When no lock can be had on this disk.
    """

    def __init__(self, folder: Path) -> None:
        check_places(folder)
        self._holder = folder / "opened-by.json"
        self._lock = FileLock(folder / "lock", timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise EngineError(
                f"The project {folder.parent} is open already{self._whose()}: close it there first."
            ) from None
        except NotImplementedError as error:
            raise OSError(str(error)) from error
        holder = {"process": os.getpid(), "computer": socket.gethostname()}
        with suppress(OSError):
            self._holder.unlink(missing_ok=True)
            with self._holder.open("x", encoding="utf-8") as file:  # never through a link that somebody left here
                json.dump(holder, file)

    def _whose(self) -> str:
        with suppress(OSError, ValueError, KeyError, TypeError):
            if not self._holder.is_file():  # a pipe would keep us waiting
                return ""
            with self._holder.open("rb") as file:
                holder = parse_json(file.read(1000))
            return f" (in process {int(holder['process'])} on {str(holder['computer'])[:80]})"
        return ""

    def release(self) -> None:
        """Let others open the folder."""
        with suppress(OSError):
            self._holder.unlink(missing_ok=True)
        self._lock.release()


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags)
    try:
        yield handle
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    with _opened(path, os.O_RDWR) as handle:
        os.fsync(handle)


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":
        with suppress(OSError), _opened(folder, os.O_RDONLY) as handle:  # some file systems cannot
            os.fsync(handle)
