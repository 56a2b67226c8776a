"""What a batch does with one file, in this process or on a worker of a cluster.

Either its planes are predicted one after the other and everything is written at the end; or, where it is large, its
masks grow on the disk block by block, in any order, and are put in place once the last block is there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_semigda.engine.blocks import Block, count_blocks, cut, is_large
from napari_semigda.engine.check import check_images
from napari_semigda.engine.normalise import Contrast
from napari_semigda.engine.types import BatchRequest, EngineError, Plane, Prediction
from napari_semigda.engine.volume import SmoothPredictor, smoothed
from napari_semigda.formats import (
    MaskPlane,
    Source,
    float_pages,
    growing_masks,
    open_source,
    output_name,
    stem_of,
    write_grown,
    write_masks,
)
from napari_semigda.formats.source import replacing
from napari_semigda.images import planes_of, read_mask
from napari_semigda.journal import Journal, Unfinished, digest
from napari_semigda.measurements import Row, measure, total
from napari_semigda.overlays import overlay, png

if TYPE_CHECKING:
    from napari_semigda.engine.predict import Predictor

OVERLAYS = "overlays"
"""Folder of them, in that of the masks."""
_MOST_WHOLE = 2**26  # pixels of a plane (8,192 x 8,192) that overlays, measurements and maps are made of: 3 GB
_MOST_MASKS = 2**28  # pixels of a file whose masks are kept in memory until they are all there
_LOST_DISK = (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))


class Stopped(Exception):  # noqa: N818  nothing went wrong
    """Somebody wants the batch to end; what is half done is dropped."""


class Growing(NamedTuple):
    """A large file, its masks so far, and which blocks of them are done."""

    source: Source
    image_digest: str
    unfinished: Unfinished
    masks: list[MaskPlane]
    planes: list[Plane]
    predictor: Predictor | SmoothPredictor

    @property
    def blocks(self) -> int:
        """How many there are of all planes."""
        return sum(count_blocks(plane.shape) for plane in self.source.planes)

    @property
    def fraction(self) -> float:
        """How far it is; the last part is putting the masks in place."""
        return self.unfinished.count / (self.blocks + 1)


@dataclass
class FileWork:
    """The model and the wishes of a batch, for any of its files.

    Parameters
    ----------
    request
        What is wanted; its images do not count.
    predictor
        The model of the request.
    stop
        Asked between planes, and between the blocks of large ones.
    journal
        Where it is noted what is finished.
    """

    request: BatchRequest
    predictor: Predictor
    stop: Callable[[], bool]
    journal: Journal
    ahead: float = 0.0
    """Files' worth of blocks that earlier runs have finished."""

    def file(self, path: Path) -> Iterator[float]:
        """Do all that is wanted of a file and yield how far it is.

        Raises
        ------
        Stopped
            When it shall stop: nothing is written, but that the blocks of a large file stay.
        """
        source, image_digest = self.open(path)
        if not self.is_blockwise(source):
            yield from self.whole(source, image_digest)
            return
        growing = self.begin(source, image_digest)
        self.ahead += growing.fraction
        yield from self.rest(growing)

    def open(self, path: Path, image_digest: str = "") -> tuple[Source, str]:
        """Look at a file that is about to be predicted; also its fingerprint, found anew where none is given."""
        if not image_digest and path.exists():
            image_digest = digest(path)  # before it is read: changed meanwhile, it is not noted
        source = open_source(path)
        if self.request.keep_masks:
            self._keep(self.request.out / output_name(path), source)
        if self.request.keep_going:
            check_room(self.request, source)
            check_images(planes_of(source))
        return source, image_digest

    def is_blockwise(self, source: Source) -> bool:
        """Whether the masks of a file grow block by block."""
        return _is_large(source) and not extras(self.request)

    def whole(self, source: Source, image_digest: str) -> Iterator[float]:
        """Predict the planes of a file, yield how far it is, then write everything, its note last."""
        request, path = self.request, source.path
        masks: list[np.ndarray] = []
        pictures: list[bytes] = []
        rows: list[Row] = []
        maps = [request.out / f"{stem_of(path)}_{kind}.tif" for kind in request.maps]
        with ExitStack() as files:
            add = [files.enter_context(float_pages(name)) for name in maps]
            planes = planes_of(source)
            predictor = smoothed(self.predictor, planes, request.smooth)
            for index, plane in enumerate(planes):
                if self.stop():
                    raise Stopped
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
            outputs = [write_masks(source, request.out, masks), *maps, *self._show(pictures, path)]
        self.journal.add(path, image_digest, fingerprint, outputs, self._tables(source, rows))

    def begin(self, source: Source, image_digest: str) -> Growing:
        """The masks of a large file as an earlier run has left them, or empty ones."""
        unfinished = self.journal.unfinished(source.path, image_digest)
        return self._growing(source, image_digest, unfinished, unfinished.open(partial(growing_masks, source)))

    def join(self, source: Source, image_digest: str, piece: str) -> Growing:
        """The masks of a large file that others are at as well, for whoever does a piece of that name alone."""
        unfinished = self.journal.unfinished(source.path, image_digest)
        return self._growing(source, image_digest, unfinished, unfinished.join(partial(growing_masks, source), piece))

    def _growing(self, source: Source, image_digest: str, unfinished: Unfinished, masks: list[MaskPlane]) -> Growing:
        planes = planes_of(source)
        predictor = smoothed(self.predictor, planes, self.request.smooth)
        return Growing(source, image_digest, unfinished, masks, planes, predictor)

    def is_smoothed(self, growing: Growing) -> bool:
        """Whether planes need their neighbours, so that they are best done one after the other in one place."""
        return isinstance(growing.predictor, SmoothPredictor)

    def rest(self, growing: Growing) -> Iterator[float]:
        """Predict all that is missing of a large file, yield how far it is, then put its masks in place."""
        for index in range(len(growing.planes)):
            for _ in self.blocks(growing, index):
                yield growing.fraction
        self.finish(growing)

    def blocks(
        self,
        growing: Growing,
        index: int,
        wanted: Collection[int] | None = None,
        contrasts: Sequence[Contrast] = (),
    ) -> Iterator[None]:
        """Predict the missing blocks of a plane onto the disk, one at a time.

        Parameters
        ----------
        growing
            From `begin` or `join`.
        index
            Of the plane.
        wanted
            Numbers of blocks; None: all of them.
        contrasts
            Of the plane, where somebody has found them already.

        Raises
        ------
        Stopped
            When it shall stop and some are still missing.
        """
        every = set(range(count_blocks(growing.source.planes[index].shape)))
        todo = (every if wanted is None else set(wanted)) - growing.unfinished.done(index)
        blocks = self._blocks_of(growing, index, every - todo, contrasts)
        while not self.stop() and (block := next(blocks, None)) is not None:
            growing.unfinished.add(index, growing.masks[index], block)
            yield
        if todo - growing.unfinished.done(index):
            raise Stopped

    def _blocks_of(
        self, growing: Growing, index: int, done: Collection[int], contrasts: Sequence[Contrast]
    ) -> Iterator[Block]:
        """The blocks of a plane that are not done; where slices are smoothed, cut from the whole of it."""
        plane = growing.planes[index]
        if not self.is_smoothed(growing):
            yield from self.predictor.blocks(plane, done, contrasts=contrasts)
        elif len(done) < count_blocks(plane.size):
            found = growing.predictor.predict(plane, index)
            yield from cut(found.mask, found.doubt, done)

    def finish(self, growing: Growing) -> None:
        """Put masks in place that are complete, their note last."""
        source, unfinished = growing.source, growing.unfinished
        fingerprint = self.journal.announce(source.path, growing.masks)
        path = write_grown(source, self.request.out, unfinished.store)
        self.journal.add(source.path, growing.image_digest, fingerprint, [path], {})
        unfinished.remove()

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


def extras(request: BatchRequest) -> list[str]:
    """What is asked for beside masks."""
    return [*request.maps, *(name for name in ("overlays", "measurements") if getattr(request, name))]


def check_room(request: BatchRequest, source: Source) -> None:
    """Refuse what needs an image whole in memory where that is too large for it."""
    wanted = " and ".join(extras(request))
    for plane in source.planes:
        if wanted and plane.shape[0] * plane.shape[1] > _MOST_WHOLE:
            raise EngineError(
                f"{plane.name} is too large ({plane.shape[0]} x {plane.shape[1]} pixels) for {wanted}, which need it "
                "whole in memory: leave these out for this file."
            )


def ends_all(error: Exception) -> bool:
    """Whether what went wrong with a file would go wrong with all others as well: the disk is full or read-only."""
    cause = error.__cause__ if isinstance(error, EngineError) else error
    return isinstance(cause, OSError) and cause.errno in _LOST_DISK


def sentence_of(path: Path, error: Exception) -> str:
    """What is wrong with a file, whatever was raised on it."""
    if isinstance(error, EngineError):
        return str(error)
    return f"{path.name} could not be finished ({type(error).__name__}: {error}): open it by itself to see why."


def _is_large(source: Source) -> bool:
    """Whether the masks of a file are not to be in memory together."""
    sizes = [plane.shape[:2] for plane in source.planes]
    return any(map(is_large, sizes)) or sum(height * width for height, width in sizes) > _MOST_MASKS


def _map(prediction: Prediction, kind: str) -> np.ndarray:
    return prediction.probabilities if kind == "probabilities" else prediction.doubt
