"""From any pixel type and any channels to what the networks see: three channels in [0, 1].

Three numbers a pixel are what the pretrained networks know. One channel is repeated, of two their mean comes third, and
of more than three the first three are taken unless the user chooses others. Neither torch nor Qt is imported here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from napari_semigda.engine.blocks import is_large
from napari_semigda.engine.types import ContrastName, EngineError, Plane

PERCENTILES = (0.5, 99.5)
MOST_CHANNELS = 3
"""That the networks see at once."""
_SAMPLE = 512  # pixels a side that the percentiles are read from: enough for a robust tail
_SAMPLE_OF_MANY = 128  # ... of each image, where they are those of all images
_PATCH = 32  # pixels a side of the pieces that a sample of a large image is made of
_MANY = 48  # images that stand for all


class Contrast(NamedTuple):
    """The values of a channel that become 0 and 1."""

    low: float
    high: float


_BYTES = Contrast(0.0, 255.0)
_known_patches: dict[int, tuple[weakref.ref, np.ndarray]] = {}


@dataclass(frozen=True)
class Input:
    """Which channels of an image the networks see, and which of their values are black and white.

    Kept in the model file, because prediction must read images in the same way.
    """

    channels: tuple[int, ...] = (0, 1, 2)
    """Up to three, counted from 0."""
    pictures: bool = True
    """Learnt from grey pictures and 8-bit colours, which are then all taken whatever `channels` says: grey is a colour
    whose red, green and blue are the same."""
    joint: bool = False
    """One range for all channels together, as models of before have it."""
    ranges: tuple[Contrast, ...] = ()
    """One for each channel, the same in all images; empty: every image has its own."""
    volumes: Literal["none", "steady", "all"] = "none"
    """Of which volumes slices share their own, see `scan.Scans`: of those that change steadily, or of all."""
    fixed: bool = False
    """Whether a class is as bright in one image as in another, so that learning hardly varies brightness."""
    familiar: tuple[tuple[float, float], ...] = ()
    """How bright the brightest of an image may be in each channel for `ranges` to hold: one that is far brighter or
    duller than all that was learnt from comes from another scanner, and has its own range. Empty: they hold for all."""

    @classmethod
    def of_model(cls, header: Mapping[str, Any]) -> Input:
        """What a model file's header records; models of before it was recorded took pictures only."""
        entry = header.get("input")
        if entry is None:
            return cls(joint=True)
        ranges = tuple(Contrast(float(low), float(high)) for low, high in entry["ranges"])
        familiar = tuple((float(least), float(most)) for least, most in entry.get("familiar", ()))
        volumes, fixed = entry.get("volumes", "none"), entry.get("fixed", bool(ranges))
        return cls(tuple(entry["channels"]), entry["pictures"], entry["joint"], ranges, volumes, fixed, familiar)

    def to_json(self) -> dict[str, Any]:
        """For a header."""
        return asdict(self)

    def seen(self, image: Any) -> tuple[int, ...]:
        """Which channels of an (H, W) or (H, W, C) image are seen, counted from 0; some may be missing (`check`)."""
        count = channel_count(image)
        if self.pictures and count in (1, 3, 4):
            return tuple(range(min(count, MOST_CHANNELS)))
        return self.channels

    def check(self, plane: Plane) -> None:
        """Refuse an image that lacks a channel."""
        count, last = channel_count(plane.image), max(self.seen(plane.image)) + 1
        if last > count:
            raise EngineError(
                f"{plane.name} has {count} channel{'s' * (count > 1)}, but channel {last} is wanted: use images with "
                f"{last} channels or more, or a model trained on the channels that these have."
            )

    def agrees(self, planes: Sequence[Plane], channels: Sequence[int], contrast: ContrastName) -> bool:
        """Whether it reads planes as a user wants it, who may leave open channels (counted from 1) and contrast."""
        mine = "dataset" if self.ranges else "image" if self.volumes == "none" else "volume"
        bytes_keep_theirs = contrast == "dataset" and all(is_rgb_bytes(plane.image) for plane in planes)
        return (not channels or self.channels == tuple(channel - 1 for channel in channels)) and (
            contrast in {"auto", mine} or (bytes_keep_theirs and not self.ranges)
        )

    def contrasts(self, image: Any, find_own: Callable[[], tuple[Contrast, ...]] | None = None) -> tuple[Contrast, ...]:
        """What is black and white in each channel that is seen; `find_own` may know the image's `own_contrasts`."""
        find_own = find_own or (lambda: self.own_contrasts(image))
        if not self.ranges or is_rgb_bytes(image):
            return find_own()
        places = [min(at, len(self.ranges) - 1) for at in range(len(self.seen(image)))]
        if self.familiar:
            own = find_own()
            bounds = [self.familiar[at] for at in places]
            if not all(least <= high <= most for (_, high), (least, most) in zip(own, bounds, strict=True)):
                return own
        return tuple(self.ranges[at] for at in places)

    def own_contrasts(self, image: Any) -> tuple[Contrast, ...]:
        """Robust ranges of an image by itself: 8-bit colours keep theirs, all else is stretched by percentiles.

        Those of a part of a large image are those of the whole, which is predicted as one.
        """
        image = getattr(image, "whole", image)
        seen = self.seen(image)
        if seen == (0, 1, 2) and is_rgb_bytes(image):
            return (_BYTES,) * 3
        sample = _sample(image, seen, _SAMPLE)
        if self.joint:
            return (_range_of(sample),) * len(seen)
        return tuple(_range_of(sample[..., at]) for at in range(len(seen)))

    def to_unit(self, pixels: np.ndarray, contrasts: Sequence[Contrast]) -> np.ndarray:
        """(h, w) or (h, w, C) pixels -> (3, h, w) float32 in [0, 1]; NaN becomes 0, as dark as can be."""
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        seen = self.seen(pixels)
        unit = np.empty((3, *pixels.shape[:2]), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is beyond the range
            for at, (channel, (low, high)) in enumerate(zip(seen, contrasts, strict=True)):
                unit[at] = pixels[..., channel]
                unit[at] -= low
                unit[at] /= high - low if high > low else 1.0
        unit[len(seen) :] = 0.0
        np.clip(unit, 0.0, 1.0, out=unit)
        if pixels.dtype.kind == "f":
            unit[np.isnan(unit)] = 0.0
        if len(seen) == 1:
            unit[1:] = unit[0]
        elif len(seen) == 2:
            unit[2] = (unit[0] + unit[1]) / 2
        return unit


def choose_input(
    planes: Sequence[Plane], channels: Sequence[int] = (), contrast: Literal["image", "volume", "dataset"] = "image"
) -> Input:
    """How the images of a round are read.

    Parameters
    ----------
    planes
        All of them; not empty. Only those that `contrast` needs are read, through a stride.
    channels
        Which the user wants, counted from 1; none: up to three, the first ones.
    contrast
        ``"dataset"``: the same values are black and white in all images; 8-bit colours keep their own all the same.
        ``"volume"``: in all slices of a volume.

    Raises
    ------
    EngineError
        When an image lacks a channel that is wanted, or nothing is wanted and the images differ.
    """
    if channels:
        chosen = Input(tuple(channel - 1 for channel in channels), pictures=False)
    else:
        counts = [channel_count(plane.image) for plane in planes]
        pictures = all(n == 1 or is_rgb_bytes(plane.image) for n, plane in zip(counts, planes, strict=True))
        alike = [min(n, MOST_CHANNELS) if n == 4 else n for n in counts]
        if not pictures and len(set(alike)) > 1:
            other = next(at for at, n in enumerate(alike) if n != alike[0])
            raise EngineError(
                f"{planes[0].name} has {counts[0]} channel{'s' * (counts[0] > 1)} and {planes[other].name} has "
                f"{counts[other]}: choose channels that all images have, or train on those that are alike."
            )
        chosen = Input(tuple(range(min(MOST_CHANNELS, max(counts)))), pictures)
    for plane in planes:
        chosen.check(plane)
    if contrast == "volume":
        return replace(chosen, volumes="all")
    if contrast == "image":
        return chosen
    ranges = ranges_of(samples_of([plane.image for plane in planes], chosen))
    return replace(chosen, ranges=ranges, fixed=bool(ranges))


def channel_count(image: Any) -> int:
    """Of an (H, W) or (H, W, C) image."""
    return image.shape[2] if len(image.shape) == 3 else 1


def to_picture(image: np.ndarray, of: Any = None) -> np.ndarray:
    """(H, W) or (H, W, C) of any real dtype -> (H, W, 3) uint8: what the networks see where nothing was chosen.

    Black and white are those of the image itself, or of the one that it is a part `of`.
    """
    rule = choose_input([Plane("", image)])
    unit = rule.to_unit(image, rule.contrasts(image if of is None else of))
    return np.round(unit.transpose(1, 2, 0) * 255).astype(np.uint8)


def has_channels_to_choose(image: Any) -> bool:
    """Whether an image is neither grey nor a picture in 8-bit red, green and blue."""
    return channel_count(image) > 1 and not is_rgb_bytes(image)


def is_rgb_bytes(image: Any) -> bool:
    """Whether an image is 8-bit colours, which keep their black and white whatever is chosen."""
    return channel_count(image) in (3, 4) and np.dtype(image.dtype) == np.uint8


def spread(items: Sequence, most: int = _MANY) -> list:
    """Some of the items, evenly spread: 48 of them unless told otherwise, or as many as there are."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, most).astype(int))] if len(items) else []


def samples_of(
    images: Sequence[Any], rule: Input, most: int = _MANY, passing_over: type[Exception] | tuple = ()
) -> list[np.ndarray]:
    """(h, w, channels) float32 of some of the images, spread evenly; none where all are 8-bit colours.

    Images that raise what shall be passed over do not count.
    """
    samples = []
    for image in spread([image for image in images if not is_rgb_bytes(image)], most):
        with suppress(passing_over):
            samples.append(_sample(image, rule.seen(image), _SAMPLE_OF_MANY))
    return samples


def ranges_of(samples: Sequence[np.ndarray]) -> tuple[Contrast, ...]:
    """Percentiles of each channel over all samples, (h, w, channels) each; none of none."""
    if not samples:
        return ()
    pixels = np.concatenate([sample.reshape(-1, sample.shape[-1]) for sample in samples])
    return tuple(_range_of(channel) for channel in pixels.T)


def heights_in(own: Sequence[Sequence[Contrast]], ranges: Sequence[Contrast]) -> np.ndarray:
    """(pictures, channels): how high pictures reach, each by itself, in units of a range of each channel.

    The dark end is background as a rule, and says nothing.
    """
    high = np.array([[high for _, high in each] for each in own])
    low, top = np.array(ranges).T
    return (high.reshape(-1, len(low)) - low) / np.maximum(top - low, np.finfo(float).tiny)


def _sample(image: Any, seen: Sequence[int], side: int) -> np.ndarray:
    """(h, w, channels) float32 of an image, about `side` pixels or a little more a side."""
    if is_large(image.shape):
        sample = _patches(image)
        return sample[..., None] if sample.ndim == 2 else sample[..., list(seen)]
    steps = [max(1, n // side) for n in image.shape[:2]]
    with np.errstate(over="ignore"):
        sample = np.asarray(image[:: steps[0], :: steps[1]], dtype=np.float32)
    return sample[..., None] if sample.ndim == 2 else sample[..., list(seen)]


def _patches(image: Any) -> np.ndarray:
    """(512, 512) or (512, 512, channels) float32: pieces of a large image, spread evenly.

    Every so manieth pixel would cost reading all of it. Kept as long as the image, for all planes that are parts of it.
    """
    if (known := _known_patches.get(id(image))) is not None and known[0]() is image:
        return known[1]
    rows, columns = (np.linspace(0, n - _PATCH, _SAMPLE // _PATCH).astype(int) for n in image.shape[:2])
    with np.errstate(over="ignore"):
        pieces = [
            [np.asarray(image[row : row + _PATCH, column : column + _PATCH], dtype=np.float32) for column in columns]
            for row in rows
        ]
    sample = np.concatenate([np.concatenate(row, axis=1) for row in pieces])
    for gone in [key for key, (of, _) in _known_patches.items() if of() is None]:
        del _known_patches[gone]
    _known_patches[id(image)] = weakref.ref(image), sample
    return sample


def _range_of(sample: np.ndarray) -> Contrast:
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, PERCENTILES) if sample.size else (0.0, 1.0)
    if high <= low and sample.size:  # fewer than 0.5 % of the pixels differ, as on a nearly empty slice
        low, high = float(sample.min()), float(sample.max())
    return Contrast(float(low), float(high))
