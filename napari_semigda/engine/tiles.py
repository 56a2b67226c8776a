"""Planes of any size, seen through the same windows as a whole one, with memory for a strip of them.

A large picture is always seen through overlapping windows whose probabilities are blended by a Gaussian. Where the
windows lie, and how they are weighed, depends on the size of the picture alone; so any part of the result can be had
from the few windows that reach into it, and it is the same as if all had been summed into one array: there are no
seams between blocks. Windows that the next blocks need as well are kept until they are done::

    block -> its region in working pixels -> windows that reach into it -> their part of the picture -> pixels read

Blocks follow each other row by row down a strip of the plane. Only windows across the border of two strips are looked
at twice; how wide a strip can be follows from what may be kept.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor

from napari_semigda.engine.blocks import SIDE, Place
from napari_semigda.engine.pose import posed
from napari_semigda.engine.view import PlaneReader, scaled_size

_KEPT_BYTES = 2**28  # of what windows showed, across a strip
_PICTURE_SIDE = 512  # of the pieces that pictures are brought to scale in, in working pixels
_PICTURES = 48  # such pieces kept: 150 MB
_BAND = 2**22  # image pixels brought to scale together


class Area(NamedTuple):
    """Rows and columns of a picture, in working pixels."""

    top: int
    left: int
    bottom: int
    right: int


class Sight(Protocol):
    """What a model sees of a picture, wherever one looks."""

    def region(self, area: Area) -> Tensor:
        """(2 K, h, w): probabilities of branch V, then of branch C, of a part of the picture."""

    def forget(self, below: int, right_of: int) -> None:
        """Keep only what reaches below a row or to the right of a column: nothing else will be asked for."""


class WholeSight:
    """Of a picture that is seen at once."""

    def __init__(self, both: Tensor) -> None:
        self._both = both  # (2 K, h, w)

    def region(self, area: Area) -> Tensor:
        """As `Sight.region`."""
        return self._both[:, area.top : area.bottom, area.left : area.right]

    def forget(self, below: int, right_of: int) -> None:
        """As `Sight.forget`; it is small and kept."""


class _Window(NamedTuple):
    """A window in the pose in which the model sees it; rows and columns are those of the picture as it is."""

    pose: int
    top: int
    left: int


class WindowSight:
    """Of a picture that is seen through overlapping windows.

    Parameters
    ----------
    read
        Gives (3, h, w) in [0, 1] of an area of the picture, repeating its border outside.
    size
        Height and width of the picture in working pixels.
    side
        Of a window.
    overlap
        Of neighbouring windows, as a share of their side.
    poses
        That are averaged over; each undoes itself.
    look
        The model: (1, 3, side, side) in [-1, 1] -> (1, 2 K, side, side) probabilities.
    """

    def __init__(
        self,
        read: Callable[[Area], Tensor],
        size: tuple[int, int],
        side: int,
        overlap: float,
        poses: tuple[int, ...],
        look: Callable[[Tensor], Tensor],
    ) -> None:
        self._read, self._side, self._look = read, side, look
        interval = int(side * (1 - overlap))
        self._starts = {pose: _starts(size, side, interval, pose) for pose in poses}
        self._weights = compute_importance_map((side, side), mode="gaussian")  # (side, side), alike in all poses
        self._kept: dict[_Window, Tensor] = {}

    def region(self, area: Area) -> Tensor:
        """As `Sight.region`."""
        seen = [self._one_pose(pose, area) for pose in self._starts]
        return torch.stack(seen).mean(0) if len(seen) > 1 else seen[0]

    def forget(self, below: int, right_of: int) -> None:
        """As `Sight.forget`."""
        for window in list(self._kept):
            if window.top + self._side <= below and window.left + self._side <= right_of:
                del self._kept[window]

    def _one_pose(self, pose: int, area: Area) -> Tensor:
        total: Any = 0.0
        weight: Any = 0.0
        rows, columns = self._starts[pose]
        for top in _reaching(rows, self._side, area.top, area.bottom):
            for left in _reaching(columns, self._side, area.left, area.right):
                seen = self._see(_Window(pose, top, left))
                if isinstance(weight, float):
                    total = seen.new_zeros(len(seen), area.bottom - area.top, area.right - area.left)
                    weight = seen.new_zeros(total.shape[1:])
                here, there = _common(area, top, left, self._side)
                share = self._weights[there].to(seen.device)
                total[:, *here] += share * seen[:, *there]
                weight[here] += share
        return total / weight

    def _see(self, window: _Window) -> Tensor:
        if window not in self._kept:
            picture = self._read(Area(window.top, window.left, window.top + self._side, window.left + self._side))
            shown = posed(picture[None] * 2 - 1, window.pose)
            self._kept[window] = posed(self._look(shown), window.pose)[0]
        return self._kept[window]


def strip_columns(side: int, overlap: float, poses: int, channels: int, scale: float) -> int:
    """How many blocks a strip is wide, so that what its windows showed fits into memory.

    `channels` are the 2 K of what the model gives. Below a row of blocks up to two rows of windows are kept.
    """
    windows = _KEPT_BYTES / (2 * poses * channels * side**2 * 4)
    return max(1, int(windows * side * (1 - overlap) / (SIDE * scale)))


class ScaledPlane:
    """A plane at the working scale, any part of it, without reading the rest.

    Gives the pixels that `PlaneReader.whole` gives, because each is the same weighted mean of image pixels.

    Parameters
    ----------
    reader
        Reads the plane, its only one.
    full
        Height and width of the plane.
    scale
        Working pixels per image pixel.
    """

    def __init__(self, reader: PlaneReader, full: tuple[int, int], scale: float) -> None:
        self._reader, self._full = reader, full
        self.size = scaled_size(*full, scale)
        self._pieces: OrderedDict[tuple[int, int], Tensor] = OrderedDict()

    def read(self, area: Area) -> Tensor:
        """(3, h, w) float32 in [0, 1]; outside of the picture its border is repeated."""
        rows = np.arange(area.top, area.bottom).clip(0, self.size[0] - 1)
        columns = np.arange(area.left, area.right).clip(0, self.size[1] - 1)
        picture = torch.empty(3, len(rows), len(columns))
        for row in range(rows[0] // _PICTURE_SIDE, rows[-1] // _PICTURE_SIDE + 1):
            inside_rows = np.flatnonzero(rows // _PICTURE_SIDE == row)
            for column in range(columns[0] // _PICTURE_SIDE, columns[-1] // _PICTURE_SIDE + 1):
                inside = np.flatnonzero(columns // _PICTURE_SIDE == column)
                piece = self._piece(row, column)
                picked = piece[:, rows[inside_rows] % _PICTURE_SIDE][:, :, columns[inside] % _PICTURE_SIDE]
                picture[:, inside_rows[0] : inside_rows[-1] + 1, inside[0] : inside[-1] + 1] = picked
        return picture

    def _piece(self, row: int, column: int) -> Tensor:
        """A piece of the picture, (3, 512, 512) or less at its border."""
        if (row, column) in self._pieces:
            self._pieces.move_to_end((row, column))
            return self._pieces[row, column]
        top, left = row * _PICTURE_SIDE, column * _PICTURE_SIDE
        bottom, right = min(top + _PICTURE_SIDE, self.size[0]), min(left + _PICTURE_SIDE, self.size[1])
        across = Taps.of(left, right, self._full[1], self.size[1], smooth=True)
        high = max(1, int(_BAND / len(across) * self.size[0] / self._full[0]))  # working rows of a band
        bands = []
        for first in range(top, bottom, high):
            down = Taps.of(first, min(first + high, bottom), self._full[0], self.size[0], smooth=True)
            pixels = self._reader.window(0, down.first, across.first, len(down), len(across))
            bands.append(across.along(down.along(pixels, -2), -1))
        self._pieces[row, column] = torch.cat(bands, 1)
        while len(self._pieces) > _PICTURES:
            self._pieces.popitem(last=False)
        return self._pieces[row, column]


class Taps(NamedTuple):
    """How a part of an axis is brought to another length: which values it takes, and their weights."""

    first: int
    weights: Tensor | None
    """(n, m) of m values for n new ones; None where the lengths are the same."""
    count: int

    def __len__(self) -> int:
        return self.count

    @classmethod
    def of(cls, start: int, stop: int, length: int, new_length: int, smooth: bool = False) -> Taps:
        """Of the new positions `start` to `stop`, where an axis of `length` values gets `new_length`.

        The linear interpolation of `torch.nn.functional.interpolate` (without aligned corners); `smooth` is its
        antialiasing.
        """
        if length == new_length:
            return cls(start, None, stop - start)
        step = length / new_length
        reach = max(step, 1.0) if smooth else 1.0
        centres = (np.arange(start, stop) + 0.5) * step
        first, last = max(0, math.floor(centres[0] - reach)), min(length, math.ceil(centres[-1] + reach))
        weights = (1 - np.abs(np.arange(first, last) + 0.5 - centres[:, None]) / reach).clip(0)
        weights /= weights.sum(1, keepdims=True)
        return cls(first, torch.from_numpy(weights.astype(np.float32)), last - first)

    def along(self, values: Tensor, axis: int) -> Tensor:
        """New values from `count` ones along the last axis (-1) or the one before it (-2)."""
        if self.weights is None:
            return values
        weights = self.weights.to(values.device)
        return values @ weights.T if axis == -1 else weights @ values


class Frame(NamedTuple):
    """A block of a plane, and the region of its picture that it is interpolated from."""

    down: Taps
    across: Taps

    @classmethod
    def of(cls, place: Place, size: tuple[int, int], full: tuple[int, int]) -> Frame:
        """Of a plane of the height and width `full`, whose picture is of `size`."""
        down = Taps.of(place.top, place.bottom, size[0], full[0])
        return cls(down, Taps.of(place.left, place.right, size[1], full[1]))

    @property
    def area(self) -> Area:
        """The region."""
        down, across = self.down, self.across
        return Area(down.first, across.first, down.first + len(down), across.first + len(across))

    def at_full_size(self, values: Tensor) -> Tensor:
        """(C, h, w) of the region -> (C, h, w) of the block."""
        return self.across.along(self.down.along(values, -2), -1)


def next_area(row: list[Place], place: Place, size: tuple[int, int], full: tuple[int, int]) -> tuple[int, int]:
    """Row and column, in working pixels, from which on something is needed after a block of a row of them.

    After the last block of a row nothing of the row is needed, after the last row of a strip nothing at all.
    """
    below = Taps.of(place.bottom, place.bottom + 1, size[0], full[0]).first if place.bottom < full[0] else 2 * size[0]
    if place is row[-1]:
        return below, 2 * size[1]
    return below, Taps.of(place.right, place.right + 1, size[1], full[1]).first


def _starts(size: tuple[int, int], side: int, interval: int, pose: int) -> tuple[list[int], list[int]]:
    """First rows and first columns of the windows, as MONAI's sliding window lays them over a picture in that pose."""
    axes = []
    for length, mirrored in zip(size, (pose & 2, pose & 1), strict=True):
        margin = max(0, side - length) // 2  # a picture that is smaller than a window lies in its middle
        starts = [part.start - margin for (part,) in dense_patch_slices((max(length, side),), (side,), (interval,))]
        axes.append([length - start - side for start in starts] if mirrored else starts)
    return axes[0], axes[1]


def _reaching(starts: list[int], side: int, first: int, last: int) -> list[int]:
    return [start for start in starts if start < last and start + side > first]


def _common(area: Area, top: int, left: int, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """What an area and a window have in common: in the area, and in the window."""
    first, last = max(area.top, top), min(area.bottom, top + side)
    begin, end = max(area.left, left), min(area.right, left + side)
    here = slice(first - area.top, last - area.top), slice(begin - area.left, end - area.left)
    return here, (slice(first - top, last - top), slice(begin - left, end - left))
