"""PNG and JPEG: one plane a file, masks as 8-bit grey PNG."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from napari_semigda.formats.source import Format, LazyImage, Source, said_plainly

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
_CONVERTED = {"LA": "L", "La": "L"}  # grey with transparency; the others (palettes, CMYK) become RGB


def palette_indices(path: Path) -> np.ndarray | None:
    """(H, W) uint8 indices of a PNG with a palette, None for any other file.

    As an image a palette means the colours it shows; as a mask its indices are the class ids.
    """
    from PIL import Image

    if path.suffix.lower() != ".png":
        return None
    with said_plainly(str(path)), Image.open(path) as image:
        return np.asarray(image) if image.mode == "P" else None


def _read(path: Path) -> Source:
    from PIL import Image

    with Image.open(path) as image:
        mode, (width, height) = image.mode, image.size
    converted = None if mode in _LAYOUT else _CONVERTED.get(mode, "RGB")
    channels, dtype = _LAYOUT[converted or mode]
    shape = (height, width, channels) if channels else (height, width)
    return Source(path, (LazyImage(path.name, shape, np.dtype(dtype), partial(_load, path, converted)),))


def _load(path: Path, converted: str | None) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert(converted) if converted else image)


def _write(path: Path, source: Source, masks: Sequence[np.ndarray]) -> None:
    from PIL import Image

    Image.fromarray(masks[0]).save(path, format="PNG")


PICTURE = Format(_read, _write, ".png")
