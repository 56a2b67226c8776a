"""NIfTI: every slice along the last axis is a plane, masks lie where the image lies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import Format, LazyImage, Source


def _read(path: Path) -> Source:
    import nibabel

    image = nibabel.load(path)
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise EngineError(f"{path} has {len(shape)} dimensions {shape}: save every volume of it as a file of its own.")
    count = shape[2] if len(shape) == 3 else 1
    names = [path.name] if count == 1 else [f"{path.name}, slice {i}" for i in range(1, count + 1)]
    dtype = np.dtype(np.float32) if _is_scaled(image) else image.dataobj.dtype.newbyteorder("=")
    changed = path.stat().st_mtime_ns
    planes = tuple(
        LazyImage(name, shape[:2], dtype, partial(_load, path, changed, shape, i)) for i, name in enumerate(names)
    )
    no_pixels = np.broadcast_to(np.uint8(0), image.shape)
    return Source(path, planes, _spacing(image.header), type(image)(no_pixels, image.affine, image.header))


def _spacing(header) -> tuple[float, float] | None:
    """Pixel size in millimetres; most programs leave the unit out and mean them."""
    zooms = [float(zoom) for zoom in header.get_zooms()[:2]]
    known = header.get_xyzt_units()[0] in ("mm", "unknown") and min(zooms) > 0
    return (zooms[0], zooms[1]) if known else None


def _load(path: Path, changed: int, shape: tuple[int, ...], i: int) -> np.ndarray:
    import nibabel

    if path.suffix.lower() == ".gz":  # can only be read from its start
        return _load_volume(path, changed).reshape(*shape[:2], -1)[..., i]
    pixels = nibabel.load(path).dataobj
    return np.asarray(pixels[:, :, i] if len(shape) == 3 else pixels).reshape(shape[:2])


@lru_cache(maxsize=2)
def _load_volume(path: Path, changed: int) -> np.ndarray:
    """A whole compressed volume; kept, because its other slices are wanted next."""
    import nibabel

    image = nibabel.load(path)
    return np.asarray(image.dataobj, dtype=np.float32 if _is_scaled(image) else None)


def _is_scaled(image) -> bool:
    """Whether stored numbers are multiplied or shifted to become values."""
    return (image.dataobj.slope, image.dataobj.inter) != (1, 0)


def _write(path: Path, source: Source, masks: Sequence[np.ndarray]) -> None:
    import nibabel

    like = source.header
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0  # the window of the image would hide class ids
    volume = np.stack(masks, axis=-1).reshape(like.shape)
    nibabel.save(type(like)(volume, like.affine, header), path)


NIFTI = Format(_read, _write, ".nii.gz")
