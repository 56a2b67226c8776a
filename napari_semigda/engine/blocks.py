"""Planes too large to be predicted as one array, and the blocks they come in.

Neither torch nor Qt is imported here, so that those who only write blocks need not load it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

LARGE = 2**24
"""Pixels (4,096 x 4,096) from which on a plane is predicted block by block. As one array it takes about 60 bytes a
pixel with two classes and 16 more for each further one, so a gigabyte and more from here on; below, one pass through
memory is the simplest and no slower."""

SIDE = 512
"""Height and width of a block in image pixels, less at the lower and right border. Masks are stored in chunks of the
same size, so that each is written once."""


_MOST_PARTS = 256


class Place(NamedTuple):
    """Where a block lies in its plane, in image pixels."""

    number: int
    """Counted from 0 in reading order."""
    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns, to read or write ``plane[block.area]``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Block(NamedTuple):
    """A finished piece of the masks of a plane."""

    place: Place
    mask: np.ndarray
    """(h, w) uint8 class ids."""
    doubt: np.ndarray
    """(h, w) float32 in [0, 1]."""
    probabilities: np.ndarray | None = None
    """(K, h, w) float32; only when asked for."""


def cut(mask: np.ndarray, doubt: np.ndarray, done: Container[int] = ()) -> Iterator[Block]:
    """The blocks of a finished plane, but for those that are done."""
    for row in places(mask.shape, count_blocks(mask.shape)):
        yield from (Block(place, mask[place.area], doubt[place.area]) for place in row if place.number not in done)


def is_large(size: tuple[int, ...], scale: float = 1.0) -> bool:
    """Whether a plane of such a height and width is predicted block by block; the one place where that is decided.

    `scale` is that of the view: what is enlarged takes more memory than the image.
    """
    return size[0] * size[1] * max(1.0, scale) ** 2 > LARGE


def count_blocks(size: tuple[int, ...]) -> int:
    """How many blocks a plane of such a height and width has."""
    return -(-size[0] // SIDE) * -(-size[1] // SIDE)


def places(size: tuple[int, ...], columns: int) -> Iterator[list[Place]]:
    """Rows of at most so many blocks, down one strip of the plane and then down the next one to its right."""
    height, width = size[:2]
    across = -(-width // SIDE)
    for first in range(0, across, columns):
        for top in range(0, height, SIDE):
            yield [
                Place(
                    top // SIDE * across + column,
                    top,
                    column * SIDE,
                    min(top + SIDE, height),
                    min((column + 1) * SIDE, width),
                )
                for column in range(first, min(first + columns, across))
            ]


def worth_reading(images: Sequence[Any]) -> set[int]:
    """Which of the images nobody painted on are looked into before training: of parts of large ones, some hundreds.

    All of them would be reading a slide from end to end, for what a few show as well.
    """
    parts = [index for index, image in enumerate(images) if isinstance(image, Window)]
    some = {parts[int(at)] for at in np.linspace(0, len(parts) - 1, min(len(parts), _MOST_PARTS))}
    return (set(range(len(images))) - set(parts)) | some


class Window:
    """A part of a large image, as an image of its own; its black and white are those of the whole.

    Parameters
    ----------
    whole : array-like
        (H, W) or (H, W, C), read through ``whole[rows, columns]``.
    area : sequence of int
        Its first row and column, and those behind its last.
    """

    by_parts = True

    def __init__(self, whole: Any, area: Sequence[int]) -> None:
        self.whole = whole
        self.area: tuple[int, int, int, int] = tuple(map(int, area))
        top, left, bottom, right = self.area
        if not (0 <= top < bottom <= whole.shape[0] and 0 <= left < right <= whole.shape[1]):
            raise ValueError(f"{self.area} is no part of {tuple(whole.shape)}")
        self.shape: tuple[int, ...] = (bottom - top, right - left, *whole.shape[2:])
        self.dtype = np.dtype(whole.dtype)
        self.ndim = len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:, :], dtype=dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        slices = (*key[:2], slice(None))[:2]
        if not all(isinstance(at, slice) and (at.step or 1) > 0 for at in slices):
            return np.asarray(self)[key]
        top, left, bottom, right = self.area
        places = (range(top, bottom)[slices[0]], range(left, right)[slices[1]])
        return np.asarray(self.whole[tuple(slice(at.start, at.stop, at.step) for at in places)])[
            (slice(None), slice(None), *key[2:])
        ]
