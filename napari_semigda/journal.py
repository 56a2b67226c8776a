"""What a batch has finished, one small JSON file for each image, in a hidden folder beside the masks.

A file counts as finished when its note is there, which is written after everything else; and when nothing it came from
has changed since: the same model, the same pixels, no more asked for, and no output taken away. Its measurements are in
its note, so that the tables of a whole folder can be put together after any number of stops.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.formats import stem_of
from napari_semigda.formats.fingerprint import contents
from napari_semigda.formats.source import replacing, said_plainly

FOLDER = ".semigda-batch"
SCHEMA = 1


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

    Raises
    ------
    EngineError
        When the model cannot be read.
    """

    def __init__(self, folder: Path, out: Path, model: Path, kinds: frozenset[str]) -> None:
        self._folder = folder
        self._out = out
        self._kinds = kinds
        self._model = digest(model)

    def has(self, image: Path) -> bool:
        """Whether everything that is asked for of an image file is there, from this model and from these pixels."""
        note = self.note_of(image)
        with suppress(KeyError, TypeError, AttributeError):  # not a note of ours, or a damaged one: do the file again
            return (
                note["schema"] == SCHEMA
                and note["model"] == self._model
                and self._kinds <= set(note["kinds"])
                and all((self._out / name).exists() for name in note["outputs"])
                and note["image"] == digest(image)
            )
        return False

    def made(self, image: Path, masks: Sequence[np.ndarray]) -> bool:
        """Whether masks of an image file are as a run has written them."""
        return _pixels(masks) in self.note_of(image).get("masks", ())

    def announce(self, image: Path, masks: Sequence[np.ndarray]) -> None:
        """Note which masks are about to be written, so that they are known for ours should the run end right then."""
        before = self.note_of(image).get("masks", [])
        self._write(image, {"schema": SCHEMA, "file": image.name, "masks": [*before, _pixels(masks)]})

    def add(
        self, image: Path, image_digest: str, masks: Sequence[np.ndarray], outputs: list[Path], tables: dict[str, Any]
    ) -> None:
        """Note that a file is finished; its outputs are in place.

        Parameters
        ----------
        image
            The image file.
        image_digest
            Of the file before it was predicted, so that one changed meanwhile is done again.
        masks
            One (H, W) uint8 array for each plane.
        outputs
            What was written for it, in the output folder.
        tables
            JSON-able measurements, given back by `note_of`.
        """
        note = {
            "schema": SCHEMA,
            "file": image.name,
            "image": image_digest,
            "model": self._model,
            "kinds": sorted(self._kinds),
            "masks": [_pixels(masks)],
            "outputs": [path.relative_to(self._out).as_posix() for path in outputs],
        }
        self._write(image, note | tables)

    def _write(self, image: Path, note: dict[str, Any]) -> None:
        with replacing(self._path(image)) as temporary:
            temporary.write_text(json.dumps(note), encoding="utf-8")

    def note_of(self, image: Path) -> dict[str, Any]:
        """The note of an image file, an empty one when there is none that can be read."""
        with suppress(OSError, ValueError):
            note = json.loads(self._path(image).read_text(encoding="utf-8"))
            return note if isinstance(note, dict) else {}
        return {}

    def _path(self, image: Path) -> Path:
        return self._folder / f"{stem_of(image)}.json"


def _pixels(masks: Sequence[np.ndarray]) -> str:
    """A fingerprint of masks, whatever file they are in."""
    told = hashlib.sha256()
    for mask in masks:
        told.update(str(mask.shape).encode())
        told.update(np.ascontiguousarray(mask).tobytes())
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
