"""A model over image files into a folder: masks, and what else is asked for.

::

    OUT/STEM.png | .tif | .nii.gz       masks, as `formats` writes them
    OUT/STEM_uncertainty.tif            and STEM_probabilities.tif: maps
    OUT/overlays/STEM.png               pictures of masks on images; of a stack, overlays/STEM/001.png and so on
    OUT/measurements.csv, totals.csv    every object; every class of every file
    OUT/.semigda-batch/                 what is finished, when it shall be possible to go on later

One file after the other, each whole or not at all. Masks of large files grow in OUT/.semigda-batch/STEM.unfinished, so
that a run that was stopped goes on within the file.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_semigda.engine.blocks import Block, count_blocks, cut, is_large
from napari_semigda.engine.check import check_folder, check_images
from napari_semigda.engine.types import BatchReport, BatchRequest, EngineError, Plane, Prediction
from napari_semigda.engine.volume import check_width, smoothed
from napari_semigda.formats import (
    Source,
    float_pages,
    growing_masks,
    is_image,
    open_source,
    output_name,
    stem_of,
    write_grown,
    write_masks,
)
from napari_semigda.formats.source import replacing
from napari_semigda.images import planes_of, read_mask
from napari_semigda.journal import FOLDER, Journal, digest
from napari_semigda.measurements import OBJECT_COLUMNS, OBJECTS, TOTAL_COLUMNS, TOTALS, Row, measure, total, write_table
from napari_semigda.overlays import overlay, png
from napari_semigda.store import FOLDER as PROJECT
from napari_semigda.store import is_project

if TYPE_CHECKING:
    from napari_semigda.engine.predict import Predictor
    from napari_semigda.engine.volume import SmoothPredictor

OVERLAYS = "overlays"
_MOST_WHOLE = 2**26  # pixels of a plane (8,192 x 8,192) that overlays, measurements and maps are made of: 3 GB
_MOST_MASKS = 2**28  # pixels of a file whose masks are kept in memory until they are all there
_LOST_DISK = (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))


class _Stopped(Exception):  # noqa: N818  nothing went wrong
    """Somebody wants the batch to end; what is half done is dropped."""


def check_batch(request: BatchRequest) -> None:
    """Refuse a batch that would write over an image, twice into one file, or where nothing can be written.

    Raises
    ------
    EngineError
        One sentence.
    """
    check_width(request.smooth)
    out = request.out.resolve()
    if any(folder.name == PROJECT and is_project(folder.parent) for folder in (out, *out.parents)):
        raise EngineError(f"{out} belongs to a project, whose masks are painted and verified: choose another folder.")
    check_folder(request.out)
    inputs = {path.resolve() for path in request.images}
    own = {(request.out / name).resolve() for name in (OBJECTS, TOTALS)}
    targets: set[Path] = set(own)
    for path in request.images:
        if request.keep_going and not is_image(path):
            continue  # told when its turn comes
        names = [output_name(path), *(f"{stem_of(path)}_{kind}.tif" for kind in request.maps)]
        if request.overlays:
            names.append(f"{OVERLAYS}/{stem_of(path)}.png")
        for name in names:
            target = (request.out / name).resolve()
            if target in inputs:
                raise EngineError(f"The output of {path} would replace the image {target}: choose another folder.")
            if target in targets:
                raise EngineError(f"Two outputs would be called {target}: rename {path}.")
            targets.add(target)


def run_batch(
    request: BatchRequest, predictor: Predictor, stop: Callable[[], bool] = lambda: False
) -> Iterator[BatchReport]:
    """Do what is asked for, and tell how far it is after every plane.

    Parameters
    ----------
    request
        The files and what is wanted of them.
    predictor
        The model of the request.
    stop
        Asked between planes, and between the blocks of large ones; once it says yes, the file at hand is dropped (what
        is finished of a large one stays, where a run shall be gone on with) and the tables are written of what is
        finished. ``done`` of the last report is then less than ``total``.

    Raises
    ------
    EngineError
        When the request cannot be done at all, the disk is full or read-only, or, unless it shall keep going, when a
        file fails. Files finished before that stay.
    """
    check_batch(request)
    if not request.keep_going:
        for path in request.images:
            source = open_source(path)
            _check_room(request, source)
            planes = planes_of(source)
            check_images(planes)
            smoothed(predictor, planes, request.smooth)
            for plane in planes:
                predictor.check(plane)
    with ExitStack() as cleanup:
        kinds = {"masks", *_extras(request)}
        notes = request.out / FOLDER
        if not request.resume:  # on the same disk, because masks that come block by block are there at first
            request.out.mkdir(parents=True, exist_ok=True)
            notes = Path(cleanup.enter_context(TemporaryDirectory(prefix=FOLDER, dir=request.out)))
        journal = Journal(notes, request.out, request.model, frozenset(kinds), request.smooth)
        batch = _Batch(request, predictor, stop, journal)
        yield from batch.run()
        if request.measurements:
            batch.write_tables()


@dataclass
class _Batch:
    """One run over the files."""

    request: BatchRequest
    predictor: Predictor
    stop: Callable[[], bool]
    journal: Journal
    finished: list[Path] = field(default_factory=list)
    before: int = 0
    ahead: float = 0.0
    """Files' worth of blocks that earlier runs have finished."""
    failures: int = 0
    began: float = field(default_factory=time.monotonic)

    def run(self) -> Iterator[BatchReport]:
        for path in self.request.images:
            failed = ()
            try:
                if self.stop():
                    break
                if self.request.resume and self.journal.has(path):
                    self.before += 1
                else:
                    for fraction in self._file(path):
                        yield self._report(fraction)
                self.finished.append(path)
            except _Stopped:
                break
            except Exception as error:
                failed = (self._sentence(path, error),)
                self.failures += 1
            yield self._report(failed=failed)
        yield self._report()

    def _sentence(self, path: Path, error: Exception) -> str:
        """What is wrong with a file, where that is no reason to end; else the error goes on its way."""
        cause = error.__cause__ if isinstance(error, EngineError) else error
        disk_is_lost = isinstance(cause, OSError) and cause.errno in _LOST_DISK  # all others would fail as well
        if disk_is_lost or not self.request.keep_going:
            raise error
        if isinstance(error, EngineError):
            return str(error)
        return f"{path.name} could not be finished ({type(error).__name__}: {error}): open it by itself to see why."

    def _report(self, fraction: float = 0.0, failed: tuple[str, ...] = ()) -> BatchReport:
        count, done = len(self.request.images), len(self.finished) + self.failures
        elapsed = time.monotonic() - self.began
        worked = done - self.before + fraction - self.ahead  # files of this run: the others took no time
        left = count - done - fraction
        return BatchReport(
            total=count,
            done=done,
            before=self.before,
            failures=self.failures,
            failed=failed,
            fraction=(done + fraction) / max(count, 1),
            elapsed=elapsed,
            remaining=elapsed / worked * left if worked > 0 else None,
        )

    def _file(self, path: Path) -> Iterator[float]:
        """Predict the planes of a file, yield how far it is, then write everything, its note last."""
        request, out = self.request, self.request.out
        image_digest = digest(path) if path.exists() else ""  # before it is read: changed meanwhile, it is not noted
        source = open_source(path)
        if request.keep_masks:
            self._keep(out / output_name(path), source)
        if request.keep_going:
            _check_room(request, source)
            check_images(planes_of(source))
        if _is_large(source) and not _extras(request):
            yield from self._blocks(source, image_digest)
            return
        masks: list[np.ndarray] = []
        pictures: list[bytes] = []
        rows: list[Row] = []
        maps = [out / f"{stem_of(path)}_{kind}.tif" for kind in request.maps]
        with ExitStack() as files:
            add = [files.enter_context(float_pages(name)) for name in maps]
            planes = planes_of(source)
            predictor = smoothed(self.predictor, planes, request.smooth)
            for index, plane in enumerate(planes):
                if self.stop():
                    raise _Stopped
                image = np.asarray(plane.image)  # read once, for everybody
                wanted = "probabilities" in request.maps
                found = predictor.predict(replace(plane, image=image), index, probabilities=wanted)
                masks.append(found.mask)
                for kind, write in zip(request.maps, add, strict=True):
                    write(_map(found, kind))
                if request.overlays:
                    pictures.append(png(overlay(image, found.mask, self.predictor.colours)))
                if request.measurements:
                    objects = measure(found.mask, image, self.predictor.classes, source.spacing, source.unit)
                    rows += [{"plane": index + 1} | row for row in objects]
                yield (index + 1) / (len(source.planes) + 1)
            fingerprint = self.journal.announce(path, masks)
            outputs = [write_masks(source, out, masks), *maps, *self._show(pictures, path)]
        self.journal.add(path, image_digest, fingerprint, outputs, self._tables(source, rows))

    def _blocks(self, source: Source, image_digest: str) -> Iterator[float]:
        """The masks of a large file, block by block onto the disk; going on where an earlier run has stopped."""
        unfinished = self.journal.unfinished(source.path, image_digest)
        masks = unfinished.open(partial(growing_masks, source))
        count = sum(count_blocks(plane.shape) for plane in source.planes)
        self.ahead += unfinished.count / (count + 1)
        planes = planes_of(source)
        predictor = smoothed(self.predictor, planes, self.request.smooth)
        for index, (plane, mask) in enumerate(zip(planes, masks, strict=True)):
            blocks = self._blocks_of(predictor, plane, index, unfinished.done(index))
            while not self.stop() and (block := next(blocks, None)) is not None:
                unfinished.add(index, mask, block)
                yield unfinished.count / (count + 1)
            if len(unfinished.done(index)) < count_blocks(plane.size):
                raise _Stopped
        fingerprint = self.journal.announce(source.path, masks)
        path = write_grown(source, self.request.out, unfinished.store)
        self.journal.add(source.path, image_digest, fingerprint, [path], {})
        unfinished.remove()

    def _blocks_of(
        self, predictor: Predictor | SmoothPredictor, plane: Plane, index: int, done: Collection[int]
    ) -> Iterator[Block]:
        """The blocks of a plane that are not done; where slices are smoothed, cut from the whole of it."""
        if predictor is self.predictor:
            yield from predictor.blocks(plane, done)
        elif len(done) < count_blocks(plane.size):
            found = predictor.predict(plane, index)
            yield from cut(found.mask, found.doubt, done)

    def _keep(self, mask: Path, image: Source) -> None:
        """Refuse to replace the work of somebody's hands."""
        if not mask.exists():
            return
        masks = open_source(mask).planes if _is_large(image) else read_mask(mask, image)
        if not self.journal.made(image.path, masks):
            raise EngineError(
                f"The mask {mask} was not made by a batch, or has been corrected since, so it is kept: "
                "choose another folder, or move it away to have it made again."
            )

    def _show(self, pictures: list[bytes], image: Path) -> list[Path]:
        """Write the overlays of a file."""
        folder = self.request.out / OVERLAYS
        names = [folder / f"{stem_of(image)}.png"]
        if len(pictures) > 1:
            names = [folder / stem_of(image) / f"{number:03d}.png" for number in range(1, len(pictures) + 1)]
        for picture, name in zip(pictures, names, strict=False):
            with replacing(name) as temporary:
                temporary.write_bytes(picture)
        return names[: len(pictures)]

    def _tables(self, source: Source, rows: list[Row]) -> dict[str, Any]:
        if not self.request.measurements:
            return {}
        pixels = sum(plane.shape[0] * plane.shape[1] for plane in source.planes)
        totals = total(rows, self.predictor.classes, pixels, len(source.planes), source.spacing, source.unit)
        return {"objects": rows, "totals": totals}

    def write_tables(self) -> None:
        """The tables of all finished files, those of earlier runs included."""

        def rows(kind: str) -> Iterator[Row]:
            for path in self.finished:
                for row in self.journal.note_of(path).get(kind, ()):
                    yield {"file": path.name} | row

        write_table(self.request.out / OBJECTS, OBJECT_COLUMNS, lambda: rows("objects"))
        write_table(self.request.out / TOTALS, TOTAL_COLUMNS, lambda: rows("totals"))


def _extras(request: BatchRequest) -> list[str]:
    """What is asked for beside masks."""
    return [*request.maps, *(name for name in ("overlays", "measurements") if getattr(request, name))]


def _is_large(source: Source) -> bool:
    """Whether the masks of a file are not to be in memory together."""
    sizes = [plane.shape[:2] for plane in source.planes]
    return any(map(is_large, sizes)) or sum(height * width for height, width in sizes) > _MOST_MASKS


def _check_room(request: BatchRequest, source: Source) -> None:
    """Refuse what needs an image whole in memory where that is too large for it."""
    extras = " and ".join(_extras(request))
    for plane in source.planes:
        if extras and plane.shape[0] * plane.shape[1] > _MOST_WHOLE:
            raise EngineError(
                f"{plane.name} is too large ({plane.shape[0]} x {plane.shape[1]} pixels) for {extras}, which need it "
                "whole in memory: leave these out for this file."
            )


def _map(prediction: Prediction, kind: str) -> np.ndarray:
    return prediction.probabilities if kind == "probabilities" else prediction.doubt
