"""Small pictures of images on disk, so that those of large images and volumes are made once and not in every session.

They are a convenience: one that is missing, damaged or of another version of its image is made anew, and where the disk
takes none, nobody hears of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from napari_semigda.formats.fingerprint import size_and_date

VERSION = 1
"""Goes up when small pictures are made in another way."""


class Pictures:
    """The pictures of one project, ``NAME.PLANE.png`` each.

    Parameters
    ----------
    folder
        Where they lie; made when the first comes, inside a folder that is there.
    place
        Tells the image file, and the number of the plane in it, of a plane of the project.
    read_only
        Whether none is kept any more.
    """

    def __init__(self, folder: Path, place: Callable[[int], tuple[Path, int]], read_only: bool = False) -> None:
        self._folder, self._place = folder, place
        self.read_only = read_only

    def get(self, plane: int) -> np.ndarray | None:
        """(h, w, 3) uint8, or None when there is none of the image as it is now."""
        from PIL import Image

        with suppress(Exception):  # whatever is wrong with it
            path, key = self._path_and_key(plane)
            with Image.open(path) as picture:
                if picture.info.get("of") == key:
                    return np.asarray(picture.convert("RGB"))
        return None

    def put(self, plane: int, pixels: np.ndarray) -> None:
        """Keep (h, w, 3) uint8 in place of an older one, if the disk takes it."""
        from PIL import Image, PngImagePlugin

        if self.read_only:
            return
        with suppress(OSError):
            path, key = self._path_and_key(plane)
            self._folder.mkdir(exist_ok=True)
            note = PngImagePlugin.PngInfo()
            note.add_text("of", key)
            part = path.with_name(f".{os.getpid()}.part.{path.name}")
            try:
                Image.fromarray(pixels).save(part, pnginfo=note)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)

    def _path_and_key(self, plane: int) -> tuple[Path, str]:
        image, number = self._place(plane)
        size, date = size_and_date(image)
        return self._folder / f"{image.name}.{number}.png", f"{VERSION} {size} {date}"
