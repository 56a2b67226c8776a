"""Parts of a TIFF page: only the tiles or strips that hold them are read, one after the other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.formats.source import area_of
from napari_semigda.formats.tiff_open import opened

_SMALL = 2**20  # pixels: pages up to here are read at once, which is quicker


def has_parts(page: Any) -> bool:
    """Whether parts of a page can be had for less than the whole."""
    from tifffile import TIFF

    height, width = page.imagelength, page.imagewidth
    if height * width <= _SMALL or page.imagedepth > 1:
        return False
    can_decode = page.compression == 1 or page.compression in TIFF.DECOMPRESSORS
    return page.is_memmappable or (can_decode and len(page.dataoffsets) > 1)


def read_part(path: Path, index: int, shape: tuple[int, ...], key: Any) -> np.ndarray:
    """``page[key]`` of a page of a file.

    Parameters
    ----------
    path, index
        The file, and which of its pages.
    shape
        (H, W) or (H, W, C) of the page.
    key
        Anything that numpy takes; what is no slice of rows and of columns needs the whole page.
    """
    with opened(path) as tif:
        page = tif.pages[index]
        area = area_of(key)
        rows, columns, rest = area or (slice(None), slice(None), ())
        if page.is_memmappable:
            pixels = _mapped(tif, page, shape)[rows, columns]
        else:
            pixels = _decoded(tif, page, shape, rows, columns)
        return np.array(pixels[(slice(None), slice(None), *rest)] if area else pixels[key])


def _mapped(tif: Any, page: Any, shape: tuple[int, ...]) -> np.ndarray:
    pixels = np.memmap(
        tif.filehandle.path, page.dtype.newbyteorder(tif.byteorder), "r", page.dataoffsets[0], page.shape
    )
    return pixels if page.shape == shape else np.moveaxis(pixels, 0, -1)  # colours may be stored one after the other


def _decoded(tif: Any, page: Any, shape: tuple[int, ...], rows: slice, columns: slice) -> np.ndarray:
    wanted = [np.arange(*each.indices(n)) for each, n in zip((rows, columns), shape, strict=False)]
    samples, _, height, width, together = page.shaped  # samples stored one after the other, or together in a pixel
    pixels = np.zeros((len(wanted[0]), len(wanted[1]), samples * together), page.dtype.newbyteorder("="))
    if not pixels.size:
        return pixels.reshape(*pixels.shape[:2], *shape[2:])
    high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    down, across = math.ceil(height / high), math.ceil(width / wide)
    for sample in range(samples):
        channels = slice(sample * together, (sample + 1) * together)
        for row in np.unique(wanted[0] // high):
            for column in np.unique(wanted[1] // wide):
                segment = _segment(tif, page, int((sample * down + row) * across + column))
                if segment is None:
                    continue  # left out of the file: zeros
                at = [
                    (each // side == number).nonzero()[0]
                    for each, side, number in zip(wanted, (high, wide), (row, column), strict=True)
                ]
                inside = np.ix_(wanted[0][at[0]] - row * high, wanted[1][at[1]] - column * wide)
                pixels[at[0][0] : at[0][-1] + 1, at[1][0] : at[1][-1] + 1, channels] = segment[inside]
    return pixels.reshape(*pixels.shape[:2], *shape[2:])


def _segment(tif: Any, page: Any, number: int) -> np.ndarray | None:
    """(h, w, samples) of a tile or strip."""
    if not page.databytecounts[number]:
        return None
    tif.filehandle.seek(page.dataoffsets[number])
    data = tif.filehandle.read(page.databytecounts[number])
    pixels, _, _ = page.decode(data, number, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
    return None if pixels is None else pixels[0]
