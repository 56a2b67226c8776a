"""What the workers of a cluster do, told by the client in `cluster`.

A task may be tried more than once, so each looks first at what is on the disk. All threads of a process share a model.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from napari_semigda import __version__
from napari_semigda.engine.normalise import Contrast
from napari_semigda.engine.types import BatchRequest, EngineError
from napari_semigda.file_work import FileWork, Stopped, ends_all, extras, sentence_of
from napari_semigda.journal import Journal, digest

PIECE = 64
"""Blocks of a task: 17 megapixels."""
_ASK = 1.0  # seconds between questions whether to stop


class EndsAllError(EngineError):
    """What would go wrong with every other file as well."""


@dataclass(frozen=True)
class Run:
    """What a worker has to know of the batch, sent along with every task."""

    token: str
    request: BatchRequest
    """Without its images."""
    notes: Path
    model_digest: str
    seen: tuple[tuple[Path, int], ...]
    """What a worker must see, and its size in bytes; -1 of folders."""
    version: str
    backbone_source: str | None


class Piece(NamedTuple):
    """Blocks of a plane that are predicted in one task."""

    plane: int
    blocks: tuple[int, ...]
    contrasts: tuple[Contrast, ...]
    """Of the plane, found once for all its pieces; none where it has no other."""

    @property
    def name(self) -> str:
        return f"{self.plane}-{self.blocks[0]}"


class Turn(NamedTuple):
    """How far a file is after `advance`."""

    found: bool = False
    """Everything was there before."""
    pieces: tuple[Piece, ...] = ()
    """What is to be done before it can go on; none: it is finished."""
    image_digest: str = ""
    fraction: float = 0.0
    blocks: int = 0
    """Of the whole file."""


def advance(run: Run, path: Path, image_digest: str) -> Turn | None:
    """Do what can be done of a file at once; None when it shall stop."""
    with _told_of(path), suppress(Stopped):
        work = _work(run)
        if work.journal.has(path):
            return Turn(found=True)
        source, image_digest = work.open(path, image_digest)
        if not work.is_blockwise(source):
            for _ in work.whole(source, image_digest):
                pass
            return Turn()
        growing = work.begin(source, image_digest)
        if work.is_smoothed(growing):
            for _ in work.rest(growing):
                pass
            return Turn()
        pieces: list[Piece] = []
        for index, plane in enumerate(growing.planes):
            done = growing.unfinished.done(index)
            groups = [[n for n in group if n not in done] for group in work.predictor.pieces(plane, PIECE)]
            groups = [tuple(group) for group in groups if group]
            contrasts = work.predictor.input.contrasts(plane.image) if len(groups) > 1 else ()
            pieces += [Piece(index, group, contrasts) for group in groups]
        if pieces:
            return Turn(False, tuple(pieces), image_digest, growing.fraction, growing.blocks)
        work.finish(growing)
        return Turn()
    return None


def predict_piece(run: Run, path: Path, image_digest: str, piece: Piece) -> None:
    """Predict the blocks of a piece that no other try has finished."""
    with _told_of(path), suppress(Stopped):
        work = _work(run)
        source, _ = work.open(path, image_digest)
        growing = work.join(source, image_digest, piece.name)
        for _ in work.blocks(growing, piece.plane, piece.blocks, piece.contrasts):
            pass


def _work(run: Run) -> FileWork:
    """The model and the wishes of a run, the same for all tasks and threads of this process."""
    with _loading:
        return _begun(run)


_loading = threading.Lock()


@lru_cache(maxsize=2)
def _begun(run: Run) -> FileWork:
    check_here(run)
    from napari_semigda.engine.predict import Predictor

    request = run.request
    try:
        predictor = Predictor(request.model, request.device, run.backbone_source)
    except EngineError as error:
        raise EndsAllError(str(error)) from error
    kinds = frozenset({"masks", *extras(request)})
    journal = Journal(run.notes, request.out, request.model, kinds, request.smooth)
    return FileWork(request, predictor, _stopping(run.token), journal)


def forget() -> None:
    """Free the memory of the model: the worker is not ours."""
    _begun.cache_clear()


def _stopping(token: str) -> Callable[[], bool]:
    """Asks whether the client wants the run to end."""
    from distributed import Event

    asked, told = time.monotonic(), False

    def stop() -> bool:
        nonlocal asked, told
        if not told and time.monotonic() > asked + _ASK:
            asked = time.monotonic()
            told = Event(token).is_set()
        return told

    return stop


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn whatever is raised into a sentence that the client can read."""
    try:
        yield
    except EndsAllError:
        raise
    except Exception as error:
        raise (EndsAllError if ends_all(error) else EngineError)(sentence_of(path, error)) from None


def check_here(run: Run) -> None:
    """Refuse a worker of another version, or one that sees other files than the client; on the worker."""
    here = f"on {socket.gethostname()}"
    if run.version != __version__:
        raise EndsAllError(other_version(here, __version__, run.version))
    shared = "put images, model and output on a disk that all machines have under the same name."
    for path, size in run.seen:
        if not path.exists() or (path.is_file() and path.stat().st_size != size):
            raise EndsAllError(f"The worker {here} does not see {path}: {shared}")
    out = run.request.out
    try:
        if sign_of(run).read_text(encoding="utf-8") != run.token:
            raise FileNotFoundError
    except OSError:
        raise EndsAllError(f"The worker {here} does not see {out}: {shared}") from None
    if not os.access(run.notes, os.W_OK):
        raise EndsAllError(f"The worker {here} may not write into {out}: give it the rights, or choose another folder.")
    if digest(run.request.model) != run.model_digest:
        raise EndsAllError(f"The worker {here} sees another {run.request.model}: {shared}")


def other_version(worker: str, there: str, here: str) -> str:
    """The sentence on two versions that do not go together."""
    return f"The worker {worker} has napari-semigda {there}, but this computer {here}: install the same version on all."


def sign_of(run: Run) -> Path:
    """A file that is there as long as the run, so that only who sees the same disk can read it."""
    return run.notes / f"run-{run.token}"
