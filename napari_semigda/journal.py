"""What a batch has finished, one small JSON file for each image, in a hidden folder beside the masks.

A file counts as finished when its note is there, which is written after everything else; and when nothing it came from
has changed since: the same model, the same pixels, no more asked for, and no output taken away. Its measurements are in
its note, so that the tables of a whole folder can be put together after any number of stops.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_semigda.formats import stem_of
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
                and all((self._out / name).is_file() for name in note["outputs"])
                and note["image"] == digest(image)
            )
        return False

    def add(self, image: Path, outputs: list[Path], tables: dict[str, Any], image_digest: str) -> None:
        """Note that a file is finished; its outputs are in place.

        Parameters
        ----------
        image
            The image file.
        outputs
            What was written for it, in the output folder.
        tables
            JSON-able measurements, given back by `note_of`.
        image_digest
            Of the file before it was predicted, so that one changed meanwhile is done again.
        """
        note = {
            "schema": SCHEMA,
            "file": image.name,
            "image": image_digest,
            "model": self._model,
            "kinds": sorted(self._kinds),
            "outputs": [path.relative_to(self._out).as_posix() for path in outputs],
            **tables,
        }
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


def digest(path: Path) -> str:
    """A fingerprint of a file's content.

    Raises
    ------
    EngineError
        When it cannot be read.
    """
    with said_plainly(str(path)), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
