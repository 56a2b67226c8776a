"""Crops to learn from: cut around painted pixels, and anywhere from unlabelled pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_semigda.engine.appearance import glimpses
from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, View, read_reflected, resize_picture

_ON_CLASS = 1 / 3  # share of crops centred on a class that was drawn before the plane: no class is too rare to be seen
_ON_PLANE = 1 / 3  # share of crops centred on a class of a plane that was drawn first; the rest lies anywhere
_ZOOM = (0.8, 1.25)
_POINTS = 2000  # painted pixels remembered a class and plane


class Batch(NamedTuple):
    """Pictures with what is known of their pixels."""

    image: Tensor  # (B, 3, crop, crop) float32 in [0, 1]
    target: Tensor  # (B, crop, crop) int64 class indices
    weight: Tensor  # (B, crop, crop) float32, 1 where the target counts

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(self.image.to(device), self.target.to(device), self.weight.to(device))


class CropSampler:
    """Random crops of some planes at the working scale.

    Parameters
    ----------
    planes, reader
        All planes of the request.
    chosen
        Indices of the planes that crops come from.
    view, table
        Scale, crop and classes of the run.
    rng
        The only source of randomness here.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        reader: PlaneReader,
        chosen: Sequence[int],
        view: View,
        table: ClassTable,
        rng: np.random.Generator,
    ) -> None:
        self._planes, self._reader, self.view, self._table, self._rng = planes, reader, view, table, rng
        self.chosen = list(chosen)
        self._points = {i: self._painted_points(i) for i in self.chosen if planes[i].mask is not None}
        self._classes = sorted({c for points in self._points.values() for c in points})

    def __len__(self) -> int:
        return len(self.chosen)

    def draw(self, count: int, share: slice = slice(None)) -> Batch:
        """`count` crops; planes without a mask come with weight 0.

        Outside of `share` crops are chosen but not cut: they are black, with weight 0.
        """
        windows = [self._window(*self._spot()) for _ in range(count)]
        wanted = range(count)[share]
        crops = [self._cut(*window) if i in wanted else self._black() for i, window in enumerate(windows)]
        image, target, weight = zip(*crops, strict=True)
        return Batch(torch.stack(image), torch.stack(target), torch.stack(weight))

    def glimpses(self) -> tuple[list[Tensor], list[Tensor]]:
        """Small pictures of the planes and their class indices, see `appearance.glimpses`."""
        return glimpses(self._planes, self._reader, self._table, self.chosen)

    @property
    def brightness_tells(self) -> bool:
        """Whether a class is as bright in one image as in another."""
        return self._reader.rule.fixed

    @property
    def scribbled(self) -> bool:
        """Whether painted planes have pixels that nobody painted."""
        return self._table.sparse

    def _spot(self) -> tuple[int, np.ndarray | None]:
        """A plane, and the pixel (row, column) of a painted class to centre a crop on, or None for anywhere."""
        kind = self._rng.random()
        if kind < _ON_CLASS and self._classes:
            class_id = self._rng.choice(self._classes)
            index = int(self._rng.choice([i for i, points in self._points.items() if class_id in points]))
            return index, self._rng.choice(self._points[index][class_id])
        index = int(self._rng.choice(self.chosen))
        points = self._points.get(index)
        if kind < _ON_CLASS + _ON_PLANE and points:
            return index, self._rng.choice(points[self._rng.choice(list(points))])
        return index, None

    def _window(self, index: int, centre: np.ndarray | None) -> tuple[int, int, int, int]:
        """The plane, and top, left and side of the square that makes a crop."""
        side = max(8, round(self.view.crop / self.view.scale / self._rng.uniform(*_ZOOM)))
        return index, *self._place(index, side, centre), side

    def _cut(self, index: int, top: int, left: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        crop = self.view.crop
        image = resize_picture(self._reader.window(index, top, left, side, side), (crop, crop))
        mask = self._planes[index].mask
        if mask is None:
            return image, torch.zeros(crop, crop, dtype=torch.int64), torch.zeros(crop, crop)
        target, weight = self._table.indices(read_reflected(np.asarray(mask), top, left, side, side))
        return image, _nearest(target, crop).long(), _nearest(weight, crop)

    def _black(self) -> tuple[Tensor, Tensor, Tensor]:
        crop = self.view.crop
        return torch.zeros(3, crop, crop), torch.zeros(crop, crop, dtype=torch.int64), torch.zeros(crop, crop)

    def _place(self, index: int, side: int, centre: np.ndarray | None) -> tuple[int, int]:
        """Top left corner of a window: with the centre somewhere in its middle half, or anywhere."""
        height, width = self._planes[index].size
        if centre is not None:
            jitter = self._rng.integers(-side // 4, side // 4 + 1, size=2)
            row, column = centre + jitter - side // 2
            return _inside(row, height, side), _inside(column, width, side)
        return (
            _inside(int(self._rng.integers(0, max(1, height - side + 1))), height, side),
            _inside(int(self._rng.integers(0, max(1, width - side + 1))), width, side),
        )

    def _painted_points(self, index: int) -> dict[int, np.ndarray]:
        """Class id -> some of its painted pixels, (N, 2) rows and columns; classes that are not there are left out."""
        mask = np.asarray(self._planes[index].mask)
        found = {}
        for class_id in self._table.ids:
            points = np.argwhere(mask == class_id) if class_id != 0 else ()
            if len(points) > _POINTS:
                points = self._rng.choice(points, _POINTS, replace=False)
            if len(points):
                found[class_id] = points
        return found


def _inside(start: int, length: int, side: int) -> int:
    """A window's start moved so that it lies inside, or is centred where it cannot."""
    return int(np.clip(start, 0, length - side)) if length >= side else (length - side) // 2


def _nearest(values: np.ndarray, side: int) -> Tensor:
    flat = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return F.interpolate(flat[None, None], size=(side, side), mode="nearest-exact")[0, 0]
