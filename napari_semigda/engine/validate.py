"""Which painted images are kept back, so that the Dice a user reads is of images the weights never trained on."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

from napari_semigda.engine import metrics
from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.consensus import Belief, best_share
from napari_semigda.engine.metrics import dice, mean_foreground
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.predict import believe, to_prediction
from napari_semigda.engine.sampling import ClassTable
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, View, thinnest_width

_AS_GOOD = 0.005  # Dice: of weights this close, the later ones are kept, for they have learnt from more corrections
_ONE_IN = 8  # one of eight painted images is held out, and at least one as soon as there are two


class Examiner:
    """Measures Dice on the held-out images and remembers the best weights that never saw them.

    Parameters
    ----------
    planes, held_out
        All planes, and the indices of those held out (may be none).
    reader, view, table
        How planes are read and classes numbered.
    """

    def __init__(
        self, planes: Sequence[Plane], held_out: Sequence[int], reader: PlaneReader, view: View, table: ClassTable
    ) -> None:
        self.held_out = tuple(held_out)
        self.dice: float | None = None
        """Mean Dice over the classes of the weights that are kept, 0..1."""
        self.dice_by_class: dict[int, float] = {}
        self.dice_by_image: dict[str, float] = {}
        """Mean Dice over the classes of each held-out image, by its name, with the best weights."""
        self.best: dict[str, Tensor] | None = None
        """Those weights."""
        self.v_share: float | None = None
        """What branch V counts with them."""
        self._peak = -math.inf
        self._planes, self._reader, self._view, self._table = planes, reader, view, table
        self._foreground = [c for c in table.ids if c != 0]

    def examine(self, model: SemiGDA, average: MovingAverage) -> None:
        """Score the averaged weights; keep them when none so far were clearly better.

        How much each branch counts is chosen on the same images, anew each time: one number, of thousands of pixels.
        """
        beliefs = self._look(model, average)
        targets = [
            self._table.target(np.asarray(self._planes[i].mask), b.v.shape[1:]).to(b.v.device)
            for i, b in zip(self.held_out, beliefs, strict=True)
        ]
        model.v_share = best_share(zip(beliefs, targets, strict=True), model.v_share)
        scores = self._score([belief._replace(v_share=model.v_share) for belief in beliefs])
        by_class = self._by_class(scores)
        mean = mean_foreground(by_class)
        if mean >= self._peak - _AS_GOOD:  # never so where no class can be judged
            self._peak = max(self._peak, mean)
            self.dice, self.dice_by_class, self.best = mean, by_class, average.snapshot()
            self.v_share = model.v_share
            names = [self._planes[i].name for i in self.held_out]
            self.dice_by_image = dict(zip(names, map(mean_foreground, scores), strict=True))

    def still_as_good(self, model: SemiGDA, average: MovingAverage) -> bool:
        """Once the held-out images have joined training, Dice on them falls only if something went wrong."""
        mean = mean_foreground(self._by_class(self._score(self._look(model, average))))
        return self.dice is None or math.isnan(mean) or mean >= self.dice - 0.02

    def _look(self, model: SemiGDA, average: MovingAverage) -> list[Belief]:
        """What the averaged weights see in each held-out image."""
        with average.applied():
            return [believe(model, self._reader.whole(i, self._view.scale), self._view) for i in self.held_out]

    def _score(self, beliefs: Sequence[Belief]) -> list[dict[int, float]]:
        """Dice of each class on each held-out image, nan where a class is not on it."""
        ignore = 0 if self._table.sparse else None
        scores = []
        for i, belief in zip(self.held_out, beliefs, strict=True):
            mask = to_prediction(belief, self._planes[i], i, self._table).mask
            scores.append(dice(mask, np.asarray(self._planes[i].mask), self._foreground, ignore))
        return scores

    def _by_class(self, scores: Sequence[dict[int, float]]) -> dict[int, float]:
        """Mean Dice of each class over the held-out images, nan where a class is on none."""
        return {c: metrics.average(score[c] for score in scores).mean for c in self._foreground}


def hold_out(planes: Sequence[Plane], earlier: Collection[str] = (), seen: Collection[str] = ()) -> tuple[int, ...]:
    """Choose the labelled planes to hold out.

    Parameters
    ----------
    planes
        All planes of the request; only those with paint are candidates, for on an empty one there is no Dice.
    earlier
        Names that an earlier round held out: they stay held out, so that rounds can be compared.
    seen
        Names that the starting weights were trained on: never candidates.

    Returns
    -------
    tuple of int
        Indices into `planes`, ascending; empty when fewer than two planes are painted.
    """
    labelled = [i for i, plane in enumerate(planes) if plane.mask is not None and np.any(plane.mask)]
    kept = [i for i in labelled if planes[i].name in earlier]
    if kept and len(kept) < len(labelled):
        return tuple(kept)
    candidates = [i for i in labelled if planes[i].name not in seen]
    if len(labelled) < 2 or not candidates:
        return ()
    count = min(max(1, len(labelled) // _ONE_IN), len(candidates), len(labelled) - 1)
    order = _most_typical_first(planes, candidates, labelled)
    classes = {i: set(np.unique(np.asarray(planes[i].mask)).tolist()) for i in labelled}
    chosen: list[int] = []
    for i in order:
        rest = [classes[j] for j in labelled if j != i and j not in chosen]
        # A class that only held-out images show would be learned late or never.
        if len(chosen) < count and classes[i] <= set.union(*rest):
            chosen.append(i)
    return tuple(sorted(chosen)) or (order[0],)  # where every image has a class of its own, one is judged all the same


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
