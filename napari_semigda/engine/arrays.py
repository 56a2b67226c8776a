"""Arrays as files that two processes hand to each other: whole or not there, never pickled, never out of their folder.

Neither torch nor Qt is imported here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from napari_semigda.engine.types import EngineError

_BAND_BYTES = 2**25


def save_array(path: Path, array: np.ndarray) -> dict[str, Any]:
    """Write one array so that readers see all of it or nothing.

    Parameters
    ----------
    path : Path
        Where the ``.npy`` file goes; its folder exists.
    array : numpy.ndarray
        Numbers of any shape.

    Returns
    -------
    dict
        ``shape`` and ``dtype``, as `load_array` expects them.

    Raises
    ------
    EngineError
        When the array holds Python objects or the disk refuses it.
    """
    with _whole_or_not_there(path, array.dtype) as file:
        np.save(file, array, allow_pickle=False)
    return {"shape": list(array.shape), "dtype": array.dtype.str}


def save_bands(path: Path, image: Any) -> Iterator[None]:
    """As `save_array`, of an array-like that is read and written in bands of rows; pauses after each.

    Parameters
    ----------
    path : Path
        Where the ``.npy`` file goes; its folder exists.
    image : array-like
        Of numbers, read through ``image[rows]``.
    """
    shape, dtype = tuple(map(int, image.shape)), np.dtype(image.dtype)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    rows = max(1, _BAND_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))
    with _whole_or_not_there(path, dtype) as file:  # not mapped: pages of a map count as memory
        np.lib.format.write_array_header_2_0(file, header)
        for top in range(0, shape[0], rows):
            file.write(np.ascontiguousarray(image[top : top + rows], dtype))
            yield


@contextmanager
def _whole_or_not_there(path: Path, dtype: np.dtype) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place once all is written."""
    if dtype.hasobject:
        raise EngineError(f"{path.stem} does not hold numbers: choose a layer of numbers.")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise EngineError(f"Cannot write to {path.parent} ({error.strerror}): make room on that disk.") from error
    finally:
        part.unlink(missing_ok=True)


def load_array(path: Path, shape: Any = None, dtype: Any = None, *, mapped: bool = True) -> np.ndarray:
    """Read one array, mapped into memory unless `mapped` is False, after checking that it is what was announced.

    Raises
    ------
    EngineError
        When the file is missing, cut short, pickled, or of another shape or dtype.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # a file that is shorter than it says cannot be mapped
        array = array if mapped else np.array(array)
    except Exception as error:  # of a damaged header numpy raises about everything
        raise EngineError(f"The file {path.name} in {path.parent} is missing or damaged: press Train again.") from error
    if (shape is not None and list(array.shape) != list(shape)) or (dtype is not None and array.dtype.str != dtype):
        raise EngineError(f"The file {path.name} in {path.parent} is not the array expected: press Train again.")
    return array


class FarArray:
    """A large array in a file, mapped anew for every part of it: what is mapped counts as memory of the process.

    Parameters
    ----------
    path, shape, dtype
        As `load_array` takes them.
    """

    by_parts = True

    def __init__(self, path: Path, shape: Any, dtype: str) -> None:
        self._path = path
        array = load_array(path, shape, dtype)
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.array(load_array(self._path)[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def inside(folder: Path, name: str) -> Path:
    """`name` as a path in `folder`; refused with an EngineError when it would lead anywhere else."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
        raise EngineError(f"The file name {name!r} leads out of {folder}: press Train again.")
    return folder / relative
