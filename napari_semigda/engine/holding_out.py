"""Which painted images are kept back, so that the Dice a user reads is of images the weights never trained on."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import thinnest_width

_NEAR = 3  # slices away in one volume is a look-alike, which in training would flatter the figure
_ONE_IN = 8  # one of eight painted images is held out, and at least one as soon as there are two


def hold_out(planes: Sequence[Plane], earlier: Collection[str] = (), seen: Collection[str] = ()) -> tuple[int, ...]:
    """Choose the labelled planes to hold out.

    Painted slices of one volume that lie within three of a held-out one look like it, and stay out of training as long
    as Dice is measured (`neighbours_of`). So planes with the most classes are chosen first, and of these the ones that
    cost the fewest slices: separate images, slices far from painted ones, then the end of a painted run, and beside a
    slice that is held out already the next one rather than one elsewhere. In a volume painted slice by slice that makes
    one block: some slices that are judged, a margin, and the rest teaches. Never is a slice judged between two that
    teach while others could be.

    Parameters
    ----------
    planes
        All planes of the request; only those with paint are candidates, for on an empty one there is no Dice.
    earlier
        Names that an earlier round held out: they stay held out, so that rounds can be compared. As more is painted,
        new ones join them: more images make the figure surer.
    seen
        Names that the starting weights were trained on: never candidates.

    Returns
    -------
    tuple of int
        Indices into `planes`, ascending; empty when fewer than two planes are painted.
    """
    labelled = [i for i, plane in enumerate(planes) if plane.mask is not None and np.any(plane.mask)]
    chosen = [i for i in labelled if planes[i].name in earlier]
    if len(chosen) == len(labelled):  # what is left of the masks teaches nothing new unless it may be seen
        chosen = []
    candidates = [i for i in labelled if planes[i].name not in seen and i not in chosen]
    count = min(max(1, len(labelled) // _ONE_IN), len(candidates) + len(chosen), len(labelled) - 1)
    if len(chosen) >= count:
        return tuple(chosen)
    order = _most_typical_first(planes, candidates, labelled)
    near, classes = _look_alikes(planes, labelled), _classes(planes, labelled)

    def cost(i: int) -> tuple[int, int]:
        """How little it shows, and how many slices would have to stay out of training because of it."""
        out = set(chosen).union(*(near[j] for j in chosen))
        return -len(classes[i]), len(near[i] - out)

    first = min(order, key=cost)  # of those that cost the same, the most typical
    while order and len(chosen) < count:
        best = min(order, key=cost)
        order.remove(best)
        rest = [classes[j] for j in labelled if j != best and j not in chosen]
        # A class that only held-out images show would be learned late or never.
        if classes[best] <= set.union(*rest):
            chosen.append(best)
    return tuple(sorted(chosen)) or (first,)  # where every image has a class of its own, one is judged all the same


def neighbours_of(planes: Sequence[Plane], held_out: Collection[int]) -> tuple[int, ...]:
    """Painted slices that look like held-out ones, and must not teach as long as Dice is measured.

    Parameters
    ----------
    planes, held_out
        All planes, and the indices of those held out.

    Returns
    -------
    tuple of int
        Indices, ascending: all painted slices within three of a held-out one of their volume, so that neighbours never
        sit on both sides. Some stay in training all the same, the farthest: where nothing else shows their classes,
        and, where all that is painted is one volume, as many as are needed for half of it to teach.
    """
    labelled = [i for i, plane in enumerate(planes) if plane.mask is not None]
    near, classes = _look_alikes(planes, labelled), _classes(planes, labelled)
    teaching, resting = {i for i in labelled if i not in held_out}, []
    painted = [i for i in labelled if np.any(planes[i].mask)]
    one_volume = len({planes[i].group or planes[i].name for i in painted}) == 1
    least = math.ceil(len(labelled) / 2) if one_volume else 1
    distance = {i: min((abs(i - j) for j in near[i] if j in held_out), default=math.inf) for i in teaching}
    for i in sorted((i for i in teaching if distance[i] < math.inf), key=lambda i: (distance[i], i)):
        others = [classes[j] for j in teaching - {i}]
        if len(others) >= least and classes[i] <= set().union(*others):
            teaching.remove(i)
            resting.append(i)
    return tuple(sorted(resting))


def _look_alikes(planes: Sequence[Plane], labelled: Collection[int]) -> dict[int, set[int]]:
    """Of each labelled plane, those of the same volume that are near."""
    known = set(labelled)

    def near(i: int) -> set[int]:
        around = known & set(range(i - _NEAR, i + _NEAR + 1)) - {i}
        return {j for j in around if planes[i].group and planes[j].group == planes[i].group}

    return {i: near(i) for i in labelled}


def _classes(planes: Sequence[Plane], chosen: Sequence[int]) -> dict[int, set[int]]:
    """Values in the masks of planes."""
    return {i: set(np.unique(np.asarray(planes[i].mask)).tolist()) for i in chosen}


def _most_typical_first(planes: Sequence[Plane], candidates: list[int], labelled: list[int]) -> list[int]:
    """Ordinary planes first: one unlike the others in painted area or thickness would judge all by an exception."""
    area = {i: math.log(1e-4 + float(np.mean(np.asarray(planes[i].mask) > 0))) for i in labelled}
    width = {i: math.log(thinnest_width([np.asarray(planes[i].mask)])) for i in labelled}
    middle_area, middle_width = (float(np.median(list(values.values()))) for values in (area, width))
    return sorted(candidates, key=lambda i: (abs(area[i] - middle_area) + abs(width[i] - middle_width), i))
