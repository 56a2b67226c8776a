"""Masks that come in block by block, of images larger than memory: zarr arrays while they grow.

A store that grows is not taken for a whole one: it has a name that no image has, and no description until it is
finished. For an OME-Zarr it already is what it will be, and is moved into place at its end. Masks of every other kind
are written from it: a TIFF cannot be gone on with once its writer has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.blocks import SIDE, is_large, places
from napari_semigda.formats.source import Source

_SMALLEST = 1024  # pixels a side that need no coarser level
_BAND = 2**24  # pixels read together


class MaskPlane:
    """The mask of one plane in a store: (H, W) uint8, read and written by parts.

    Parameters
    ----------
    array
        The zarr array.
    names
        A letter for each of its axes.
    at
        Where the plane is on those that are neither rows (y) nor columns (x).
    levels
        The same mask with fewer pixels.
    """

    dtype = np.dtype(np.uint8)
    ndim = 2
    by_parts = True

    def __init__(self, array: Any, names: str, at: Sequence[int] = (), levels: Sequence[MaskPlane] = ()) -> None:
        self._array, self._names, self._at, self.levels = array, names, tuple(at), tuple(levels)
        self.shape: tuple[int, int] = (array.shape[self.axes[0]], array.shape[self.axes[1]])

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        pixels = np.asarray(self._array[self._where(key)])
        return pixels if self._upright else pixels.T

    def __setitem__(self, key: tuple[slice, slice], block: np.ndarray) -> None:
        self._array[self._where(key)] = block if self._upright else block.T

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:, :].astype(dtype or self.dtype, copy=False)

    @property
    def axes(self) -> tuple[int, int]:
        """Which axes of the array are rows and columns."""
        return self._names.index("y"), self._names.index("x")

    @property
    def _upright(self) -> bool:
        return self.axes[0] < self.axes[1]

    def _where(self, key: tuple[slice, slice]) -> tuple[Any, ...]:
        leading, areas = iter(self._at), dict(zip("yx", key, strict=True))
        return tuple(areas[name] if name in areas else next(leading) for name in self._names)


def begin(store: Path, source: Source) -> None:
    """Make a store of empty masks for a file of any kind."""
    import zarr

    root = zarr.open_group(store, mode="w-")
    for index, plane in enumerate(source.planes):
        group = root.create_group(str(index))
        for level, shape in enumerate([plane.shape[:2], *halves(plane.shape[:2])]):
            chunks = tuple(min(SIDE, n) for n in shape)
            group.create_array(str(level), shape=shape, chunks=chunks, dtype="uint8", fill_value=0)


def planes(store: Path, source: Source) -> list[MaskPlane]:
    """The masks in a store that `begin` has made."""
    import zarr

    root = zarr.open_group(store, mode="r+")
    found = []
    for index in range(len(source.planes)):
        group = root[str(index)]
        arrays = [group[str(level)] for level in range(len(list(group.array_keys())))]
        levels = [MaskPlane(array, "yx") for array in arrays[1:]]
        found.append(MaskPlane(arrays[0], "yx", levels=levels))
    return found


def finish(masks: Sequence[MaskPlane]) -> None:
    """Make the coarser levels of masks that are complete."""
    for mask in masks:
        for fine, coarse in zip([mask, *mask.levels], mask.levels, strict=False):
            coarsen(fine, coarse)


def halves(size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Sizes of the coarser levels of a plane, for viewers; none of one that is shown as it is."""
    sizes, (height, width) = [], size[:2]
    while is_large(size) and max(height, width) > _SMALLEST:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


def coarsen(fine: MaskPlane, coarse: MaskPlane) -> None:
    """Fill a coarser level; class ids cannot be averaged, so the pixel in the middle counts."""
    rows, columns = (nearest(n, m) for n, m in zip(fine.shape, coarse.shape, strict=True))
    for place in chain.from_iterable(places(coarse.shape, coarse.shape[1])):
        down, across = rows[place.top : place.bottom], columns[place.left : place.right]
        wide = across[-1] + 1 - across[0]
        high = max(1, int(_BAND / wide * coarse.shape[0] / fine.shape[0]))
        bands = []
        for first in range(0, len(down), high):
            band = down[first : first + high]
            pixels = fine[band[0] : band[-1] + 1, across[0] : across[-1] + 1]
            bands.append(pixels[np.ix_(band - band[0], across - across[0])])
        coarse[place.area] = np.concatenate(bands)


def nearest(fine: int, coarse: int) -> np.ndarray:
    """Which of `fine` pixels lies under the middle of each of `coarse` ones."""
    return np.minimum(((np.arange(coarse) + 0.5) * fine / max(coarse, 1)).astype(int), fine - 1)
