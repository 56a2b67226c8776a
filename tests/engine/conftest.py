"""A drawn data set, shared by the engine's tests and by the tiny model of all tests."""

from __future__ import annotations

import numpy as np

from napari_semigda.engine.types import Plane


def draw_discs(seed: int, size: tuple[int, int] = (64, 72)) -> tuple[np.ndarray, np.ndarray]:
    """A noisy grey picture with bright discs, and its mask: (H, W) uint8 each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, dtype=np.uint8)
    for _ in range(3):
        row, column, radius = rng.uniform(10, size[0] - 10), rng.uniform(10, size[1] - 10), rng.uniform(6, 12)
        mask[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 1
    picture = 70 + 90 * mask + rng.normal(0, 18, size)
    return picture.clip(0, 255).astype(np.uint8), mask


def drawn_planes(labelled: int, unlabelled: int, first_seed: int = 0) -> tuple[Plane, ...]:
    """Discs, the first `labelled` of them with masks."""
    planes = []
    for i in range(labelled + unlabelled):
        picture, mask = draw_discs(first_seed + i)
        planes.append(Plane(f"disc{i}", picture, mask if i < labelled else None))
    return tuple(planes)
