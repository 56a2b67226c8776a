"""Whether the brightness of a picture means something: then pictures must keep it.

Stained tissue, skin and scans without a scale look brighter or duller from picture to picture, and a network should not
care. Grey matter in one brain is always as grey, and a slice with little of it is darker as a whole: there, stretching
every slice by itself makes the grey matter of one as bright as the white matter of another, and varying the brightness
of crops takes away what tells them apart. Painted masks show which of the two it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_semigda.engine.normalise import Contrast, Input, choose_input, is_rgb_bytes
from napari_semigda.engine.pose import spread
from napari_semigda.engine.types import ContrastName, EngineError, Plane, TrainRequest
from napari_semigda.engine.view import PlaneReader

if TYPE_CHECKING:
    from napari_semigda.engine.sampling import ClassTable

LEAST_SPREAD = 0.02
"""Of a picture with grey values in [0, 1]; below it a picture is flat, and stretching it would show noise."""

_FEWEST = 3  # painted pictures that can show what all have in common
_FIXED = 0.03  # `confusion` of classes that brightness tells apart: brain slices have .003, all other sets .18 and more
_CLEARLY = 0.5  # of the confusion that is left when each picture is stretched by itself
_MARGIN = 0.1  # of the common range, by which unpainted pictures may be brighter or duller than painted ones
_MOST_LIKE = 0.9  # share of them that must not be
_STRANGE = 0.25  # by how much more or less than ever seen an image is brighter or duller that comes from elsewhere


def reading_of(request: TrainRequest, table: ClassTable, earlier: Mapping[str, Any]) -> Input:
    """How the images of a round are read: as the user wants it; a correction reads them as the model it goes on from.

    Parameters
    ----------
    request, table
        Of the round.
    earlier
        Header of the model that it corrects; empty in a first round.

    Raises
    ------
    EngineError
        When an image lacks a channel, or a correction is wanted to read otherwise.
    """
    planes, channels, contrast = request.planes, request.settings.channels, request.settings.contrast
    if not earlier:
        return choose_reading(planes, table, channels, contrast)
    rule = Input.of_model(earlier)
    if not rule.agrees(planes, channels, contrast):
        raise EngineError(
            f"{request.init} sees other channels or another contrast, which a correction cannot change: "
            "choose those of its first round, or train from the start."
        )
    for plane in planes:
        rule.check(plane)
    return rule


def choose_reading(
    planes: Sequence[Plane], table: ClassTable, channels: Sequence[int] = (), contrast: ContrastName = "auto"
) -> Input:
    """How the images of a first round are read, with the contrast chosen from the painted masks where nobody else does.

    Parameters
    ----------
    planes
        All of the round.
    table
        Its classes.
    channels
        As `choose_input` takes them.
    contrast
        ``"auto"``: all images share their black and white when that makes every class look alike in all painted images,
        clearly more so than stretching each by itself, and the unpainted images are about as bright as those.

    Raises
    ------
    EngineError
        As `choose_input` does.
    """
    if contrast != "auto":
        return choose_input(planes, channels, contrast)
    own = choose_input(planes, channels)
    painted = spread([plane for plane in planes if plane.mask is not None])
    if len(painted) < _FEWEST or any(is_rgb_bytes(plane.image) for plane in planes):
        return own
    common = choose_input(planes, channels, "dataset")
    reader = PlaneReader(painted, own)
    alike, apart = (_confusion_read(each, painted, table) for each in (reader.in_common(common.ranges), reader))
    if alike >= _FIXED or alike >= _CLEARLY * apart:
        return own
    bare = [plane for plane in planes if plane.mask is None]
    known = _heights([reader.contrasts(index) for index in range(len(painted))], common)
    others = _heights([own.contrasts(plane.image) for plane in spread(bare)], common)
    within = (others >= known.min(0) - _MARGIN) & (others <= known.max(0) + _MARGIN)
    if bare and within.all(1).mean() < _MOST_LIKE:
        return own
    return replace(common, familiar=_bounds(np.concatenate([known, others]), common))


def glimpses(
    planes: Sequence[Plane], reader: PlaneReader, table: ClassTable, chosen: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Small pictures of painted planes, (3, h, w) in [0, 1], and their class indices (h, w), -1 where unpainted."""
    pictures = [reader.glimpse(index) for index in chosen]
    masks = [np.asarray(planes[index].mask) for index in chosen]
    return pictures, [table.target(mask, picture.shape[1:]) for mask, picture in zip(masks, pictures, strict=True)]


def looks_vary(pictures: Sequence[Tensor], targets: Sequence[Tensor]) -> bool:
    """Whether classes look more alike from picture to picture once each picture's mean and spread are taken out.

    Parameters
    ----------
    pictures
        (3, h, w) in [0, 1], of painted images.
    targets
        (h, w) int64 class indices of each; -1 where nobody painted.

    Returns
    -------
    bool
        False as well when there are fewer than two pictures to compare.
    """
    if len(pictures) < 2:
        return False
    as_it_is = _class_means(pictures, targets)
    mean = torch.stack([picture.mean((1, 2)) for picture in pictures])[:, None]  # (pictures, 1, 3)
    deviation = torch.stack([picture.std((1, 2)).clamp_min(LEAST_SPREAD) for picture in pictures])[:, None]
    return confusion((as_it_is - mean) / deviation) < confusion(as_it_is)


def _class_means(pictures: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """(pictures, classes, 3), nan where a class is not in a picture."""
    classes = sorted({int(c) for target in targets for c in target.unique()} - {-1})
    means = [
        torch.stack([picture[:, target == c].mean(1) for c in classes])
        for picture, target in zip(pictures, targets, strict=True)
    ]
    return torch.stack(means)


def confusion(means: Tensor) -> float:
    """(pictures, classes, 3) -> how much a class varies over the pictures, in units of how far classes are apart."""
    within = (means - means.nanmean(0)).square().nanmean()
    centres = means.nanmean(0)
    between = (centres - centres.mean(0)).square().mean()
    return float(within / between.clamp_min(1e-9))


def _confusion_read(reader: PlaneReader, painted: Sequence[Plane], table: ClassTable) -> float:
    return confusion(_class_means(*glimpses(painted, reader, table, range(len(painted)))))


def _heights(own: Sequence[Sequence[Contrast]], common: Input) -> np.ndarray:
    """(pictures, channels): how high pictures reach, each by itself, in units of the common range.

    The dark end is background as a rule, and says nothing.
    """
    high = np.array([[high for _, high in each] for each in own])
    low, top = np.array(common.ranges).T
    return (high.reshape(-1, len(low)) - low) / np.maximum(top - low, np.finfo(float).tiny)


def _bounds(heights: np.ndarray, common: Input) -> tuple[tuple[float, float], ...]:
    """How high a picture of the same kind may reach in each channel, in the values of its pixels."""
    low, top = np.array(common.ranges).T
    bounds = np.stack([heights.min(0) * (1 - _STRANGE), heights.max(0) * (1 + _STRANGE)]) * (top - low) + low
    return tuple((float(least), float(most)) for least, most in bounds.T)
