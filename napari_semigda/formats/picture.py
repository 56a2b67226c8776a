"""PNG and JPEG: one plane a file, masks as 8-bit grey PNG."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.formats.source import DEFLATE, Format, LazyImage, Source, check_claim, check_room, said_plainly

_JPEG = (
    4096  # most pixels that one byte stands for: a block of 8 x 8 takes a bit, and a little less packed arithmetically
)

_LAYOUT = {  # Pillow's mode -> (channels, type); 0 channels is (H, W). Every other mode is converted first.
    "1": (0, "bool"),
    "L": (0, "uint8"),
    "I;16": (0, "uint16"),
    "I;16B": (0, "uint16"),
    "I": (0, "int32"),
    "F": (0, "float32"),
    "RGB": (3, "uint8"),
    "RGBA": (4, "uint8"),
}
_PNG_BITS = {
    "1": 1,
    "L": 1,
    "P": 1,
    "I;16": 16,
    "I": 16,
}  # fewest of a pixel; grey and palettes may have one, two or four
_PILLOW = threading.Lock()
_CONVERTED = {"LA": "L", "La": "L"}  # grey with transparency; the others (palettes, CMYK) become RGB


def palette_indices(path: Path) -> np.ndarray | None:
    """(H, W) uint8 indices of a PNG with a palette, None for any other file.

    As an image a palette means the colours it shows; as a mask its indices are the class ids.
    """
    if path.suffix.lower() != ".png":
        return None
    with said_plainly(str(path)), _opened(path) as image:
        if image.mode != "P":
            return None
        check_room(path.name, image.size, np.uint8)
        return np.asarray(image)


def _read(path: Path) -> Source:
    with _opened(path) as image:
        mode, (width, height) = image.mode, image.size
    converted = None if mode in _LAYOUT else _CONVERTED.get(mode, "RGB")
    channels, dtype = _LAYOUT[converted or mode]
    shape = (height, width, channels) if channels else (height, width)
    return Source(path, (LazyImage(path.name, shape, np.dtype(dtype), partial(_load, path, converted)),))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as Pillow sees it, its size no larger than what lies in it.

    Pillow refuses every picture of more than 179 million pixels as a bomb. Scanned slides have more, so a picture is
    measured by its file instead, and by the memory there is when it is read.
    """
    from PIL import Image

    with _PILLOW:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path, formats=("PNG", "JPEG", "MPO"))
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        width, height = image.size
        stored = path.stat().st_size
        if image.format == "PNG":
            bits = _PNG_BITS.get(image.mode, 8)
            check_claim(path, 1, height * ((width * bits + 7) // 8), stored * DEFLATE)
        else:
            check_claim(path, 1, height * width, stored * _JPEG)
        yield image


def _load(path: Path, converted: str | None) -> np.ndarray:
    with _opened(path) as image:
        return np.asarray(image.convert(converted) if converted else image)


def _write(path: Path, source: Source, masks: Sequence[np.ndarray]) -> None:
    from PIL import Image

    Image.fromarray(masks[0]).save(path, format="PNG")


PICTURE = Format(_read, _write, ".png")
