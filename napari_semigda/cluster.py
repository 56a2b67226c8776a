"""A batch on the workers of a Dask cluster that runs already: files as tasks, and of large files pieces of blocks.

What is done with a file is in `file_work`, the same here as on one computer, and what workers are asked for in
`cluster_worker`. Dask decides who does it, and has it done again where a worker is lost. So a task may be tried more
than once, and looks first at what is on the disk::

    client                                    a worker
    advance(file) ->                          finished already, or predicted and written -> done
                                              large: its masks are begun -> pieces that are missing
    predict_piece(file, piece), all of them -> its blocks, chunk by chunk -> noted by the client
    advance(file), when no piece is left ->   no block is missing, masks are put in place -> done

A file is replaced in one step, a block is one chunk of its store, and only the client writes tables. Images, model and
output folder are on a disk that all machines see under the same name; nothing of them goes over the network here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from napari_semigda import __version__
from napari_semigda.batch import Tally, check_batch, names_of_outputs, prepared
from napari_semigda.cluster_worker import (
    EndsAllError,
    Piece,
    Run,
    Turn,
    advance,
    check_here,
    forget,
    other_version,
    predict_piece,
    sign_of,
)
from napari_semigda.engine.header import read_header
from napari_semigda.engine.normalise import Input
from napari_semigda.engine.types import BatchReport, BatchRequest, EngineError, Plane
from napari_semigda.file_work import OVERLAYS, sentence_of
from napari_semigda.formats import stem_of
from napari_semigda.journal import Journal

if TYPE_CHECKING:
    from distributed import Client, Future

EXTRA = "napari-semigda[cluster]"
_CONNECT = 8  # seconds for the scheduler to answer
_WORKERS = 10  # seconds for the first worker to be there
_PATIENCE = 60  # seconds for the tasks at hand to end, once they shall
_FOLDERS = 20  # of images that are looked for on every worker


@dataclass
class _Large:
    """A large file that workers are at."""

    image_digest: str
    blocks: int
    fraction: float
    left: set[str]
    """Keys of the tasks that are not done."""


def run_on_cluster(request: BatchRequest, scheduler: str, backbone_source: str | None = None) -> Iterator[BatchReport]:
    """As `batch.run_batch`, on the workers of a Dask cluster; reports come after every file and piece.

    Closed or interrupted, it has what has not begun cancelled and waits for what is at hand; files are whole or not
    there, and where it shall be possible to go on, finished blocks stay.

    Parameters
    ----------
    request
        The files and what is wanted of them.
    scheduler
        Its address, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.
    backbone_source
        Where workers find the weights of a `tiny` or `sd` backbone, when not where the model file says.

    Raises
    ------
    EngineError
        As `run_batch`; also when there is no such cluster, a worker has another version of this program, or does not
        see the files.
    """
    images = tuple(path.absolute() for path in request.images)
    request = replace(request, model=request.model.absolute(), images=images, out=request.out.absolute())
    if backbone_source is not None and Path(backbone_source).exists():
        backbone_source = str(Path(backbone_source).absolute())
    check_batch(request)
    rule = Input.of_model(read_header(request.model))

    def check(planes: Sequence[Plane]) -> None:
        for plane in planes:
            rule.check(plane)

    with _connected(scheduler) as client:
        _check_versions(client)
        with prepared(request, check) as journal, _described(request, journal, backbone_source) as run:
            _check_workers(client, run)
            tally = Tally(request, journal)
            yield from _Client(client, run, tally).reports()
            tally.write_tables()


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    """A client of a cluster that has workers."""
    try:
        from distributed import Client
        from distributed.utils import silence_logging_cmgr
    except ImportError as error:
        raise EngineError(
            f'A cluster needs the package distributed, which is not installed: run pip install "{EXTRA}".'
        ) from error
    with ExitStack() as cleanup:
        for name in ("distributed", "distributed.client", "tornado.application"):  # they speak on stderr
            cleanup.enter_context(silence_logging_cmgr("CRITICAL", name))
        try:
            client = cleanup.enter_context(Client(scheduler, timeout=_CONNECT, set_as_default=False))
        except Exception as error:  # of many kinds, from an address that is none to a certificate that is missing
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise EngineError(
                f"No Dask scheduler answers at {scheduler} ({reason}): check the address, as in "
                "tcp://192.168.1.10:8786, and that dask scheduler is running there."
            ) from error
        try:
            client.wait_for_workers(1, timeout=_WORKERS)
        except TimeoutError as error:
            raise EngineError(
                f"The Dask scheduler at {scheduler} has no workers: start some with dask worker {scheduler}."
            ) from error
        yield client


def _check_versions(client: Client) -> None:
    """Refuse workers whose masks might be others than ours; works on those that have nothing of ours."""
    for worker, version in client.run(metadata.version, "napari-semigda", on_error="return").items():
        if isinstance(version, metadata.PackageNotFoundError):
            raise EngineError(
                f"The worker {worker} has no napari-semigda: install version {__version__} of it there, with "
                f'pip install "{EXTRA}=={__version__}".'
            )
        if isinstance(version, str) and version != __version__:
            raise EngineError(other_version(worker, version, __version__))


@contextmanager
def _described(request: BatchRequest, journal: Journal, backbone_source: str | None) -> Iterator[Run]:
    """The batch in short, and a file in its notes that only who sees the same disk finds."""
    firsts = {path.parent: path for path in reversed(request.images)}
    seen = [request.model, *list(firsts.values())[-_FOLDERS:]]
    sizes = tuple((path, path.stat().st_size if path.is_file() else -1) for path in seen if path.exists())
    short, token = replace(request, images=()), uuid4().hex
    run = Run(token, short, journal.folder, journal.model, sizes, __version__, backbone_source)
    journal.folder.mkdir(parents=True, exist_ok=True)
    sign = sign_of(run)
    sign.write_text(token, encoding="utf-8")
    try:
        yield run
    finally:
        sign.unlink(missing_ok=True)


def _check_workers(client: Client, run: Run) -> None:
    """Refuse a cluster that does not see the files, before there is work in it."""
    for worker, told in client.run(check_here, run, on_error="return").items():
        if isinstance(told, EngineError):
            raise told
        if isinstance(told, Exception) and not isinstance(told, OSError):  # of those lost, a task will tell
            raise EngineError(
                f"The worker {worker} cannot run napari-semigda ({type(told).__name__}: {told}): install "
                f'pip install "{EXTRA}=={__version__}" there, and start it again.'
            ) from told


@dataclass
class _Client:
    """A run as the client sees it."""

    client: Client
    run: Run
    tally: Tally
    _tasks: dict[str, tuple[Future, Path, Piece | None]] = field(default_factory=dict)
    """Those that are not done, by key."""
    _large: dict[Path, _Large] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def reports(self) -> Iterator[BatchReport]:
        """Have all files done."""
        from distributed import as_completed

        self._arriving = as_completed(loop=self.client.loop)
        try:
            for path in self.tally.request.images:
                self._submit(path)
            for future in self._arriving:
                if future.key not in self._tasks:
                    continue  # given up
                _, path, piece = self._tasks.pop(future.key)
                failed = self._hear(future, path, piece)
                yield self._report((failed,) if failed else ())
            yield self._report()
        finally:
            self._end()

    def _report(self, failed: tuple[str, ...] = ()) -> BatchReport:
        return self.tally.report(sum(large.fraction for large in self._large.values()), failed)

    def _submit(self, path: Path, piece: Piece | None = None, image_digest: str = "") -> str:
        """Hand a task to the cluster; those of files that have begun come first."""
        kind = "file" if piece is None else "piece"
        key = f"semigda-{kind}-{self.run.token}-{next(self._numbers)}"
        how = {"key": key, "pure": False, "priority": 1 if image_digest else 0}
        how["retries"] = 1  # a disk or a memory may fail on one machine alone
        if piece is None:
            future = self.client.submit(advance, self.run, path, image_digest, **how)
        else:
            future = self.client.submit(predict_piece, self.run, path, image_digest, piece, **how)
        self._tasks[key] = future, path, piece
        self._arriving.add(future)
        return key

    def _hear(self, future: Future, path: Path, piece: Piece | None) -> str:
        """Take up what a task has come to; returns what is wrong with its file, if anything."""
        if future.status not in ("finished", "error"):
            raise EngineError(
                "The Dask scheduler was lost. Files finished so far are kept: start it again, and go on with --resume."
            )
        try:
            if future.status == "error":
                raise _plainly(path, future.exception())
            told = future.result()
            if piece is not None:
                self._note(path, piece, future.key)
            elif told.pieces:
                self._begin(path, told)
            else:
                self._large.pop(path, None)
                self.tally.before += told.found and self.tally.request.resume
                self.tally.finished.add(path)
        except EndsAllError:
            raise
        except EngineError as error:
            if self._large.pop(path, None) is None and piece is not None:
                return ""  # another piece of it has failed before
            if piece is not None:
                self._give_up(path)
            return self.tally.fail(path, error)
        return ""

    def _begin(self, path: Path, turn: Turn) -> None:
        if path not in self._large:
            self.tally.ahead += turn.fraction
        keys = {self._submit(path, piece, turn.image_digest) for piece in turn.pieces}
        self._large[path] = _Large(turn.image_digest, turn.blocks, turn.fraction, keys)

    def _note(self, path: Path, piece: Piece, key: str) -> None:
        """A piece is done; after the last one the masks are put in place."""
        if path not in self._large:
            return
        large = self._large[path]
        self.tally.journal.unfinished(path, large.image_digest).note(piece.plane, piece.blocks)
        large.fraction += len(piece.blocks) / (large.blocks + 1)
        large.left.discard(key)
        if not large.left:
            self._submit(path, image_digest=large.image_digest)

    def _give_up(self, path: Path | None = None) -> list[Future]:
        """Cancel the tasks, of a file or all, that no worker has; returns those that one has."""
        wanted = [task[0] for task in self._tasks.values() if path in (None, task[1])]
        if not wanted:
            return []
        with_workers = {key for keys in self.client.processing().values() for key in keys}
        idle = [future for future in wanted if future.key not in with_workers and not future.done()]
        for future in idle:
            del self._tasks[future.key]
        self.client.cancel(idle)
        return [future for future in wanted if future.key in with_workers]

    def _end(self) -> None:
        """Nothing of the run goes on after this: what has begun is told to stop and waited for."""
        from distributed import Event, as_completed

        with suppress(OSError, TimeoutError, RuntimeError):  # the scheduler may be what was lost
            if self._tasks:
                stop = Event(self.run.token, self.client)
                stop.set()
                for _ in as_completed(self._give_up(), loop=self.client.loop, timeout=_PATIENCE):
                    pass
                stop.clear()
            self.client.run(forget, on_error="ignore")
        self._tasks.clear()
        _sweep(self.tally.request, self.run.notes)


def _plainly(path: Path, error: BaseException) -> EngineError:
    """What a task has failed with, in a sentence."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return EngineError(
            f"{path.name} could not be finished: {error.allowed_failures + 1} workers ended while they were at it, the "
            f"last one {error.last_worker.address}. Too little memory is the usual reason; their logs tell."
        )
    return error if isinstance(error, EngineError) else EngineError(sentence_of(path, error))


def _sweep(request: BatchRequest, notes: Path) -> None:
    """Take away what workers that were killed have left half-written, of files of this run."""
    ours = {Path(name).name for path in request.images for name in names_of_outputs(request, path)}
    ours |= {f"{stem_of(path)}.json" for path in request.images}
    for folder in (request.out, request.out / OVERLAYS, notes):
        for part in folder.glob(".*.part.*"):
            if part.name.split(".part.", 1)[1] not in ours:
                continue
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
