"""TIFF: every page is a plane, masks have the same pages and resolution."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import Format, LazyImage, Source, replacing

_MICROMETRES = dict.fromkeys(
    ("um", "\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m", "\\u00B5m", "micron", "microns"), 1.0
)
_MICROMETRES |= {"nm": 1e-3, "mm": 1e3, "cm": 1e4}


@contextmanager
def float_pages(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Write float32 arrays into a TIFF as they come, whole or not at all.

    Yields a function that adds one (H, W) or (K, H, W) array. Arrays of one shape become one (N, ...) series, so that
    N maps of K classes are read back as (N, K, H, W); where the shape changes a new series begins.
    """
    import tifffile

    with replacing(path) as temporary, tifffile.TiffWriter(temporary) as writer:
        yield lambda array: writer.write(
            array.astype(np.float32, copy=False), contiguous=True, photometric="minisblack"
        )


def _read(path: Path) -> Source:
    import tifffile

    with _watching(path), tifffile.TiffFile(path) as tif:
        series = [(i, s) for i, s in enumerate(tif.series) if not s.keyframe.is_reduced]  # reduced ones are thumbnails
        parts = [part for i, s in series for part in _parts(path, i, s)]
        page = tif.pages.first
        resolution = (page.resolution, page.resolutionunit) if "XResolution" in page.tags else None
        spacing, unit = _spacing(tif)
    names = [path.name] if len(parts) == 1 else [f"{path.name}, page {i}" for i in range(1, len(parts) + 1)]
    planes = tuple(LazyImage(name, *part) for name, part in zip(names, parts, strict=True))
    return Source(path, planes, spacing, resolution, unit)


def _spacing(tif) -> tuple[tuple[float, float] | None, str]:
    """Pixel size and its unit as ImageJ and OME tell it; plain resolution tags mostly speak of printing."""
    import tifffile

    with suppress(
        AttributeError, IndexError, KeyError, TypeError, ValueError, SyntaxError
    ):  # whatever it holds instead
        if tif.is_ome:
            image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
            pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
            sizes = [(pixels[f"PhysicalSize{x}"], pixels.get(f"PhysicalSize{x}Unit", "um")) for x in "YX"]
        else:
            unit = tif.imagej_metadata["unit"]
            sizes = [(1 / per_pixel, unit) for per_pixel in reversed(tif.pages.first.resolution) if per_pixel]
        target = "mm" if sizes[0][1] in ("mm", "cm") else "um"
        height, width = (float(size) * _MICROMETRES[unit] / _MICROMETRES[target] for size, unit in sizes)
        if 0 < height < math.inf and 0 < width < math.inf:
            return (height, width), target
    return None, "mm"


def _parts(path: Path, number: int, series) -> list[tuple[tuple[int, ...], np.dtype, Callable[[], np.ndarray]]]:
    """Shape, type and loader of each plane of a series: every axis but rows, columns and colours counts pages."""
    axes = series.axes
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise EngineError(f"{path} has the axes {axes} {series.shape}, not rows and columns: save it as plain pages.")
    colour = next((axis for axis in "SC" if axis in axes), "")
    inner = [axes.index(axis) for axis in f"YX{colour}"]
    order = tuple([i for i in range(len(axes)) if i not in inner] + inner)
    shape = tuple(series.shape[i] for i in inner)
    count = math.prod(series.shape[i] for i in order[: -len(inner)])
    dtype = np.dtype(series.dtype).newbyteorder("=")
    if count == len(series.pages) and all(page is not None for page in series.pages):
        return [(shape, dtype, partial(_load_page, path, page.index, shape)) for page in series.pages]
    changed = path.stat().st_mtime_ns
    return [(shape, dtype, partial(_load_part, path, changed, number, order, shape, i)) for i in range(count)]


def _load_page(path: Path, index: int, shape: tuple[int, ...]) -> np.ndarray:
    import tifffile

    with _watching(path), tifffile.TiffFile(path) as tif:
        try:
            pixels = tif.pages[index].asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            pixels = _load_compressed_page(path, index)
    return pixels if pixels.shape == shape else np.moveaxis(pixels, 0, -1)  # colours may be stored one after the other


def _load_compressed_page(path: Path, index: int) -> np.ndarray:
    """LZW, JPEG and others: tifffile leaves them to a package of 80 MB, Pillow knows the common ones."""
    from PIL import Image

    with Image.open(path) as image:
        image.seek(index)
        return np.asarray(image)


def _load_part(path: Path, changed: int, series: int, order: tuple[int, ...], shape: tuple[int, ...], i: int):
    return _load_series(path, changed, series).transpose(order).reshape(-1, *shape)[i]


@lru_cache(maxsize=2)
def _load_series(path: Path, changed: int, series: int) -> np.ndarray:
    """A whole series whose planes cannot be read one by one; kept, because its other planes are wanted next."""
    import tifffile

    with _watching(path), tifffile.TiffFile(path) as tif:
        return tif.series[series].asarray()


@contextmanager
def _watching(path: Path) -> Iterator[None]:
    """Refuse a truncated file: when pages are missing at its end tifffile only logs it."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    if any("invalid page offset" in message for message in heard):
        raise EngineError(f"{path} is truncated (pages are missing at its end): copy it again or remove it.")


def _write(path: Path, source: Source, masks: Sequence[np.ndarray]) -> None:
    import tifffile

    tags = {}
    if source.header is not None:
        tags["resolution"], tags["resolutionunit"] = source.header
    alike = len({mask.shape for mask in masks}) == 1
    blocks = [np.stack(masks) if len(masks) > 1 else masks[0]] if alike else masks
    with tifffile.TiffWriter(path) as writer:
        for block in blocks:
            writer.write(block, photometric="minisblack", compression="zlib", **tags)


TIFF = Format(_read, _write, ".tif")
