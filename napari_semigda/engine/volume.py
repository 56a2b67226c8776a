"""Slices of one volume, predicted so that neighbours agree: what the model sees of each is averaged along the volume.

Each slice is predicted by itself, so where the image is noisy or its brightness uneven a border jumps from slice to
slice. A weighted mean over a few slices steadies it, as long as these are closer together than the anatomy changes: the
width is therefore a length, and slices that lie further apart than that are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_semigda.engine.types import EngineError, Plane, Prediction

if TYPE_CHECKING:
    from napari_semigda.engine.consensus import Belief
    from napari_semigda.engine.predict import Predictor, Seen

REACH = 2.0  # widths: further slices count less than an eighth of the slice itself
MOST_SLICES = 16  # that are averaged with a slice on each side
MOST_BYTES = 2**31  # of what is seen of neighbouring slices


def smoothed(predictor: Predictor, planes: Sequence[Plane], width: float) -> Predictor | SmoothPredictor:
    """A predictor for some planes, told of their volumes, that makes the slices of one consistent.

    Parameters
    ----------
    predictor
        The model.
    planes
        All planes, in order. Neighbours share `Plane.volume` and lie in a row.
    width
        Standard deviation of the Gaussian along a volume, in the unit of `Plane.depth`, or in slices where that is not
        known. With 0, or where no plane has a neighbour near enough, slices are predicted by themselves.

    Raises
    ------
    EngineError
        When the width is no length, reaches over too many slices, or the slices are too large.
    """
    check_width(width)
    predictor = predictor.among(planes)
    smooth, several = SmoothPredictor(predictor, planes, width), False
    for index, plane in enumerate(planes):
        if len(near := smooth.neighbours(index)) > 1:
            smooth.check_room(plane, len(near))
            several = True
    return smooth if several else predictor


def check_width(width: float) -> None:
    """Refuse what is no width; see `smoothed`."""
    if not (math.isfinite(width) and width >= 0):
        raise EngineError(f"The width to smooth between slices is {width:g}: give 0 (off) or more.")


def weights(sigma: float) -> np.ndarray:
    """How much each slice counts: (2 r + 1,) with the slice itself in the middle, sum 1.

    Parameters
    ----------
    sigma
        Standard deviation in slices; from below a quarter on there is the slice alone.

    Raises
    ------
    EngineError
        When more than `MOST_SLICES` on a side would count.
    """
    if not 0 <= sigma * REACH <= MOST_SLICES:  # nan is not, either
        raise EngineError(
            f"Smoothing between slices would mix {2 * sigma * REACH + 1:.0f} slices: choose a smaller width, or look "
            "whether the file tells its distance from slice to slice right."
        )
    from scipy.ndimage import gaussian_filter1d

    reach = math.floor(REACH * sigma + 0.5)
    impulse = np.zeros(2 * reach + 1)
    impulse[reach] = 1
    return gaussian_filter1d(impulse, sigma, mode="constant", radius=reach) if reach else impulse


@dataclass(eq=False)
class SmoothPredictor:
    """Predicts planes as `Predictor.predict` does, the slices of one volume with their neighbours in mind.

    What was seen is kept of the neighbours of the last two planes that were asked for, so every slice goes through the
    network once whether they are asked for in order or, as the viewer does, in turns before and behind the one in view;
    and memory is bounded by the width, not by the volume.

    See `smoothed` for the parameters.
    """

    predictor: Predictor
    planes: Sequence[Plane]
    width: float
    _seen: dict[int, Seen] = field(default_factory=dict)
    _last: Collection[int] = ()

    def predict(self, plane: Plane, index: int, probabilities: bool = False) -> Prediction:
        """The mask of ``planes[index]``, given once more as `plane` because its pixels may be in memory by now.

        Mask, probabilities and doubt come from the same smoothed beliefs of the two branches. A neighbour that cannot
        be read counts nothing.

        Raises
        ------
        EngineError
            When the plane itself cannot be read, lacks a channel that the model sees, or the computation fails.
        """
        near = self.neighbours(index)
        if len(near) == 1:
            return self.predictor.predict(plane, index, probabilities=probabilities)
        self._seen = {at: seen for at, seen in self._seen.items() if at in near or at in self._last}
        self._last = near
        if index not in self._seen:
            self._seen[index] = self._see(plane)
        v = c = total = 0.0
        for at, weight in near.items():
            if (belief := self._belief(at)) is not None:
                v, c, total = v + weight * belief.v, c + weight * belief.c, total + weight
        own = self._seen[index]
        smooth = own.belief._replace(v=v / total, c=c / total)
        return self.predictor.decide(own._replace(belief=smooth), plane, index, probabilities)

    def neighbours(self, index: int) -> dict[int, float]:
        """How much each plane counts for plane `index`, itself included; only itself where it has no neighbours."""
        plane = self.planes[index]
        if not self.width or not plane.volume:
            return {index: 1.0}
        share = weights(self.width / (plane.depth or 1.0))
        first = index - len(share) // 2
        return {
            at: float(weight)
            for at, weight in enumerate(share, first)
            if 0 <= at < len(self.planes) and self._is_beside(plane, self.planes[at])
        }

    @staticmethod
    def _is_beside(plane: Plane, other: Plane) -> bool:
        return (other.volume, other.size) == (plane.volume, plane.size)

    def check_room(self, plane: Plane, count: int) -> None:
        """Refuse slices of which not so many can be in memory together."""
        if not self.predictor.fits(plane) or 2 * count * self.predictor.bytes_seen(plane) > MOST_BYTES:
            raise EngineError(
                f"{plane.name} is too large ({plane.size[0]} x {plane.size[1]} pixels) to be smoothed between slices: "
                "leave that out for this file, or choose a smaller width."
            )

    def _see(self, plane: Plane) -> Seen:
        self.predictor.check(plane)
        return self.predictor.see(plane)

    def _belief(self, index: int) -> Belief | None:
        """What was seen of a plane; None of one that cannot be read."""
        if index not in self._seen:
            try:
                self._seen[index] = self._see(self.planes[index])
            except EngineError:  # told when its own turn comes
                return None
        return self._seen[index].belief
