"""TIFF files, opened. The one that was open last is not parsed again: its pixels are wanted next."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_semigda.engine.types import EngineError

_recent: list[tuple[tuple[str, int, int], Any]] = []
"""At most one file, closed, and what it was when it was parsed; whoever uses it takes it out."""


@contextmanager
def opened(path: Path, *, for_all: bool = False) -> Iterator[Any]:
    """A `tifffile.TiffFile`, closed again at the end.

    Parameters
    ----------
    path
        The file.
    for_all
        Whether all its pages are looked at, and one that has a single page is worth keeping. (Of several, tifffile
        makes something else once they are put into series.)

    Raises
    ------
    EngineError
        At the end, when pages are missing that were looked for; tifffile only logs that.
    """
    import tifffile

    known = path.stat()
    key = str(path), known.st_size, known.st_mtime_ns
    kept = _take(key)
    with _watching(path):
        tif = kept or tifffile.TiffFile(path)
        try:
            tif.filehandle.open()
            yield tif
            alone = kept or (for_all and not tif.pages.is_multipage)
        finally:
            tif.close()
    if alone:
        _recent[:] = [(key, tif)]


def _take(key: tuple[str, int, int]) -> Any | None:
    """The file that was open last, where it is this one."""
    try:
        kept, tif = _recent.pop()
    except IndexError:
        return None
    return tif if kept == key else None


@contextmanager
def _watching(path: Path) -> Iterator[None]:
    """Refuse a truncated file: when pages are missing at its end tifffile only logs it."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    if any("invalid page offset" in message for message in heard):
        raise EngineError(f"{path} is truncated (pages are missing at its end): copy it again or remove it.")
