"""What is black and white in a volume, which its slices share.

A scanner gives grey matter the same grey in every slice of a volume, and other numbers in the next volume. Stretched by
itself, a slice near the end of a brain, with little in it that is bright, would show grey matter as white. Neither
torch nor Qt is imported here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from napari_semigda.engine.blocks import Window, is_large
from napari_semigda.engine.normalise import Contrast, Input, ranges_of_all
from napari_semigda.engine.types import Plane

_SLICES = 16  # that the percentiles of a volume are read from


class Scans:
    """The contrasts of volumes, each found once, when somebody asks for it.

    Parameters
    ----------
    planes
        Slices of the same volume share `Plane.volume`; others do not count, and neither do slices that are too large
        to be seen at once.
    rule
        How they are read; where its `Input.volumes` is false, no volume is known.
    """

    def __init__(self, planes: Iterable[Plane] = (), rule: Input = Input()) -> None:  # noqa: B008 - frozen
        self._rule = rule
        self._slices: dict[str, list[Any]] = defaultdict(list)
        for plane in planes if rule.volumes else ():
            if _shares(plane):
                self._slices[plane.volume].append(plane.image)
        self._found: dict[str, tuple[Contrast, ...]] = {}

    def __len__(self) -> int:
        """How many volumes of more than one slice there are."""
        return sum(len(slices) > 1 for slices in self._slices.values())

    def contrasts(self, plane: Plane) -> tuple[Contrast, ...]:
        """What is black and white in each channel of the plane's volume; empty where that is not known."""
        if not _shares(plane) or plane.volume not in self._slices:
            return ()
        if plane.volume not in self._found:
            # One that cannot be read costs only itself, and is told when its turn comes.
            slices = self._slices[plane.volume]
            self._found[plane.volume] = ranges_of_all(slices, self._rule, _SLICES, passing_over=Exception)
        return self._found[plane.volume]


def _shares(plane: Plane) -> bool:
    return bool(plane.volume) and not isinstance(plane.image, Window) and not is_large(plane.size)
