"""How good the weights of a run are on the images kept back, and which of them are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from torch import Tensor

from napari_semigda.engine import metrics
from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.consensus import Belief, best_share
from napari_semigda.engine.findings import Findings, Opinion, Opinions, count_paint, think
from napari_semigda.engine.metrics import Score, as_good, border_distances, dice, mean_foreground, surely_worse
from napari_semigda.engine.model import V_SHARE, SemiGDA
from napari_semigda.engine.predict import believe, to_prediction
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, View


@dataclass(frozen=True)
class _Examination:
    """What some weights made of the held-out images."""

    masks: tuple[np.ndarray, ...]  # (H, W) uint8 each
    dice: tuple[dict[int, float], ...]  # of each image by class, nan where a class is not on it
    v_share: float  # what branch V counted

    @property
    def by_class(self) -> dict[int, float]:
        """Mean Dice of each class over the images, nan where a class is on none."""
        return {c: metrics.average(each[c] for each in self.dice).mean for c in (self.dice[0] if self.dice else ())}

    @property
    def mean(self) -> float:
        return mean_foreground(self.by_class)


class Examiner:
    """Measures Dice on the held-out images and remembers the last good weights that never saw them.

    Parameters
    ----------
    planes, held_out
        All planes, and the indices of those held out (may be none).
    reader, view, table
        How planes are read and classes numbered.
    keep_start
        Whether the weights that a round goes on from are among those that may be kept.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        held_out: Sequence[int],
        reader: PlaneReader,
        view: View,
        table: ClassTable,
        keep_start: bool = True,
    ) -> None:
        self.held_out = tuple(held_out)
        self.kept_weights: dict[str, Tensor] | None = None
        """By name, on the CPU; None before the first check, and where no class can be judged."""
        self._kept: _Examination | None = None
        self._start: _Examination | None = None
        self._keep_start = keep_start
        self._peak = -math.inf
        self._planes, self._reader, self._view, self._table = planes, reader, view, table
        self._foreground = [c for c in table.ids if c != 0]
        self._ignore = 0 if table.sparse else None
        self._before: dict[int, Opinion] = {}
        self._now: dict[int, Opinion] = {}

    @property
    def _far(self) -> float:
        return surely_worse(len(self.held_out))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images held out."""
        return tuple(self._planes[i].name for i in self.held_out)

    @property
    def dice(self) -> float | None:
        """Mean Dice over the classes of the weights that are kept, 0..1."""
        return None if self._kept is None else self._kept.mean

    @property
    def v_share(self) -> float | None:
        """What branch V counts with these weights."""
        return None if self._kept is None else self._kept.v_share

    @property
    def dice_by_class(self) -> dict[int, float]:
        return {} if self._kept is None else self._kept.by_class

    @property
    def dice_by_image(self) -> dict[str, float]:
        """Mean Dice over the classes of each held-out image, by its name."""
        if self._kept is None:
            return {}
        return {name: mean_foreground(dice) for name, dice in zip(self.names, self._kept.dice, strict=True)}

    def begin(self, model: SemiGDA, average: MovingAverage, new: Sequence[int], in_time: Callable[[], bool]) -> None:
        """Score the weights that a round goes on from.

        Parameters
        ----------
        model, average
            The network and its averaged weights, before the first step.
        new
            Painted planes that these weights have never seen: what they make of their masks is remembered.
        in_time
            Whether there is time to look at one more of those.
        """
        self._start = self._weigh(model, average)
        if self._keep_start:
            self._consider(self._start, average)
        self._before = self._opinions(model, average, new, in_time)

    def examine(self, model: SemiGDA, average: MovingAverage) -> None:
        """Score the averaged weights; keep them when none so far were surely better."""
        self._consider(self._weigh(model, average), average)

    def _consider(self, found: _Examination, average: MovingAverage) -> None:
        # Later ones have learnt more, and of new masks: they give way where they are surely worse only.
        if found.mean >= self._peak - self._far:  # never so where no class can be judged
            self._peak = max(self._peak, found.mean)
            self._kept, self.kept_weights = found, average.snapshot()

    @property
    def kept_start(self) -> bool:
        """Whether the weights that are kept are those a correction began with."""
        return self._start is not None and self._kept is self._start

    @property
    def worse(self) -> bool:
        """Whether what is kept is less good than the start, or nothing else can be kept."""
        if self._start is None or self._kept is None:
            return False
        return self.kept_start or self._kept.mean < self._start.mean - as_good(len(self.held_out))

    def holds_up(self, model: SemiGDA, average: MovingAverage) -> bool:
        """Once the held-out images have joined training, Dice on them falls only if something went wrong."""
        mean = self._score(self._look(model, average)).mean
        return self.dice is None or math.isnan(mean) or mean >= self.dice - self._far

    def look_at_paint(
        self, model: SemiGDA, average: MovingAverage, taught: Sequence[int], in_time: Callable[[], bool]
    ) -> None:
        """Hold the masks that a round has learnt from against what its last weights make of them.

        Parameters
        ----------
        model, average
            The network and its averaged weights, after the last step.
        taught
            Painted planes; those that `begin` was told of come first, for somebody may want to know what is wrong with
            them, and the others say what is usual.
        in_time
            Whether there is time to look at one more.
        """
        others = [i for i in taught if i not in self._before and i not in self.held_out]
        others = [others[k] for k in np.random.default_rng(0).permutation(len(others))]
        self._now = self._opinions(model, average, [*self._before, *others], in_time)

    def findings(self) -> Findings:
        """All that there is to judge the round by.

        The Hausdorff distance is taken here, once: of the masks that the kept weights and those of the start made when
        they were examined.
        """
        painted = [i for i, plane in enumerate(self._planes) if plane.mask is not None]
        looked_at = self._before | self._now
        opinions = {self._planes[i].name: Opinions(self._now.get(i), self._before.get(i)) for i in looked_at}
        if self._kept is not None:
            for i, mask in zip(self.held_out, self._kept.masks, strict=True):
                opinions[self._planes[i].name] = Opinions(self._opinion(mask, i))
        return Findings(
            self._scores(self._kept),
            self._scores(self._start),
            count_paint([self._planes[i].mask for i in painted], self._foreground),
            opinions,
            kept_start=self.kept_start,
        )

    def _weigh(self, model: SemiGDA, average: MovingAverage) -> _Examination:
        """Examine the averaged weights, and choose how much each branch counts.

        It is chosen on the same images, anew each time: one number, of thousands of pixels.
        """
        beliefs = self._look(model, average)
        targets = [
            self._table.target(np.asarray(self._planes[i].mask), b.v.shape[1:]).to(b.v.device)
            for i, b in zip(self.held_out, beliefs, strict=True)
        ]
        model.v_share = best_share(zip(beliefs, targets, strict=True), V_SHARE)
        return self._score([belief._replace(v_share=model.v_share) for belief in beliefs])

    def _look(self, model: SemiGDA, average: MovingAverage) -> list[Belief]:
        """What the averaged weights see in each held-out image."""
        with average.applied():
            return [self._believe(model, i) for i in self.held_out]

    def _score(self, beliefs: Sequence[Belief]) -> _Examination:
        masks = tuple(self._mask(belief, i) for i, belief in zip(self.held_out, beliefs, strict=True))
        pairs = zip(masks, self.held_out, strict=True)
        scores = [dice(mask, np.asarray(self._planes[i].mask), self._foreground, self._ignore) for mask, i in pairs]
        return _Examination(masks, tuple(scores), beliefs[0].v_share)

    def _believe(self, model: SemiGDA, i: int) -> Belief:
        return believe(model, self._reader.whole(i, self._view.scale), self._view)

    def _mask(self, belief: Belief, i: int) -> np.ndarray:
        return to_prediction(belief, self._planes[i], i, self._table).mask

    def _opinions(
        self, model: SemiGDA, average: MovingAverage, planes: Sequence[int], in_time: Callable[[], bool]
    ) -> dict[int, Opinion]:
        found = {}
        with average.applied():
            for i in takewhile(lambda _: in_time(), planes):
                found[i] = self._opinion(self._mask(self._believe(model, i), i), i)
        return found

    def _opinion(self, mask: np.ndarray, i: int) -> Opinion:
        return think(mask, np.asarray(self._planes[i].mask), self._table.ids, self._ignore)

    def state(self) -> dict[str, Any]:
        """All that was found so far: plain values, arrays and tensors."""
        found = {"kept": None if self.kept_start else self._kept, "start": self._start}
        return {
            "kept_weights": self.kept_weights,
            "peak": self._peak,
            "kept_start": self.kept_start,
            "before": {i: tuple(opinion) for i, opinion in self._before.items()},
            **{name: None if each is None else dict(vars(each)) for name, each in found.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        kept, self._start = (None if each is None else _Examination(**each) for each in (state["kept"], state["start"]))
        self._kept = self._start if state["kept_start"] else kept
        self.kept_weights, self._peak = state["kept_weights"], state["peak"]
        self._before = {i: Opinion(*opinion) for i, opinion in state["before"].items()}

    def _scores(self, found: _Examination | None) -> dict[str, dict[int, Score]]:
        if found is None:
            return {}
        scores = {}
        for i, mask, by_class in zip(self.held_out, found.masks, found.dice, strict=True):
            distances = border_distances(mask, np.asarray(self._planes[i].mask), self._foreground, self._ignore)
            scores[self._planes[i].name] = {c: Score(d, d / (2 - d), distances[c]) for c, d in by_class.items()}
        return scores
