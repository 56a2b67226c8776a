"""Which painted images are kept back, so that the Dice a user reads is of images the weights never trained on."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import thinnest_width

_ONE_IN = 8  # one of eight painted images is held out, and at least one as soon as there are two


def hold_out(planes: Sequence[Plane], earlier: Collection[str] = (), seen: Collection[str] = ()) -> tuple[int, ...]:
    """Choose the labelled planes to hold out.

    Parameters
    ----------
    planes
        All planes of the request; only those with a mask are candidates.
    earlier
        Names that an earlier round held out: they stay held out, so that rounds can be compared.
    seen
        Names that the starting weights were trained on: never candidates.

    Returns
    -------
    tuple of int
        Indices into `planes`, ascending; empty when fewer than two planes are labelled.
    """
    labelled = [i for i, plane in enumerate(planes) if plane.mask is not None]
    kept = [i for i in labelled if planes[i].name in earlier]
    if kept and len(kept) < len(labelled):
        return tuple(kept)
    candidates = [i for i in labelled if planes[i].name not in seen]
    if len(labelled) < 2 or not candidates:
        return ()
    count = min(max(1, len(labelled) // _ONE_IN), len(candidates), len(labelled) - 1)
    order = _most_typical_first(planes, candidates, labelled)
    return tuple(sorted(order[:count]))


def _most_typical_first(planes: Sequence[Plane], candidates: list[int], labelled: list[int]) -> list[int]:
    """Planes that hold the most classes first, then those far from painted neighbours, then the most ordinary ones."""
    area = {i: math.log(1e-4 + float(np.mean(np.asarray(planes[i].mask) > 0))) for i in labelled}
    width = {i: math.log(thinnest_width([np.asarray(planes[i].mask)])) for i in labelled}
    middle_area, middle_width = (float(np.median(list(values.values()))) for values in (area, width))
    richness = {i: len(np.unique(np.asarray(planes[i].mask))) for i in candidates}

    def neighbourliness(i: int) -> int:
        """Painted planes of the same volume within three slices: a look-alike in training would flatter the figure."""
        group = planes[i].group
        return sum(1 for j in labelled if j != i and group and planes[j].group == group and abs(i - j) <= 3)

    def oddness(i: int) -> float:
        """An image unlike the others in painted area or thickness would judge all masks by an exception."""
        return abs(area[i] - middle_area) + abs(width[i] - middle_width)

    return sorted(candidates, key=lambda i: (-richness[i], neighbourliness(i), oddness(i), i))
