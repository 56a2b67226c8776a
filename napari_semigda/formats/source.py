"""What all formats share: pixels read when needed, files replaced in one step, and errors in plain words."""

from __future__ import annotations

import io
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_semigda.engine.types import EngineError

MOST_PLANES = 250_000
"""Of one file: three times the slices of an hour of functional MRI."""
DEFLATE = 1032
"""Most bytes that one byte stands for in zlib, gzip and PNG."""
_LONGEST_REASON = 200  # characters
_SMALL = 2**24  # bytes that nobody misses: to ask how many are free takes longer than to read them


@dataclass(frozen=True, eq=False)
class LazyImage:
    """Pixels of a file, read anew whenever they are asked for: ``np.asarray(image)`` or ``image[rows]``.

    Whoever needs them often keeps them; so a folder of any size costs no memory until it is used.
    """

    name: str
    """What the user calls it, for messages: ``"ax031.png"``, ``"stack.tif, page 3"`` (counted from 1)."""
    shape: tuple[int, ...]
    """(H, W) or (H, W, C)."""
    dtype: np.dtype
    """In the byte order of the machine."""
    load: Callable[[], np.ndarray]
    """Reads the pixels: an array of `shape`."""
    part: Callable[[Any], np.ndarray] | None = None
    """Reads ``image[key]`` without the rest, where the file allows that."""
    coarser: tuple[LazyImage, ...] = ()
    """The same with fewer and fewer pixels, where the file has it."""
    place: Mapping[str, Any] | None = None
    """Where another process finds a large image that can be read by parts, in plain JSON; see `images.opener`."""

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def by_parts(self) -> bool:
        """Whether ``image[key]`` reads no more than it must."""
        return self.part is not None

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        check_room(self.name, self.shape, self.dtype)
        with said_plainly(self.name):
            pixels = self.load()
            if pixels.shape != self.shape:
                raise ValueError(f"it holds {pixels.shape} values instead of {self.shape}")
        return pixels.astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key) -> np.ndarray:
        if self.part is None:
            return np.asarray(self)[key]
        with said_plainly(self.name):
            return self.part(key).astype(self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Source:
    """An image file: its planes, and what must be kept to write masks that fit it."""

    path: Path
    planes: tuple[LazyImage, ...]
    spacing: tuple[float, float] | None = None
    """Height and width of a pixel in `unit`, where the file tells them for sure."""
    header: Any = None
    """For the format's `write`: how a TIFF is laid out, a NIfTI image without its pixels."""
    unit: str = "mm"
    """``"mm"``, or ``"um"`` for micrometres."""
    depth: float | None = None
    """From one plane to the next in `unit`, where they are slices of one volume and the file tells it."""
    affine: np.ndarray | None = None
    """(4, 4) from (row, column, plane) to millimetres right, anterior and superior, where the file tells the place."""
    window: tuple[float, float] | None = None
    """Values to show as black and as white, where the file recommends them. Pixels are never cut off at them."""
    axis: str = ""
    """What counts the planes: ``"z"`` for the slices of one volume, ``"t"`` for points in time, empty where the file
    does not tell."""
    volumes: int = 1
    """Of how many volumes, one after the other and alike, the planes are the slices: the time points of a scan."""

    is_mask: bool = False
    """Whether the file says that its values are class ids."""

    def volume_of(self, index: int) -> str:
        """A name for the volume that plane `index` is a slice of; empty where it is an image or a point in time.

        Pages of a file that does not tell what counts them are taken for slices.
        """
        slices = len(self.planes) // self.volumes
        return f"{self.path.name} {index // slices}" if slices > 1 and self.axis != "t" else ""


class Format(NamedTuple):
    """How files of one kind are read and written."""

    read: Callable[[Path], Source]
    """Opens a file without reading its pixels; whatever it raises is put into a sentence."""
    write: Callable[[Path, Source, Sequence[np.ndarray]], None]
    """Writes one (H, W) uint8 mask for each plane to a path."""
    output: str
    """Suffix of the files it writes."""
    word: str = "page"
    """What one plane of several is called."""
    by_parts: bool = False
    """Whether `write` takes masks that are in no array but give ``mask[rows, columns]``."""


def plane_names(name: str, word: str, count: int) -> list[str]:
    """What messages call the planes of a file: its own name, or with a number counted from 1 where it has several."""
    return [name] if count == 1 else [f"{name}, {word} {number}" for number in range(1, count + 1)]


def count_volumes(axes: str, shape: Sequence[int]) -> int:
    """Of how many volumes planes are the slices that are counted along such axes, of which the last counts fastest.

    Where something else counts faster than z, slices that follow each other are no neighbours: each is a volume then.
    """
    axes = axes.lower()
    if "z" not in axes:
        return 1
    at = axes.index("z")
    return math.prod(shape) if math.prod(shape[at + 1 :]) > 1 else math.prod(shape[:at])


def area_of(key: Any) -> tuple[slice, slice, tuple] | None:
    """Rows, columns and what else ``image[key]`` asks for; None where it asks for no plain rows and columns."""
    key = key if isinstance(key, tuple) else (key,)
    rows, columns = [*key[:2], *[slice(None)] * (2 - len(key[:2]))]
    if all(isinstance(each, slice) and (each.step is None or each.step > 0) for each in (rows, columns)):
        return rows, columns, key[2:]
    return None


def free_memory() -> int:
    """Bytes that this computer can still give."""
    import psutil

    return psutil.virtual_memory().available


def check_room(name: str, shape: Sequence[int], dtype: Any) -> None:
    """Refuse to read pixels that do not fit into memory, before any of it is taken."""
    needed = math.prod(map(int, shape)) * np.dtype(dtype).itemsize
    if needed > _SMALL and needed > (free := free_memory()):
        raise EngineError(
            f"{name} does not fit into memory (it takes {needed / 1e9:.3g} GB, of which {free / 1e9:.3g} GB are free): "
            "split it, or use a computer with more."
        )


def check_claim(path: Path, planes: int, plane_bytes: int, most_bytes: float = math.inf) -> None:
    """Refuse a file that speaks of more pixels than it can hold, before anything is made of them.

    Parameters
    ----------
    path
        The file.
    planes, plane_bytes
        How many it says there are, and the size of each in memory.
    most_bytes
        What its own size allows, with the best that its compression can do.

    Raises
    ------
    EngineError
        Also when there are more planes than anybody has.
    """
    if not 0 <= planes <= MOST_PLANES:
        raise EngineError(f"{path} speaks of {planes} images ({MOST_PLANES} is the most): split it or copy it again.")
    if planes * plane_bytes > most_bytes:
        raise EngineError(
            f"{path} cannot be read, it may be damaged (it is too short for {planes * plane_bytes} bytes of pixels): "
            "copy it again or remove it."
        )


class Bounded(io.BufferedReader):
    """A file of which nobody can ask for more than it has: libraries take the memory first that a header asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path`, which takes its place when the block ends well and else vanishes."""
    temporary = path.with_name(f".{os.getpid()}.part.{path.name}")  # the suffix stays: libraries choose by it
    before = path.with_name(f".{os.getpid()}.part.{path.name}.before")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.exists():  # no system replaces a folder that has something in it
            os.replace(path, before)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if before.exists() and not path.exists():
            os.replace(before, path)
        for left in (temporary, before):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with suppress(OSError):
                    left.unlink(missing_ok=True)


@contextmanager
def written_plainly(path: Path) -> Iterator[None]:
    """Turn what a full or lost disk raises into one sentence."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> EngineError:
    return EngineError(
        f"{path} cannot be written ({error.strerror or error}): free some space or choose another folder."
    )


@contextmanager
def said_plainly(name: str) -> Iterator[None]:
    """Turn whatever a reading library raises on a damaged file into one sentence; they raise about everything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags and headers that do not matter here
            yield
    except EngineError:
        raise
    except MemoryError as error:
        raise EngineError(f"{name} does not fit into memory: split it, or use a computer with more.") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON].rstrip(".") or type(error).__name__
        raise EngineError(
            f"{name} cannot be read, it may be damaged ({reason}): copy it again or remove it."
        ) from error
