"""Which pictures share their black and white, as painted masks show it.

Stained tissue, skin and scans without a scale look brighter or duller from picture to picture, and a network should not
care. Grey matter in one scan is always as grey, and a slice with little of it is darker as a whole: there, stretching
every slice by itself makes the grey matter of one as bright as the white matter of another, and varying the brightness
of crops takes away what tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_semigda.engine.appearance import class_means, confusion, glimpses
from napari_semigda.engine.normalise import (
    Input,
    choose_input,
    heights_in,
    is_rgb_bytes,
    ranges_of,
    samples_of,
    spread,
)
from napari_semigda.engine.scan import Scans
from napari_semigda.engine.types import ContrastName, EngineError, Plane, TrainRequest
from napari_semigda.engine.view import PlaneReader

if TYPE_CHECKING:
    from napari_semigda.engine.class_table import ClassTable

_FEWEST = 3  # painted pictures that can show what all have in common ...
_FEWEST_SLICES = 2  # ... or that slices of a volume have less of it than others
_FIXED = 0.03  # `confusion` of classes that brightness tells apart: brain slices have .003, all other sets .05 and more
_SAME = 0.01  # ... of classes that are as bright everywhere: brain slices have .004 at most
_CLEARLY = 0.5  # of the confusion that is left otherwise
_MARGIN = 0.1  # of the common range, by which an unpainted picture may be brighter or duller than painted ones ...
_DULLER = 0.3  # ... or duller, where there is less in it that is bright
_MOST_LIKE = 0.9  # share of them that must not be
_HALF_LIKE = 0.5  # ... that must be as bright as painted ones
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
        ``"auto"``: slices of a volume share their black and white, unless painted ones look clearly more alike when
        each is stretched by itself. All images share it when every class then looks alike in all painted images,
        clearly more so than otherwise or as much as can be, and unpainted ones are about as bright as those.

    Raises
    ------
    EngineError
        As `choose_input` does.
    """
    own = choose_input(planes, channels, contrast if contrast != "auto" else "image")
    if contrast in ("image", "dataset") or any(is_rgb_bytes(plane.image) for plane in planes):
        return own
    painted = _Painted(planes, table, own)
    if contrast == "volume":
        return painted.judged(own)
    chosen = _by_volume(planes, painted, own)
    return _for_all(planes, painted, own, chosen) or chosen


def describe_reading(rule: Input) -> str:
    """A sentence on what was chosen and why, for the dock; nothing where each image has its own contrast."""
    if not rule.ranges and rule.volumes == "none":
        return ""
    shared = f"{'all images' if rule.ranges else 'the slices of a volume'} share one contrast."
    return f"Brightness tells your classes apart, so it is kept: {shared}" if rule.fixed else shared.capitalize()


class _Painted:
    """Some painted planes, and how much their classes vary when they are read one way or another."""

    def __init__(self, planes: Sequence[Plane], table: ClassTable, own: Input) -> None:
        self._all, self._table = planes, table
        self._planes = spread([plane for plane in planes if plane.mask is not None])
        self._reader = PlaneReader(self._planes, own)
        self._confusion: dict[Input, float] = {}

    def __len__(self) -> int:
        return len(self._planes)

    def confusion(self, rule: Input, scans: Scans | None = None) -> float:
        """How much their classes vary when they are read by a rule, see `confusion`; `scans` where they are known."""
        if rule not in self._confusion:
            reader = self._reader.read_by(rule, scans or Scans(self._all, rule))
            seen = glimpses(self._planes, reader, self._table, range(len(self)))
            self._confusion[rule] = confusion(class_means(*seen))
        return self._confusion[rule]

    def judged(self, rule: Input) -> Input:
        """The rule, with what they show of whether brightness is `Input.fixed` by it."""
        return replace(rule, fixed=len(self) >= _FEWEST and self.confusion(rule) < _FIXED)

    def heights(self, common: Input) -> np.ndarray:
        """See `heights_in`."""
        return heights_in([self._reader.contrasts(index) for index in range(len(self))], common.ranges)


def _by_volume(planes: Sequence[Plane], painted: _Painted, own: Input) -> Input:
    """Slices of a volume are of one scan; but sections through a block under a microscope may be stained unevenly."""
    rule = replace(own, volumes="steady")
    scans = Scans(planes, rule)
    if not any(scans.contrasts(plane) for plane in planes if plane.mask is not None):
        return own
    if len(painted) >= _FEWEST_SLICES:
        alike, apart = painted.confusion(rule, scans), painted.confusion(own)
        if alike >= _FIXED and apart < _CLEARLY * alike:
            return own
    return painted.judged(rule)


def _for_all(planes: Sequence[Plane], painted: _Painted, own: Input, otherwise: Input) -> Input | None:
    """One range for all planes; None where it is not clear that they share one."""
    if len(painted) < _FEWEST:
        return None
    common = replace(own, ranges=ranges_of(samples_of([plane.image for plane in planes], own)), fixed=True)
    alike, apart = painted.confusion(common), painted.confusion(otherwise)
    # Slices from the middle of an organ are the same either way, and show nothing of those at its ends.
    either_way = otherwise.volumes == "none" and max(alike, apart) < _SAME
    if not (either_way or alike < min(_FIXED, _CLEARLY * apart)):
        return None
    bare = [plane for plane in planes if plane.mask is None]
    known = painted.heights(common)
    others = heights_in([own.contrasts(plane.image) for plane in spread(bare)], common.ranges)
    if bare and not _of_one_kind(known, others):
        return None
    return replace(common, familiar=_bounds(np.concatenate([known, others]), common))


def _of_one_kind(known: np.ndarray, others: np.ndarray) -> bool:
    """Whether unpainted pictures are about as bright as painted ones, (pictures, channels) each.

    Some may be duller by more, as slices near the end of an organ are; strangers are all as dull or as bright.
    """
    bright = (others <= known.max(0) + _MARGIN).all(1)
    like, duller = ((others >= known.min(0) - most).all(1) for most in (_MARGIN, _DULLER))
    return (bright & like).mean() >= _HALF_LIKE and (bright & duller).mean() >= _MOST_LIKE


def _bounds(heights: np.ndarray, common: Input) -> tuple[tuple[float, float], ...]:
    """How high a picture of the same kind may reach in each channel, in the values of its pixels."""
    low, top = np.array(common.ranges).T
    bounds = np.stack([heights.min(0) * (1 - _STRANGE), heights.max(0) * (1 + _STRANGE)]) * (top - low) + low
    return tuple((float(least), float(most)) for least, most in bounds.T)
