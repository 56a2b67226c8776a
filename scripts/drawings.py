"""Pictures to pretrain on that need no data set: those in the wheels of Python packages, and drawn ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from skimage.io import imread
from torch import Tensor

PICTURES = {
    "skimage/data": [
        "astronaut.png",
        "brick.png",
        "camera.png",
        "cell.png",
        "chelsea.png",
        "clock_motion.png",
        "coins.png",
        "color.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "moon.png",
        "motorcycle_left.png",
        "page.png",
        "retina.jpg",
        "rocket.jpg",
        "text.png",
    ],
    "sklearn/datasets/images": ["china.jpg", "flower.jpg"],
}
"""Files inside installed packages; scikit-image's coffee.png is left out, to look at afterwards."""


def packaged_pictures() -> tuple[list[Tensor], list[str]]:
    """All of `PICTURES` that are installed, (3, H, W) float32 in [-1, 1], and where they come from."""
    pictures, sources = [], []
    for folder, names in PICTURES.items():
        spec = find_spec(folder.split("/")[0])
        if spec is None or spec.origin is None:
            continue
        for name in names:
            path = Path(spec.origin).parent.parent / folder / name
            if path.exists():
                pixels = np.atleast_3d(imread(path))[..., :3].astype(np.float32) / 127.5 - 1
                pictures.append(torch.from_numpy(pixels).permute(2, 0, 1).expand(3, -1, -1))
                sources.append(f"{folder}/{name}")
    return pictures, sources


def crop(rng: np.random.Generator, pictures: list[Tensor], side: int) -> Tensor:
    """Random part of a random picture, (3, side, side), zoomed, turned, and with other colours."""
    picture = pictures[rng.integers(len(pictures))]
    height, width = picture.shape[1:]
    size = int(min(side * 2 ** rng.uniform(-1, 1.3), height, width))
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    part = picture[None, :, top : top + size, left : left + size]
    part = F.interpolate(part, (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
    part = torch.rot90(part, int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        part = part.flip(2)
    return _recolour(rng, part)


def texture(rng: np.random.Generator, side: int) -> Tensor:
    """Something a microscope or a scanner might show, (3, side, side)."""
    draw = (_spots, _stripes, _slices, _tissue)[rng.integers(4)]
    return _recolour(rng, torch.from_numpy(draw(rng, side).astype(np.float32)))


def mask(rng: np.random.Generator, side: int, kind: str | None = None, count: int | None = None):
    """Drawn class indices (side, side) int64 and the number of classes, 2 to 33.

    `kind` is one of ``membranes, cells, blobs, curves, layers, regions``; by default all come up.
    """
    kinds = {"membranes": 0.22, "cells": 0.15, "blobs": 0.22, "curves": 0.11, "layers": 0.15, "regions": 0.15}
    if kind is None:
        kind = rng.choice(list(kinds), p=list(kinds.values()))
    if count is None:
        low, high = ((2, 3), (3, 9), (9, 34))[rng.choice(3, p=(0.45, 0.35, 0.2))]
        count = int(rng.integers(low, high))
    indices = globals()[f"_{kind}"](rng, side, count)
    order = rng.permutation(count) if rng.random() < 0.5 else np.arange(count)  # any colour can be the background
    return order[indices].astype(np.int64), count


def _noise(rng: np.random.Generator, side: int, grain: float) -> np.ndarray:
    """Smooth noise of zero mean and unit spread."""
    field = gaussian_filter(rng.standard_normal((side, side)), grain, mode="wrap")
    return (field - field.mean()) / field.std()


def _two_nearest(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest seed of each pixel on a warped plane, and the distances to the nearest two."""
    spacing = np.exp(rng.uniform(np.log(9), np.log(45)))
    seeds = rng.uniform(-spacing, side + spacing, (max(4, int((side / spacing + 2) ** 2)), 2))
    warp = rng.uniform(0, 0.25) * spacing
    points = np.mgrid[:side, :side].astype(float)
    points += warp * np.stack((_noise(rng, side, spacing / 3), _noise(rng, side, spacing / 3)))
    distance, nearest = cKDTree(seeds).query(points.reshape(2, -1).T, k=2)
    return nearest[:, 0].reshape(side, side), *distance.T.reshape(2, side, side)


def _membranes(rng, side, count):
    """Cell walls 1.5 to 4 pixels wide; with more classes the cells have some too."""
    nearest, first, second = _two_nearest(rng, side)
    wall = second - first < rng.uniform(1.5, 4)  # the difference grows by up to 2 a pixel across a wall
    if count == 2:
        return wall.astype(int) if rng.random() < 0.5 else (~wall).astype(int)
    of_cell = rng.integers(1, count, nearest.max() + 1)
    return np.where(wall, 0, of_cell[nearest])


def _cells(rng, side, count):
    """Touching cells, every one of a random class."""
    nearest, *_ = _two_nearest(rng, side)
    return rng.integers(0, count, nearest.max() + 1)[nearest]


def _blobs(rng, side, count):
    """Ellipses with rough outlines, from dust to most of the picture."""
    indices = np.zeros((side, side), int)
    ys, xs = np.mgrid[:side, :side]
    rough = rng.uniform(0, 0.3) * _noise(rng, side, rng.uniform(2, 8))
    size = np.exp(rng.uniform(np.log(3), np.log(side / 2.5)))
    for number in range(int(np.clip(rng.uniform(0.2, 0.9) * (side / size) ** 2 / 4, 1, 60))):
        y, x = rng.uniform(0, side, 2)
        a, b = size * rng.uniform(0.5, 1.2, 2)
        angle = rng.uniform(0, np.pi)
        u = (xs - x) * np.cos(angle) + (ys - y) * np.sin(angle)
        v = (ys - y) * np.cos(angle) - (xs - x) * np.sin(angle)
        indices[(u / a) ** 2 + (v / b) ** 2 < 1 + rough] = 1 + number % (count - 1)
    return indices


def _curves(rng, side, count):
    """Vessels and fibres: contour lines of noise, 1.5 to 4 pixels wide."""
    indices = np.zeros((side, side), int)
    for number in range(int(rng.integers(1, 4))):
        field = _noise(rng, side, rng.uniform(4, 16))
        slope = np.hypot(*np.gradient(field)) + 1e-6
        # Far from the line the linear estimate of the distance fails where the field is flat: the second bound.
        line = (np.abs(field) / slope < rng.uniform(0.75, 2)) & (np.abs(field) < 0.6)
        indices[line] = 1 + (number + rng.integers(count)) % (count - 1)
    return indices


def _layers(rng, side, count):
    """Nested bands of one noise field, like cortex around white matter."""
    field = _noise(rng, side, rng.uniform(4, 20))
    shown = int(min(count, rng.integers(2, 8)))
    bands = np.digitize(field, np.sort(rng.uniform(-1.5, 1.5, shown - 1)))
    return (bands + rng.integers(count)) % count


def _regions(rng, side, count):
    """Large areas that meet at corners."""
    shown = int(min(count, rng.integers(2, 9)))
    fields = np.stack([_noise(rng, side, rng.uniform(4, 16)) for _ in range(shown)])
    return rng.permutation(count)[:shown][fields.argmax(0)]


def _spots(rng, side):
    """Stained nuclei or puncta on a dark ground, three stains."""
    grey = np.zeros((3, side, side))
    for channel in range(int(rng.integers(1, 4))):
        shapes = gaussian_filter((_blobs(rng, side, 9) > 0).astype(float), rng.uniform(0.5, 2.5))
        grey[channel] = shapes * (1 + 0.4 * _noise(rng, side, rng.uniform(1, 6)))
    return 2 * np.clip(grey + 0.03 * rng.standard_normal((3, side, side)), 0, 1) - 1


def _stripes(rng, side):
    """Bent gratings between two colours."""
    ys, xs = np.mgrid[:side, :side]
    angle, wave = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(40)))
    phase = (xs * np.cos(angle) + ys * np.sin(angle)) / wave + rng.uniform(0, 0.5) * _noise(rng, side, 12)
    share = 0.5 + 0.5 * np.tanh(rng.uniform(0.5, 4) * np.sin(2 * np.pi * phase))
    first, second = rng.uniform(-1, 1, (2, 3, 1, 1))
    return first + (second - first) * share


def _slices(rng, side):
    """Grey tissue in layers under a slow change of brightness, as in MRI and CT."""
    layers = _layers(rng, side, 7) if rng.random() < 0.6 else _blobs(rng, side, 7)
    grey = gaussian_filter(rng.uniform(-1, 1, 7)[layers], rng.uniform(0.3, 1.2))
    grey += 0.15 * _noise(rng, side, 30) + rng.uniform(0, 0.12) * _noise(rng, side, rng.uniform(0.3, 1))
    return np.repeat(np.clip(grey, -1, 1)[None], 3, 0)


def _tissue(rng, side):
    """Stained section: grainy colours that share their structure, with dark nuclei."""
    base = rng.uniform(-0.2, 1, (3, 1, 1)) + 0.25 * _noise(rng, side, rng.uniform(1, 10))
    base = base + 0.1 * np.stack([_noise(rng, side, 2) for _ in range(3)])
    nuclei = gaussian_filter((_blobs(rng, side, 5) > 0).astype(float), 0.8)
    return np.clip(base - nuclei * rng.uniform(0.2, 1.2, (3, 1, 1)), -1, 1)


def _recolour(rng: np.random.Generator, picture: Tensor) -> Tensor:
    """Other brightness and contrast; often grey, sometimes with channels swapped or inverted."""
    if rng.random() < 0.4:
        picture = picture.mean(0, keepdim=True).expand(3, -1, -1)
    elif rng.random() < 0.5:
        picture = picture[torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.2:
        picture = -picture
    return (picture * rng.uniform(0.6, 1.3) + rng.uniform(-0.3, 0.3)).clamp(-1, 1)
