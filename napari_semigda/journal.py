"""What a batch has finished, one small JSON file for each image, in a hidden folder beside the masks.

A file counts as finished when its note is there, which is written after everything else; and when nothing it came from
has changed since: the same model, the same pixels, no more asked for, and no output taken away. Its measurements are in
its note, so that the tables of a whole folder can be put together after any number of stops.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from napari_semigda.engine.blocks import SIDE, Block
from napari_semigda.engine.strangers import list_of, parse_json, value_of
from napari_semigda.engine.types import EngineError
from napari_semigda.formats import MaskPlane, stem_of
from napari_semigda.formats.fingerprint import contents
from napari_semigda.formats.source import replacing, said_plainly, written_plainly
from napari_semigda.measurements import OBJECT_COLUMNS, TOTAL_COLUMNS

FOLDER = ".semigda-batch"
_TABLES = ("objects", "totals")
_COLUMNS = {*OBJECT_COLUMNS, *TOTAL_COLUMNS}
SCHEMA = 1
_BAND = 2**24  # pixels hashed together


class Journal:
    """Notes of finished files.

    Parameters
    ----------
    folder
        Where the notes are, made when the first is written.
    out
        Where the outputs are.
    model
        The model file.
    kinds
        What is asked for of each file: ``"masks"`` and more.
    smooth
        Width that slices are smoothed with, see `BatchRequest`: masks made with another one are not what is asked for.

    Raises
    ------
    EngineError
        When the model cannot be read.
    """

    def __init__(self, folder: Path, out: Path, model: Path, kinds: frozenset[str], smooth: float = 0.0) -> None:
        self.folder = folder
        self._smooth = float(smooth)
        self._out = out
        self._kinds = kinds
        self.model = digest(model)
        """Fingerprint of the model file."""

    def has(self, image: Path) -> bool:
        """Whether everything that is asked for of an image file is there, from this model and from these pixels."""
        note = self.note_of(image)
        with suppress(KeyError, TypeError, AttributeError):  # not a note of ours, or a damaged one: do the file again
            return (
                note["schema"] == SCHEMA
                and note["model"] == self.model
                and note.get("smooth", 0.0) == self._smooth  # older versions knew no smoothing
                and self._kinds <= set(note["kinds"])
                and all((self._out / name).exists() for name in note["outputs"])
                and note["image"] == digest(image)
            )
        return False

    def made(self, image: Path, masks: Sequence[Any]) -> bool:
        """Whether masks of an image file are as a run has written them."""
        return _pixels(masks) in self.note_of(image).get("masks", ())

    def announce(self, image: Path, masks: Sequence[Any]) -> str:
        """Note which masks are about to be written, so that they are known for ours should the run end right then.

        Returns their fingerprint.
        """
        before, fingerprint = self.note_of(image).get("masks", []), _pixels(masks)
        self._write(image, {"schema": SCHEMA, "file": image.name, "masks": [*before, fingerprint]})
        return fingerprint

    def add(
        self, image: Path, image_digest: str, fingerprint: str, outputs: list[Path], tables: dict[str, Any]
    ) -> None:
        """Note that a file is finished; its outputs are in place.

        Parameters
        ----------
        image
            The image file.
        image_digest
            Of the file before it was predicted, so that one changed meanwhile is done again.
        fingerprint
            Of its masks, from `announce`.
        outputs
            What was written for it, in the output folder.
        tables
            JSON-able measurements, given back by `note_of`.
        """
        note = {
            "schema": SCHEMA,
            "file": image.name,
            "image": image_digest,
            "model": self.model,
            "smooth": self._smooth,
            "kinds": sorted(self._kinds),
            "masks": [fingerprint],
            "outputs": [path.relative_to(self._out).as_posix() for path in outputs],
        }
        self._write(image, note | tables)

    def unfinished(self, image: Path, image_digest: str) -> Unfinished:
        """What there is of the masks of a large image file, whose blocks are kept one by one."""
        return Unfinished(self.folder / f"{stem_of(image)}.unfinished", image_digest, self.model, self._smooth)

    def _write(self, image: Path, note: dict[str, Any]) -> None:
        with replacing(self._path(image)) as temporary:
            temporary.write_text(json.dumps(note), encoding="utf-8")

    def note_of(self, image: Path) -> dict[str, Any]:
        """The note of an image file, an empty one when there is none that can be read."""
        with suppress(OSError, ValueError, TypeError):
            note = parse_json(self._path(image).read_bytes())
            for name in ("masks", "outputs", "kinds"):
                list_of({name: []} | note, name, str)
            for row in (row for name in _TABLES for row in list_of({name: []} | note, name, dict)):
                if not row.keys() <= _COLUMNS:
                    raise ValueError("it measures what is not measured")
                for column in row:
                    value_of(row, column, str, int, float, type(None))
            return note
        return {}

    def _path(self, image: Path) -> Path:
        return self.folder / f"{stem_of(image)}.json"


class Unfinished:
    """Which blocks of a large file are done, noted beside its masks so far.

    A note follows its block, so a run that was killed does at most the block again that it was at. Several machines can
    be at one file: each notes in a file of its own, for no two may append to one on a disk that they share.

    Parameters
    ----------
    folder
        Of this file alone: ``masks`` is a store of `formats.growing_masks`, ``blocks`` one line for each block, and so
        is ``blocks.PIECE.ANY`` of everybody who has joined.
    image_digest, model_digest
        Of what the masks come from. What is there of another image or model is thrown away.
    smooth
        Width that slices are smoothed with; what is there of another one is thrown away as well.
    """

    def __init__(self, folder: Path, image_digest: str, model_digest: str, smooth: float = 0.0) -> None:
        self.store = folder / "masks"
        self._folder, self._notes = folder, folder / "blocks"
        origin = {"schema": SCHEMA, "image": image_digest, "model": model_digest, "side": SIDE}
        self._origin = json.dumps(origin | ({"smooth": smooth} if smooth else {}))
        self._done: dict[int, set[int]] = {}

    def open(self, masks_in: Callable[[Path], list[MaskPlane]]) -> list[MaskPlane]:
        """The masks so far, all 0 where none are done; for whoever is alone with them.

        `masks_in` opens a store of them, or makes it.
        """
        with written_plainly(self._folder):
            if not self._goes_on("*"):
                self._done = {}
                self.remove()
                self._folder.mkdir(parents=True)
            masks = masks_in(self.store)
            lines = [f"{plane} {number}" for plane, numbers in self._done.items() for number in sorted(numbers)]
            with replacing(self._notes) as temporary:  # last: where it is, the store is complete
                temporary.write_text("\n".join([self._origin, *lines, ""]), encoding="utf-8")
            for notes in self._folder.glob("blocks.*"):  # all in the one file now
                notes.unlink(missing_ok=True)
            return masks

    def join(self, masks_in: Callable[[Path], list[MaskPlane]], piece: str) -> list[MaskPlane]:
        """The masks that somebody has opened and others are at, for a piece of them that nobody else does.

        Raises
        ------
        EngineError
            When they are not there.
        """
        if not self._goes_on(piece):
            raise EngineError(f"The unfinished masks at {self._folder} are not there any more: start again.")
        self._notes = self._folder / f"blocks.{piece}.{uuid4().hex}"
        return masks_in(self.store)

    def done(self, plane: int) -> set[int]:
        """Numbers of the blocks of a plane that are done."""
        return self._done.setdefault(plane, set())

    @property
    def count(self) -> int:
        """How many blocks are done."""
        return sum(map(len, self._done.values()))

    def add(self, plane: int, mask: MaskPlane, block: Block) -> None:
        """Keep a finished block of a plane."""
        with written_plainly(self._folder):
            mask[block.place.area] = block.mask
        self.note(plane, [block.place.number])

    def note(self, plane: int, numbers: Sequence[int]) -> None:
        """Say that blocks of a plane are kept."""
        with written_plainly(self._folder), self._notes.open("a", encoding="utf-8") as notes:
            notes.write("".join(f"{plane} {number}\n" for number in numbers))
        self.done(plane).update(numbers)

    def remove(self) -> None:
        """Take everything away."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _goes_on(self, piece: str) -> bool:
        """Whether what is there is of this image and model; reads the notes, of those who joined only of that piece."""
        with suppress(OSError, UnicodeDecodeError):
            first, *lines = self._notes.read_text(encoding="utf-8").split("\n")
            if first != self._origin or not self.store.is_dir():
                return False
            for notes in self._folder.glob(f"blocks.{piece}.*"):
                lines[-1:] = notes.read_text(encoding="utf-8").split("\n")
            for line in lines[:-1]:  # what ends without a line break was cut off
                with suppress(ValueError):
                    plane, number = map(int, line.split())
                    self.done(plane).add(number)
            return True
        return False


def _pixels(masks: Sequence[Any]) -> str:
    """A fingerprint of masks, whatever file they are in and however large."""
    told = hashlib.sha256()
    for mask in masks:
        told.update(str(mask.shape).encode())
        rows = max(SIDE, _BAND // max(1, mask.shape[1]))
        for top in range(0, mask.shape[0], rows):
            told.update(np.ascontiguousarray(mask[top : top + rows, :]).tobytes())
    return told.hexdigest()


def digest(path: Path) -> str:
    """A fingerprint of the content of a file, or of a folder that is an image.

    Raises
    ------
    EngineError
        When it cannot be read.
    """
    told = hashlib.sha256()
    with said_plainly(str(path)):
        for block in contents(path):
            told.update(block)
    return told.hexdigest()
