"""NIfTI: every slice along the third axis is a plane, volume after volume, and masks lie where the image lies.

The volume stays as it is stored, whatever its orientation. A header may hold names of people (``descrip``, ``db_name``,
whole DICOM headers as extensions): none of that is read, nor copied into masks.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import DEFLATE, Format, LazyImage, Source, check_claim, check_room, plane_names

_HEADERS = (348, 540)  # bytes of NIfTI-1 and 2; both begin with their own length
_LATEST_START = 2**28  # bytes of whatever may lie between header and pixels
_LABEL = 1002  # the intent code of files whose values are names of things
_PRIVATE = ("descrip", "aux_file", "db_name", "intent_name")
_UNITS = {"mm": ("mm", 1.0), "unknown": ("mm", 1.0), "meter": ("mm", 1e3), "micron": ("um", 1.0)}


def _opened(path: Path) -> Any:
    """The file as nibabel sees it, its pixels no more than what can lie in it.

    nibabel's own ``load`` reads all that may follow the header, of which nothing is wanted: whole DICOM headers, XML.
    """
    import nibabel
    from nibabel.arrayproxy import ArrayProxy

    with gzip.open(path, "rb") if _is_packed(path) else path.open("rb") as file:
        start = file.read(_HEADERS[-1])
    kinds = dict(zip(_HEADERS, (nibabel.Nifti1Image, nibabel.Nifti2Image), strict=True))
    length = next((n for n in kinds if n in (int.from_bytes(start[:4], order) for order in ("little", "big"))), None)
    if length is None:
        raise ValueError("it does not begin like a NIfTI file")
    header = kinds[length].header_class.from_fileobj(io.BytesIO(start[:length]))
    pixels = ArrayProxy(path, header)
    if not 0 <= pixels.offset <= _LATEST_START or min(pixels.shape, default=0) < 0:
        raise ValueError(f"its {pixels.shape} pixels begin at byte {pixels.offset}")
    most = path.stat().st_size * (DEFLATE if _is_packed(path) else 1) - pixels.offset
    check_claim(path, 1, math.prod(pixels.shape) * pixels.dtype.itemsize, most)
    return kinds[length](pixels, header.get_best_affine(), header)


def _read(path: Path) -> Source:
    image = _opened(path)
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3, 4):
        raise EngineError(f"{path} has {len(shape)} dimensions {shape}: save every volume of it as a file of its own.")
    shape = (*shape, 1, 1)[:4]
    check_claim(path, shape[2] * shape[3], 1)
    dtype, colours = _dtype(image)
    changed = path.stat().st_mtime_ns
    plane = (*shape[:2], *((colours,) if colours else ()))
    planes = tuple(
        LazyImage(name, plane, dtype, partial(_load, path, changed, shape, i))
        for i, name in enumerate(plane_names(path.name, NIFTI.word, shape[2] * shape[3]))
    )
    no_pixels = np.broadcast_to(np.uint8(0), image.shape)
    unit, (height, width, depth) = _sizes(image.header)
    return Source(
        path,
        planes,
        (height, width) if height and width else None,
        type(image)(no_pixels, image.affine, image.header),
        unit,
        depth if shape[2] > 1 else None,
        image.affine,
        axis="z" if shape[2] > 1 else "t" * (shape[3] > 1),
        volumes=shape[3],
        is_mask=int(image.header["intent_code"]) == _LABEL and dtype.kind in "iu",
    )


def _dtype(image) -> tuple[np.dtype, int]:
    """Type of values, and how many colours each pixel has; 0 for grey."""
    stored = image.dataobj.dtype
    if stored.names:
        return np.dtype(np.uint8), len(stored.names)
    if _is_scaled(image):
        return np.dtype(np.float32), 0
    return (stored.newbyteorder("=") if stored.itemsize <= 8 or stored.kind == "c" else np.dtype(np.float64)), 0


def _sizes(header) -> tuple[str, tuple[float | None, ...]]:
    """Unit, and height, width and depth of a voxel in it; most programs leave the unit out and mean millimetres."""
    unit, factor = _UNITS.get(header.get_xyzt_units()[0], ("mm", np.nan))
    zooms = np.array([*header.get_zooms(), 0, 0][:3], float) * factor
    return unit, tuple(float(zoom) if np.isfinite(zoom) and zoom > 0 else None for zoom in zooms)


def _load(path: Path, changed: int, shape: tuple[int, ...], i: int) -> np.ndarray:
    volume, number = divmod(i, shape[2])
    if _is_packed(path):  # can only be read from its start
        pixels = _load_volume(path, changed).reshape(shape)[:, :, number, volume]
    else:
        stored = _opened(path).dataobj
        at = (slice(None), slice(None), number, volume)
        pixels = np.asarray(stored[at[: len(stored.shape)] + (0,) * (len(stored.shape) - 4)])
    return _colours(pixels) if pixels.dtype.names else pixels


def _colours(pixels: np.ndarray) -> np.ndarray:
    """(H, W) of red, green and blue -> (H, W, 3)."""
    return np.stack([pixels[name] for name in pixels.dtype.names], axis=-1)


@lru_cache(maxsize=2)
def _load_volume(path: Path, changed: int) -> np.ndarray:
    """A whole compressed file; kept, because its other slices are wanted next."""
    image = _opened(path)
    dtype = np.dtype(np.float32) if _is_scaled(image) else image.dataobj.dtype
    check_room(path.name, image.shape, dtype)
    return np.asarray(image.dataobj, dtype=dtype)


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _is_scaled(image) -> bool:
    """Whether stored numbers are multiplied or shifted to become values."""
    return (image.dataobj.slope, image.dataobj.inter) != (1, 0)


def _write(path: Path, source: Source, masks: Sequence[np.ndarray]) -> None:
    import nibabel

    like = source.header
    header = like.header.copy()
    header.extensions.clear()
    for name in (name for name in _PRIVATE if name in header):  # NIfTI-2 has fewer
        header[name] = b""
    header.set_intent(_LABEL)
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0  # the window of the image would hide class ids
    planes = np.stack(masks, axis=-1)  # (H, W, volumes * slices)
    volume = planes.reshape(*planes.shape[:2], source.volumes, -1).swapaxes(2, 3).reshape(like.shape)
    nibabel.save(type(like)(volume, like.affine, header), path)


def save_volume(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write the masks of a volume with a place of its own.

    Parameters
    ----------
    path
        Where to.
    volume
        (X, Y, Z) uint8.
    affine
        (4, 4) to millimetres right, anterior and superior, as a scanner tells them.
    """
    import nibabel

    image = nibabel.Nifti1Image(volume, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner", strip_shears=True)
    image.header.set_xyzt_units("mm")
    image.header.set_intent(_LABEL)
    nibabel.save(image, path)


NIFTI = Format(_read, _write, ".nii.gz", "slice")
