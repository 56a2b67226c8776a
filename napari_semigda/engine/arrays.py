"""Arrays as files that two processes hand to each other: whole or not there, never pickled, never out of their folder.

Neither torch nor Qt is imported here.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from napari_semigda.engine.types import EngineError


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
    if array.dtype.hasobject:
        raise EngineError(f"{path.stem} does not hold numbers: choose a layer of numbers.")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EngineError(f"Cannot write to {path.parent} ({error.strerror}): make room on that disk.") from error
    return {"shape": list(array.shape), "dtype": array.dtype.str}


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


def inside(folder: Path, name: str) -> Path:
    """`name` as a path in `folder`; refused with an EngineError when it would lead anywhere else."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
        raise EngineError(f"The file name {name!r} leads out of {folder}: press Train again.")
    return folder / relative
