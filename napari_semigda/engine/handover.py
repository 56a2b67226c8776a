"""Images on their way to the training process: copied into its folder, or read by it where they lie.

Neither torch nor Qt is imported here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.arrays import FarArray, inside, load_array, save_array, save_bands
from napari_semigda.engine.blocks import Window, is_large
from napari_semigda.engine.types import EngineError, Plane

OpenPlace = Callable[[Mapping[str, Any]], Any]
"""Takes the place of a large image (see `formats.LazyImage`), gives the image."""


class Copies:
    """How the pixels of a job's planes get to the other side.

    Parameters
    ----------
    folder : Path
        Where copies go.
    planes : tuple of Plane
        All of them.
    """

    def __init__(self, folder: Path, planes: tuple[Plane, ...]) -> None:
        self._folder, self._planes = folder, planes
        self._large: dict[int, dict[str, Any]] = {}  # entries of large images by identity: many planes may be of one

    def write(self, index: int) -> Generator[tuple[int, int], None, dict[str, Any]]:
        """Write what is not there from an earlier round and cannot be read where it lies; return what to say of it.

        A large image is written in bands; what is yielded between them is as `exchange.write_job` yields it.
        """
        image, whole = self._planes[index].image, _whole(self._planes[index])
        if not _goes_as_large(whole):
            return self._small(index)
        if id(whole) not in self._large:
            known = {"large": True, "shape": list(whole.shape), "dtype": np.dtype(whole.dtype).str}
            if (place := getattr(whole, "place", None)) is not None:
                self._large[id(whole)] = {"place": dict(place), **known}
            else:
                path = self._folder / f"large-{whole.key}.npy"
                for _ in () if path.exists() else save_bands(path, whole):
                    yield index, len(self._planes)
                self._large[id(whole)] = {"file": f"images/{path.name}", **known}
        return self._large[id(whole)] | ({} if image is whole else {"area": list(image.area)})

    def _small(self, index: int) -> dict[str, Any]:
        plane = self._planes[index]
        key = getattr(plane.image, "key", None)  # lazy planes bring a key, so that nothing is computed to compare
        if key is not None and (known := self._folder / f"{index:05d}-{key}.npy").exists():
            return {"file": f"images/{known.name}", "shape": list(plane.image.shape), "dtype": _header_dtype(known)}
        pixels = np.ascontiguousarray(plane.image)
        if pixels.dtype.hasobject:
            raise EngineError(f"{plane.name} does not hold numbers: choose an image layer of numbers.")
        if key is None:
            key = hashlib.blake2b(memoryview(pixels.reshape(-1).view(np.uint8)), digest_size=8).hexdigest()
        path = self._folder / f"{index:05d}-{key}.npy"
        if path.exists():
            return {"file": f"images/{path.name}", "shape": list(pixels.shape), "dtype": pixels.dtype.str}
        return {"file": f"images/{path.name}", **save_array(path, pixels)}


def _header_dtype(path: Path) -> str:
    return load_array(path).dtype.str


def check_room(folder: Path, planes: tuple[Plane, ...]) -> None:
    """Refuse before writing when the images do not fit, rather than fill the user's disk."""
    present = sum(file.stat().st_size for file in (folder / "images").iterdir())
    copied = {id(image): image for image in map(_whole, planes) if getattr(image, "place", None) is None}
    needed = sum(map(_bytes, copied.values())) - present
    free = shutil.disk_usage(folder).free
    if needed + 64 * 2**20 > free:
        raise EngineError(
            f"The images need {needed / 2**20:.0f} MB in {folder.parent}, where {free / 2**20:.0f} MB are free: "
            "make room there, or set the TMPDIR variable to a folder on a larger disk."
        )


def _whole(plane: Plane) -> Any:
    """The image that a plane is, or the large one that it is a part of."""
    return getattr(plane.image, "whole", plane.image)


def _goes_as_large(image: Any) -> bool:
    """Whether an image is never read whole on its way: it is large, and known by where it is or by a key."""
    known = getattr(image, "place", None) is not None or getattr(image, "key", None) is not None
    return known and is_large(image.shape)


def _bytes(image: Any) -> int:
    return int(np.prod(image.shape, dtype=np.int64)) * np.dtype(image.dtype).itemsize


def read_image(folder: Path, entry: dict[str, Any], open_place: OpenPlace | None, large: dict[str, Any]) -> Any:
    """The image of a plane, as `Copies` has told of it.

    Large ones are opened once and kept in `large`, for the planes that are parts of them.
    """
    told = entry["image"]
    if "large" not in told:
        return read_array(folder, told)
    known = json.dumps([told.get("place"), told.get("file")], sort_keys=True)
    if known not in large:
        large[known] = _large_image(folder, entry["name"], told, open_place)
    return Window(large[known], told["area"]) if "area" in told else large[known]


def _large_image(folder: Path, name: str, told: dict[str, Any], open_place: OpenPlace | None) -> Any:
    if "place" not in told:
        return FarArray(inside(folder, told["file"]), told["shape"], told["dtype"])
    if open_place is None:
        raise EngineError("This process reads no files: restart the viewer.")
    image = open_place(told["place"])
    if list(image.shape) != told["shape"] or np.dtype(image.dtype) != np.dtype(told["dtype"]):
        raise EngineError(f"{name} is another image than when it was opened: open it again.")
    return image


def read_array(folder: Path, entry: dict[str, Any] | None) -> np.ndarray | None:
    """An array that lies in the folder, mapped into memory; None where there is none."""
    if entry is None:
        return None
    return load_array(inside(folder, entry["file"]), entry["shape"], entry["dtype"])
