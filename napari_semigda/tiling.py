"""Large images cut into tiles, each an image of its own to paint, to train on and to look through.

What is painted on a slide is painted here and there. As one image of it, all that nobody has looked at would be taken
for background, and masks, predictions and pictures of its size would have to be in memory. A tile is as large as an
ordinary image, and nothing is read of it before somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from napari_semigda.engine.blocks import Window, is_large
from napari_semigda.engine.types import Plane
from napari_semigda.store.stack import FileStack, StackPlane

SIDE = 1024
"""Pixels a side of a tile: what a person paints in minutes, and a multiple of what files keep together. The last ones
are up to half as large again."""

Area = tuple[int, int, int, int]
"""First row and column, and those behind the last."""


def can_cut(planes: Sequence[Plane]) -> bool:
    """Whether images are to be cut: one is large, and those that are can be read by parts."""
    large = [plane.image for plane in planes if is_large(plane.size)]
    return bool(large) and all(getattr(image, "by_parts", False) for image in large)


def cut(planes: Sequence[Plane]) -> FileStack:
    """The tiles of all images, one image after the other; one that is not large stays as it is."""
    tiles = []
    for plane in planes:
        if not is_large(plane.size):
            tiles.append(StackPlane(plane.name, plane.group, plane.image))
            continue
        for number, area in enumerate(areas(plane.size)):
            name = f"{plane.name}, tile {number} (row {area[0]}, column {area[1]})"
            tiles.append(StackPlane(name, plane.name, Window(plane.image, area)))
    return FileStack(tiles)


def areas(size: tuple[int, ...]) -> list[Area]:
    """Where the tiles of a plane of such a height and width lie, row by row."""
    rows, columns = (_edges(n) for n in size[:2])
    return [(top, left, bottom, right) for top, bottom in pairwise(rows) for left, right in pairwise(columns)]


def tile_at(stack: FileStack, whole: Any, row: float, column: float) -> int:
    """Number of the tile of an image that a point lies in; of the nearest one where it lies beside the image."""

    def distance(number: int) -> float:
        top, left, bottom, right = stack.planes[number].image.area
        return max(top - row, row - bottom, 0) + max(left - column, column - right, 0)

    its = [at for at, plane in enumerate(stack.planes) if getattr(plane.image, "whole", None) is whole]
    return min(its, key=distance, default=0)


def _edges(length: int) -> list[int]:
    count = max(1, (length + SIDE // 2) // SIDE)
    return [*range(0, count * SIDE, SIDE), length]
