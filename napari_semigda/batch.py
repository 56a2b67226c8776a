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

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from napari_semigda.engine.check import check_folder, check_images
from napari_semigda.engine.types import BatchReport, BatchRequest, EngineError, Plane
from napari_semigda.engine.volume import check_width, smoothed
from napari_semigda.file_work import OVERLAYS, FileWork, Stopped, check_room, ends_all, extras, sentence_of
from napari_semigda.formats import is_image, open_source, output_name, stem_of
from napari_semigda.images import planes_of
from napari_semigda.journal import FOLDER, Journal
from napari_semigda.measurements import OBJECT_COLUMNS, OBJECTS, TOTAL_COLUMNS, TOTALS, Row, write_table
from napari_semigda.store import FOLDER as PROJECT
from napari_semigda.store import is_project

if TYPE_CHECKING:
    from napari_semigda.engine.predict import Predictor


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
        for name in names_of_outputs(request, path):
            target = (request.out / name).resolve()
            if target in inputs:
                raise EngineError(f"The output of {path} would replace the image {target}: choose another folder.")
            if target in targets:
                raise EngineError(f"Two outputs would be called {target}: rename {path}.")
            targets.add(target)


def names_of_outputs(request: BatchRequest, path: Path) -> list[str]:
    """What is written for a file into the output folder; of a stack, overlays are a folder of another name instead."""
    names = [output_name(path), *(f"{stem_of(path)}_{kind}.tif" for kind in request.maps)]
    return [*names, f"{OVERLAYS}/{stem_of(path)}.png"] if request.overlays else names


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

    def check(planes: Sequence[Plane]) -> None:
        smoothed(predictor, planes, request.smooth)
        for plane in planes:
            predictor.check(plane)

    with prepared(request, check) as journal:
        work, tally = FileWork(request, predictor, stop, journal), Tally(request, journal)
        for path in request.images:
            failed = ()
            try:
                if stop():
                    break
                if request.resume and journal.has(path):
                    tally.before += 1
                else:
                    for fraction in work.file(path):
                        tally.ahead = work.ahead
                        yield tally.report(fraction)
                tally.finished.add(path)
            except Stopped:
                break
            except Exception as error:
                failed = (tally.fail(path, error),)
            yield tally.report(failed=failed)
        yield tally.report()
        tally.write_tables()


@contextmanager
def prepared(request: BatchRequest, check: Callable[[Sequence[Plane]], None]) -> Iterator[Journal]:
    """Refuse what cannot be done, and give the journal of the run; see `run_batch`.

    Parameters
    ----------
    request
        The files and what is wanted of them.
    check
        Refuses the images of a file when the model cannot see them, or not as it is wanted.
    """
    check_batch(request)
    if not request.keep_going:
        for path in request.images:
            source = open_source(path)
            check_room(request, source)
            planes = planes_of(source)
            check_images(planes)
            check(planes)
    kinds = frozenset({"masks", *extras(request)})
    if request.resume:
        yield Journal(request.out / FOLDER, request.out, request.model, kinds, request.smooth)
        return
    request.out.mkdir(parents=True, exist_ok=True)
    # On the same disk, because masks that come block by block are there at first.
    with TemporaryDirectory(prefix=FOLDER, dir=request.out) as notes:
        yield Journal(Path(notes), request.out, request.model, kinds, request.smooth)


@dataclass
class Tally:
    """How far a run over files is, whoever does them."""

    request: BatchRequest
    journal: Journal
    finished: set[Path] = field(default_factory=set)
    before: int = 0
    ahead: float = 0.0
    """Files' worth of blocks that earlier runs have finished."""
    failures: int = 0
    began: float = field(default_factory=time.monotonic)

    def fail(self, path: Path, error: Exception) -> str:
        """What is wrong with a file, where that is no reason to end; else the error goes on its way."""
        if ends_all(error) or not self.request.keep_going:
            raise error
        self.failures += 1
        return sentence_of(path, error)

    def report(self, fraction: float = 0.0, failed: tuple[str, ...] = ()) -> BatchReport:
        """How far it is; `fraction` counts what is done of files at hand."""
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

    def write_tables(self) -> None:
        """The tables of all finished files in the order of the request, those of earlier runs included."""
        if not self.request.measurements:
            return

        def rows(kind: str) -> Iterator[Row]:
            for path in self.request.images:
                if path in self.finished:
                    for row in self.journal.note_of(path).get(kind, ()):
                        yield {"file": path.name} | row

        write_table(self.request.out / OBJECTS, OBJECT_COLUMNS, lambda: rows("objects"))
        write_table(self.request.out / TOTALS, TOTAL_COLUMNS, lambda: rows("totals"))
