"""Planes that come one by one and are looked at now and then: few in memory, the others in a temporary folder."""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.scratch import Scratch

KEPT_BYTES = 32 * 2**20
"""Of planes written or read most recently."""


class SpilledStack:
    """(..., H, W) uint8, 0 until it is written; looks like an array, of which every leading index is a plane.

    However many planes there are, about `KEPT_BYTES` are in memory. Where the temporary disk is full they stay there,
    compressed.

    Parameters
    ----------
    shape
        Of the whole.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._near: OrderedDict[int, np.ndarray] = OrderedDict()
        self._far: dict[int, Path | bytes] = {}
        self._scratch: Scratch | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many values there are."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def write(self, position: tuple[int, ...], values: np.ndarray) -> None:
        """Replace the plane at `position` on the leading axes; smaller `values` go to its upper left corner."""
        plane = np.zeros(self.shape[-2:], self.dtype)
        plane[: values.shape[0], : values.shape[1]] = values
        self._keep(self._number(position), plane)

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        leading, rest = key[: self.ndim - 2], key[self.ndim - 2 :]
        if len(leading) == self.ndim - 2 and all(isinstance(at, int | np.integer) for at in leading):
            return self._plane(self._number(leading))[rest]
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        planes = [self._read(number) for number in range(math.prod(self.shape[:-2]))]
        return np.stack(planes).reshape(self.shape).astype(dtype or self.dtype, copy=False)

    def _number(self, position: tuple[int, ...]) -> int:
        if not position:
            return 0
        place = [range(length)[at] for at, length in zip(position, self.shape[:-2], strict=True)]  # -1 is the last
        return int(np.ravel_multi_index(place, self.shape[:-2]))

    def _plane(self, number: int) -> np.ndarray:
        plane = self._read(number)
        if number in self._near or number in self._far:
            self._keep(number, plane, changed=False)
        return plane

    def _read(self, number: int) -> np.ndarray:
        if number in self._near:
            return self._near[number]
        packed = self._far.get(number)
        if packed is None:
            return np.zeros(self.shape[-2:], self.dtype)
        packed = packed.read_bytes() if isinstance(packed, Path) else packed
        return np.frombuffer(zlib.decompress(packed), self.dtype).reshape(self.shape[-2:])

    def _keep(self, number: int, plane: np.ndarray, changed: bool = True) -> None:
        plane.flags.writeable = False  # who wants to change it calls `write`
        self._near[number] = plane
        self._near.move_to_end(number)
        if changed:
            self._far.pop(number, None)
        while len(self._near) > 1 and len(self._near) * plane.nbytes > KEPT_BYTES:
            self._put_away(*self._near.popitem(last=False))

    def _put_away(self, number: int, plane: np.ndarray) -> None:
        if number in self._far:
            return
        packed = zlib.compress(plane.tobytes(), 1)
        try:
            self._scratch = self._scratch or Scratch()
            path = self._scratch.path / f"{number:06d}.z"
            path.write_bytes(packed)
            self._far[number] = path
        except OSError:
            self._far[number] = packed
