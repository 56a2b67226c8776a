"""TIFF: every page is a plane, masks have the same pages, resolution and, of ImageJ and OME, axes and sizes."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_semigda.engine.blocks import SIDE, places
from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import (
    DEFLATE,
    Format,
    LazyImage,
    Source,
    check_claim,
    check_room,
    count_volumes,
    plane_names,
    replacing,
)
from napari_semigda.formats.tiff_open import opened
from napari_semigda.formats.tiff_parts import has_parts, read_part
from napari_semigda.formats.unpacking import check_unpacked

_MICROMETRES = dict.fromkeys(
    ("um", "\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m", "\\u00B5m", "micron", "microns"), 1.0
)
_MICROMETRES |= {"nm": 1e-3, "mm": 1e3, "cm": 1e4}
_DENSEST = {1: 1, 32773: 64, 5: 1400, 8: DEFLATE, 32946: DEFLATE, 34925: 8000, 50000: 2**15, 34926: 2**15}
"""Most bytes that a byte stands for, by the number of a compression: none, PackBits, LZW, Deflate, LZMA, Zstandard."""
_LONGEST_TEXT = 2**26  # bytes of a description: OME tells every plane of a large screen in fewer
_LARGEST_IMAGEJ = 2**32 - 2**25  # bytes: ImageJ, and TIFF but for BigTIFF, know no larger files
_LARGEST_PAGE = 2**27  # pixels: ImageJ reads no tiles, so its pages are written from memory


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


class _Layout(NamedTuple):
    """What masks take over from an image."""

    tags: dict[str, Any]
    """Resolution, for every page."""
    kind: str = ""
    """``"imagej"`` or ``"ome"`` where `axes` and sizes are told as they tell it."""
    axes: str = ""
    """Of the stack of planes: of T, Z, Y, X."""
    shape: tuple[int, ...] = ()
    metadata: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """Sizes; nothing of what else is told, such as labels of slices, which may name somebody."""


def _read(path: Path) -> Source:
    with opened(path, for_all=True) as tif:
        _check(path, tif)
        series = [(i, s) for i, s in enumerate(tif.series) if not s.keyframe.is_reduced]  # reduced ones are thumbnails
        parts = [part for i, s in series for part in _parts(path, i, s)]
        page = tif.pages.first
        tags = {}
        if "XResolution" in page.tags and page.resolutionunit in (1, 2, 3) and all(map(math.isfinite, page.resolution)):
            tags = {"resolution": page.resolution, "resolutionunit": page.resolutionunit}
        sizes = _sizes(tif)
        layout = _layout(tif, series[0][1], tags) if len(series) == 1 else _Layout(tags)
        axes = series[0][1].axes if len(series) == 1 else ""
        axis = next((name.lower() for name in "ZT" if name in axes), "")
        volumes = _count_volumes(axes, series[0][1].shape)
    names = plane_names(path.name, TIFF.word, len(parts))
    planes = tuple(LazyImage(name, *part) for name, part in zip(names, parts, strict=True))
    if sizes is None:
        return Source(path, planes, None, layout, axis=axis, volumes=volumes)
    unit, height, width, depth = sizes
    depth = depth if axis == "z" else None
    return Source(path, planes, (height, width), layout, unit, depth, axis=axis, volumes=volumes)


def _check(path: Path, tif: Any) -> None:
    """Refuse what would cost memory or lead out of the folder once it is believed, before pages become series."""
    first = tif.pages.first
    check_claim(path, len(tif.pages), 1)
    check_claim(path, 1, first.nbytes, tif.filehandle.size * _DENSEST.get(int(first.compression), math.inf))
    if any(tag.code == 270 and tag.count > _LONGEST_TEXT for tag in first.tags):
        raise ValueError("its description has no end")
    text = first.description
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("its description defines words of its own, which OME never does")
    for name in map(html.unescape, re.findall(r"""FileName\s*=\s*["']([^"']*)""", text)):
        if name != re.split(r"[/\\]", name)[-1] or name in (".", ".."):
            raise EngineError(f"{path} speaks of a file elsewhere ({name:.80}): put all its files into one folder.")


def _sizes(tif) -> tuple[str, float, float, float | None] | None:
    """Unit, and height, width and depth of a pixel, as ImageJ and OME tell it; plain tags mostly speak of printing."""
    with suppress(
        AttributeError, IndexError, KeyError, TypeError, ValueError, SyntaxError
    ):  # whatever it holds instead
        if tif.is_ome:
            pixels = _ome_pixels(tif)
            told = [(pixels.get(f"PhysicalSize{x}"), pixels.get(f"PhysicalSize{x}Unit", "um")) for x in "YXZ"]
        else:
            told_by = tif.imagej_metadata
            unit = told_by["unit"]
            told = [(1 / per_pixel, unit) for per_pixel in reversed(tif.pages.first.resolution) if per_pixel]
            told.append((told_by.get("spacing"), unit))
        target = "mm" if told[0][1] in ("mm", "cm") else "um"
        height, width = (float(size) * _MICROMETRES[unit] / _MICROMETRES[target] for size, unit in told[:2])
        if 0 < height < math.inf and 0 < width < math.inf:
            depth = float(told[2][0] or 0) * _MICROMETRES.get(told[2][1], 0) / _MICROMETRES[target]
            return target, height, width, depth if 0 < depth < math.inf else None
    return None


def _ome_pixels(tif) -> dict[str, Any]:
    """What OME tells of the pixels of the first image."""
    import tifffile

    image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
    return (image[0] if isinstance(image, list) else image)["Pixels"]


def _layout(tif, series, tags: dict[str, Any]) -> _Layout:
    """Axes and sizes for masks, where ImageJ or OME tell them and masks can tell them the same way."""
    leading = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXSC"]
    axes = "".join(axis for axis, _ in leading)
    if not {*axes} <= {*"TZ"} or ("S" in series.axes and "C" in series.axes):
        return _Layout(tags)
    shape, metadata = tuple(n for _, n in leading), {}
    with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError, SyntaxError):
        if series.kind == "ome":
            pixels, sizes = _ome_pixels(tif), [f"PhysicalSize{axis}" for axis in "XYZ"] + ["TimeIncrement"]
            metadata = {key: pixels[key] for name in sizes for key in (name, f"{name}Unit") if key in pixels}
        elif series.kind == "imagej":
            told = tif.imagej_metadata
            metadata = {key: told[key] for key in ("unit", "spacing", "finterval") if key in told}
        else:
            return _Layout(tags)
        return _Layout(tags, series.kind, f"{axes}YX", shape, metadata)
    return _Layout(tags)


def _count_volumes(axes: str, shape: Sequence[int]) -> int:
    """Of how many volumes the pages are the slices; 1 where there are several series, whose axes are not told."""
    inner = "YXS" if "S" in axes else "YXC"
    leading = [(axis, n) for axis, n in zip(axes, shape, strict=False) if axis not in inner]
    return count_volumes("".join(axis for axis, _ in leading), [n for _, n in leading])


def _parts(path: Path, number: int, series) -> list[tuple]:
    """Shape, type and loaders of each plane of a series: every axis but rows, columns and colours counts pages."""
    axes = series.axes
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise EngineError(f"{path} has the axes {axes} {series.shape}, not rows and columns: save it as plain pages.")
    colour = next((axis for axis in "SC" if axis in axes), "")
    inner = [axes.index(axis) for axis in f"YX{colour}"]
    order = tuple([i for i in range(len(axes)) if i not in inner] + inner)
    shape = tuple(series.shape[i] for i in inner)
    count = math.prod(series.shape[i] for i in order[: -len(inner)])
    check_claim(path, count, 1)
    dtype = np.dtype(series.dtype).newbyteorder("=")
    lost = sum(page is None for page in series.pages)
    if lost and series.kind == "ome":
        raise EngineError(
            f"{path} speaks of {lost} planes that are not in it (an OME-TIFF in several files?): put all its files "
            "into one folder again, or save it as one file."
        )
    if axes.replace("S", "").endswith("YX") and not lost:  # a page holds one plane, or one channel of it
        pages = [page.index for page in series.pages]
        if colour != "C" and count == len(pages):
            in_parts = [has_parts(page.keyframe) for page in series.pages]
            return [
                (
                    shape,
                    dtype,
                    partial(_load_page, path, index, shape),
                    partial(read_part, path, index, shape) if parts else None,
                )
                for index, parts in zip(pages, in_parts, strict=True)
            ]
        if colour == "C" and count * shape[2] == len(pages):
            stored = np.reshape(pages, [series.shape[i] for i in range(len(axes)) if i not in inner[:2]])
            channels = np.moveaxis(stored, [axis for axis in axes if axis not in "YX"].index("C"), -1)
            return [
                (shape, dtype, partial(_load_channels, path, each, shape), None) for each in channels.reshape(count, -1)
            ]
    changed = path.stat().st_mtime_ns
    return [(shape, dtype, partial(_load_part, path, changed, number, order, shape, i)) for i in range(count)]


def _load_page(path: Path, index: int, shape: tuple[int, ...]) -> np.ndarray:
    with opened(path) as tif:
        page = tif.pages[index]
        if page.shape != shape and math.prod(page.shape) != math.prod(shape):
            raise ValueError(f"it holds {page.shape} values instead of {shape}")
        _check_packed(tif, page)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            pixels = _load_compressed_page(path, index)
    return pixels if pixels.shape == shape else np.moveaxis(pixels, 0, -1)  # colours may be stored one after the other


def _load_channels(path: Path, pages: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A plane whose channels are a page each."""
    return np.stack([_load_page(path, int(index), shape[:2]) for index in pages], axis=-1)


def _check_packed(tif: Any, page: Any) -> None:
    """Refuse Deflate that unpacks to more than its pixels: without imagecodecs, tifffile would unpack all of it."""
    tile = (page.tilewidth or 0) * (page.tilelength or 0) * page.samplesperpixel * page.dtype.itemsize
    check_room(f"A tile of {tif.filename}", (tile,), np.uint8)
    if _DENSEST.get(int(page.compression)) == DEFLATE:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            tif.filehandle.seek(offset)
            check_unpacked(tif.filehandle, count, "zlib", max(tile, page.nbytes))


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
    with opened(path) as tif:
        whole = tif.series[series]
        check_room(path.name, whole.shape, whole.dtype)
        for page in filter(None, whole.pages):
            _check_packed(tif, page)
        return whole.asarray()


def _write(path: Path, source: Source, masks: Sequence[Any]) -> None:
    import tifffile

    layout = source.header if isinstance(source.header, _Layout) else _Layout({})  # pictures have none
    alike = len({mask.shape for mask in masks}) == 1
    by_parts = not all(isinstance(mask, np.ndarray) for mask in masks)
    size, page = sum(math.prod(mask.shape) for mask in masks), max(math.prod(mask.shape) for mask in masks)
    too_large = layout.kind == "imagej" and (size > _LARGEST_IMAGEJ or (by_parts and page > _LARGEST_PAGE))
    stacked = layout.kind and alike and math.prod(layout.shape) == len(masks) and not too_large
    how: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", **layout.tags}
    if stacked:
        how["metadata"] = {"axes": layout.axes, **layout.metadata}
    kind = layout.kind if stacked else ""
    # Said in so many words: of a name with .ome.tif the library would make channels of pages.
    with tifffile.TiffWriter(
        path, bigtiff=size > _LARGEST_IMAGEJ, imagej=kind == "imagej", ome=kind == "ome"
    ) as writer:
        for group in [masks] if alike else [[mask] for mask in masks]:
            leading = layout.shape if stacked else (len(group),) * (len(group) > 1)
            if by_parts and kind != "imagej":
                _write_tiles(writer, group, leading, {"metadata": None} | how)
            else:
                writer.write(np.stack(group).reshape(*leading, *group[0].shape), **how)


def _write_tiles(writer: Any, masks: Sequence[Any], leading: tuple[int, ...], how: dict[str, Any]) -> None:
    """Write masks that are in no array tile by tile, and their coarser levels below them, as viewers of slides do.

    Not for ImageJ, which reads no tiles.
    """
    fewest = min(len(mask.levels) for mask in masks)
    for level in range(fewest + 1):
        shown = [mask.levels[level - 1] if level else mask for mask in masks]
        writer.write(
            (mask[place.area] for mask in shown for row in places(mask.shape, mask.shape[1]) for place in row),
            shape=(*leading, *shown[0].shape),
            dtype=np.uint8,
            tile=(SIDE, SIDE),
            **(how | ({"subfiletype": 1, "metadata": None} if level else {"subifds": fewest})),
        )


TIFF = Format(_read, _write, ".tif", by_parts=True)
