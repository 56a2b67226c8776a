"""How planes are looked at: working scale and crop, chosen from what was painted, and pixels read through them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from napari_semigda.engine.blocks import Window
from napari_semigda.engine.normalise import Contrast, Input, spread
from napari_semigda.engine.pose import ALL_POSES, legal_poses
from napari_semigda.engine.scan import Scans
from napari_semigda.engine.types import Plane

STRIDE = 32  # sides of what the networks see are multiples of this
_CROP = 192  # training crop: about what two CPU cores can learn from more than once a second
_READABLE_WIDTH = 28.0  # working pixels across the thinnest painted structure that are plenty
_LEAST_WIDTH = 6.0  # below this, structures are enlarged
_MOST_ENLARGED = 2.0
_CACHE_BYTES = 1 << 30
_GLIMPSE = 128


@dataclass(frozen=True)
class View:
    """Scale and crop of a run; kept in the model file, because prediction must look in the same way."""

    scale: float  # working pixels per image pixel
    crop: int  # side of a training crop in working pixels, a multiple of 32
    poses: tuple[int, ...] = ALL_POSES  # in which crops may be shown, see `pose`

    @classmethod
    def of_model(cls, header: Mapping[str, Any]) -> View:
        """The view that a model file's header records."""
        entry = header["view"]
        return cls(entry["scale"], entry["crop"], tuple(entry.get("poses", ALL_POSES)))

    def describe(self, width: float, sparse: bool = False) -> str:
        """A sentence on what was chosen and why, for the dock."""
        size = "full size" if self.scale == 1 else f"{self.scale:.0%} of their size"
        painted = "strokes" if sparse else "structures"
        sentence = f"Your {painted} are about {width:.0f} pixels across, so images are read at {size}."
        if len(self.poses) == len(ALL_POSES):
            return sentence
        return f"{sentence} They all show the same pose, so none is turned upside down to learn from."


def choose_view(planes: Sequence[Plane], reader: PlaneReader, crop: int | None = None) -> tuple[View, float]:
    """Scale, crop and poses from the painted masks, and the width in pixels of the thinnest structure that led to them.

    Thick structures need no fine pixels: the whole picture then fits into one crop, which sees more at once and costs
    less. Thin ones are read at full size. Scribbles tell the width of the brush, which is at most that of a structure:
    read too large costs time, read too small costs the structure. (Grown by watershed to the edges between them, they
    overrate the width of membranes ninefold.)
    """
    width = thinnest_width([np.asarray(p.mask) for p in planes if p.mask is not None])
    side = crop or _CROP
    longest = float(np.median([max(p.size) for p in planes]))
    if width < _LEAST_WIDTH / 2:
        scale = min(_MOST_ENLARGED, _LEAST_WIDTH / 2 / width)
    else:
        scale = min(1.0, max(side / longest, _READABLE_WIDTH / width))
    needed = STRIDE * math.ceil(longest * scale / STRIDE)
    masks = [np.asarray(p.mask) for p in planes if p.mask is not None]
    poses = legal_poses([reader.glimpse(i) for i in spread(range(len(planes)))], masks)
    return View(round(scale, 4), max(2 * STRIDE, min(STRIDE * round(side / STRIDE), needed)), poses), width


def thinnest_width(masks: Sequence[np.ndarray]) -> float:
    """Typical width in pixels of the thinnest class: 4 x the mean distance to its border (exact for a long strip)."""
    widths: dict[int, list[float]] = {}
    for mask in masks:
        for class_id in np.unique(mask[mask > 0]):
            inside = mask == class_id
            distance = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
            widths.setdefault(int(class_id), []).append(4 * float(distance[inside].mean()))
    return min((float(np.median(w)) for w in widths.values()), default=_READABLE_WIDTH)


class PlaneReader:
    """Windows of planes at the working scale, in [0, 1]; keeps recently read planes in memory up to a limit.

    Parameters
    ----------
    planes
        What is read.
    rule
        Which channels are seen, and in which range.
    contrasts
        Of some of the planes by their index, where they are known.
    scans
        The volumes that they are slices of; left out, as far as the planes themselves tell.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        rule: Input = Input(),  # noqa: B008 - frozen
        contrasts: Mapping[int, tuple[Contrast, ...]] = MappingProxyType({}),
        scans: Scans | None = None,
    ) -> None:
        self._planes = planes
        self.rule = rule
        self._scans = Scans(planes, rule) if scans is None else scans
        self._contrasts = dict(contrasts)
        self._own: dict[int, tuple[Contrast, ...]] = {}
        self._arrays: OrderedDict[int, np.ndarray] = OrderedDict()

    def read_by(self, rule: Input, scans: Scans | None = None) -> PlaneReader:
        """The same planes, their channels the same, in other ranges; what has been read and found is not read again."""
        other = PlaneReader(self._planes, rule, scans=scans)
        other._own, other._arrays = self._own, self._arrays
        return other

    def contrasts(self, index: int) -> tuple[Contrast, ...]:
        """The range of each channel of the plane, found once."""
        if index not in self._contrasts:
            plane = self._planes[index]
            find_own = lambda: self._scans.contrasts(plane) or self._by_itself(index)  # noqa: E731
            self._contrasts[index] = self.rule.contrasts(plane.image, find_own)
        return self._contrasts[index]

    def _by_itself(self, index: int) -> tuple[Contrast, ...]:
        """The same of the plane without its volume, found once."""
        whole = getattr(self._planes[index].image, "whole", None)  # that many planes may be parts of
        key = index if whole is None else -1 - id(whole)
        if key not in self._own:
            self._own[key] = self.rule.own_contrasts(self._pixels(index) if whole is None else whole)
        return self._own[key]

    def is_flat(self, index: int) -> bool:
        """Whether the plane holds one value only, in every channel that is seen."""
        own = self._by_itself(index)
        if isinstance(self._planes[index].image, Window):
            own = self.rule.own_contrasts(self._pixels(index))
        return all(low >= high for low, high in own)

    def glimpse(self, index: int) -> Tensor:
        """(3, h, w) float32 in [0, 1], about `_GLIMPSE` pixels a side: every so manieth pixel, so that it is quick."""
        rows, columns = (max(1, n // _GLIMPSE) for n in self._planes[index].size)
        pixels = np.asarray(self._pixels(index)[::rows, ::columns])
        return self._unit(index, pixels)

    def window(self, index: int, top: int, left: int, height: int, width: int) -> Tensor:
        """(3, height, width) float32 in [0, 1], in image pixels; beyond the border the picture is reflected."""
        pixels = read_reflected(self._pixels(index), top, left, height, width)
        return self._unit(index, pixels)

    def whole(self, index: int, scale: float) -> Tensor:
        """(3, h, w) float32 in [0, 1]: the whole plane at a working scale."""
        height, width = self._planes[index].size
        unit = self._unit(index, np.asarray(self._pixels(index)))
        return resize_picture(unit, scaled_size(height, width, scale))

    def _unit(self, index: int, pixels: np.ndarray) -> Tensor:
        return torch.from_numpy(self.rule.to_unit(pixels, self.contrasts(index)))

    def _pixels(self, index: int) -> np.ndarray:
        if index in self._arrays:
            self._arrays.move_to_end(index)
            return self._arrays[index]
        pixels = self._planes[index].image
        if math.prod(pixels.shape) * np.dtype(pixels.dtype).itemsize > _CACHE_BYTES // 16:
            return pixels  # huge: read through windows, never whole
        pixels = np.asarray(pixels)
        self._arrays[index] = pixels
        part = isinstance(self._planes[index].image, Window)  # of an image that nobody expects to be in memory
        while sum(a.nbytes for a in self._arrays.values()) > (_CACHE_BYTES // 8 if part else _CACHE_BYTES):
            self._arrays.popitem(last=False)
        return pixels


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width in working pixels, at least one stride each."""
    return max(STRIDE, round(height * scale)), max(STRIDE, round(width * scale))


def resize_picture(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W) -> (C, *size), smooth and without aliasing; unchanged when the size is."""
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    return F.interpolate(picture[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def read_reflected(pixels: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A window of (H, W, ...) that may reach over the border, where the content is reflected."""
    rows = _reflected(np.arange(top, top + height), pixels.shape[0])
    columns = _reflected(np.arange(left, left + width), pixels.shape[1])
    near = np.asarray(pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    if top >= 0 and left >= 0 and top + height <= pixels.shape[0] and left + width <= pixels.shape[1]:
        return near
    return near[np.ix_(rows - rows.min(), columns - columns.min())]


def _reflected(positions: np.ndarray, length: int) -> np.ndarray:
    period = max(1, 2 * length - 2)
    folded = np.abs(positions) % period
    return np.where(folded >= length, period - folded, folded)
