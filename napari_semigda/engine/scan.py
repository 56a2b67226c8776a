"""What is black and white in a volume, which its slices share.

A scanner gives grey matter the same grey in every slice of a volume, and other numbers in the next volume. Stretched by
itself, a slice near the end of a brain, with little in it that is bright, would show grey matter as white. Neither
torch nor Qt is imported here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from napari_semigda.engine.blocks import Window, is_large
from napari_semigda.engine.normalise import Contrast, Input, heights_in, ranges_of, samples_of
from napari_semigda.engine.types import Plane

_SLICES = 24  # that a volume is judged by
_FEWEST = 6  # that show whether it changes steadily: of fewer, each step is a large part of the whole way
_STEADY = 0.6  # a step from slice to slice in units of any two: brain slices 6 mm apart .24, sections of a block .7 and
#                more, images that have nothing to do with each other .9 to 1
_EVEN = 0.05  # of the range, by which slices may differ in any order: it does not matter then


class Scans:
    """The contrasts of volumes, each found once, when somebody asks for it.

    Parameters
    ----------
    planes
        Slices of the same volume share `Plane.volume` and come in its order; others do not count, and neither do slices
        that are too large to be seen at once.
    rule
        How they are read. By its `Input.volumes` slices share a contrast in no volume, in those whose brightness
        changes steadily from slice to slice (pages of a file are taken for slices where nothing tells what they are,
        and may be as different as any images), or in all.
    """

    def __init__(self, planes: Iterable[Plane] = (), rule: Input = Input()) -> None:  # noqa: B008 - frozen
        self._rule = rule
        self._slices: dict[str, list[Any]] = defaultdict(list)
        for plane in planes if rule.volumes != "none" else ():
            if _may_share(plane):
                self._slices[plane.volume].append(plane.image)
        self._found: dict[str, tuple[Contrast, ...]] = {}

    def contrasts(self, plane: Plane) -> tuple[Contrast, ...]:
        """What is black and white in each channel of the plane's volume; empty where the plane has its own."""
        if not _may_share(plane) or plane.volume not in self._slices:
            return ()
        if plane.volume not in self._found:
            self._found[plane.volume] = self._find(self._slices[plane.volume])
        return self._found[plane.volume]

    def _find(self, slices: Sequence[Any]) -> tuple[Contrast, ...]:
        # One that cannot be read costs only itself, and is told when its turn comes.
        samples = samples_of(slices, self._rule, _SLICES, passing_over=Exception)
        shared = ranges_of(samples)
        return shared if self._rule.volumes == "all" or _is_steady(samples, shared) else ()


def _may_share(plane: Plane) -> bool:
    return bool(plane.volume) and not isinstance(plane.image, Window) and not is_large(plane.size)


def _is_steady(samples: Sequence[np.ndarray], shared: Sequence[Contrast]) -> bool:
    """Whether the brightest of each slice, of (h, w, channels) each, is much like that of its neighbours."""
    if len(samples) < _FEWEST:
        return False
    heights = heights_in([ranges_of([sample]) for sample in samples], shared)
    step = np.abs(np.diff(heights, axis=0)).mean()
    count = len(heights)
    any_two = np.abs(heights[:, None] - heights).mean() * count / (count - 1)
    return any_two <= _EVEN or step < _STEADY * any_two
