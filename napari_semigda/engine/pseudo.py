"""Pseudo-masks: what the model itself believes of images that nobody painted, kept for a while and then renewed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.device import mixed_precision
from napari_semigda.engine.losses import pseudo_mask
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.sampling import Batch, CropSampler

CONFIDENCE = 0.9  # least mean probability of a pseudo-mask's pixel that counts
KEPT = 32  # crops: enough variety, and all of them newer than some 120 steps
RENEWED, RENEW_EVERY = 2, 8  # crops, steps: a quarter of a crop a step, a tenth of its work


class PseudoMasks:
    """Unlabelled crops with pseudo-masks, a few dozen at a time.

    The teacher is the averaged weights: steadier than the network being trained, and better with every step (Tarvainen
    & Valpola, 2017; the paper takes the network itself). Making pseudo-masks anew at each step costs a tenth to a fifth
    of the steps, making them once lets early mistakes stay: so the oldest are replaced by and by.

    Parameters
    ----------
    model, average
        The network and its averaged weights.
    crops
        Where unlabelled crops come from.
    rng
        Chooses among the crops kept.
    """

    def __init__(self, model: SemiGDA, average: MovingAverage, crops: CropSampler, rng: np.random.Generator) -> None:
        self._model, self._average, self._crops, self._rng = model, average, crops, rng
        self._device = next(iter(model.trained_parts().values())).device
        self._kept: deque[Batch] = deque(maxlen=KEPT)
        self._draws = 0

    def draw(self, count: int) -> Batch:
        """`count` crops, different ones where so many are kept; weight 1 where the pseudo-mask counts, 0 elsewhere."""
        while len(self._kept) < KEPT:
            self._renew(4)
        if self._draws % RENEW_EVERY == RENEW_EVERY - 1:
            self._renew(RENEWED)
        self._draws += 1
        more = count > len(self._kept)  # as several devices may want
        chosen = [self._kept[i] for i in self._rng.choice(len(self._kept), count, replace=more)]
        return Batch(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))

    def _renew(self, count: int) -> None:
        batch = self._crops.draw(count).to(self._device)
        with self._average.applied(), torch.no_grad(), mixed_precision(self._device):
            branches = self._model(batch.image * 2 - 1)
        belief = Belief(*(branch.exp() for branch in branches), self._model.v_share)
        made = Batch(batch.image, *pseudo_mask(belief, CONFIDENCE))
        self._kept.extend(Batch(*parts) for parts in zip(*(part.split(1) for part in made), strict=True))

    def forget(self) -> None:
        """Start with none, as when crops have another size from now on."""
        self._kept.clear()

    def state(self) -> dict[str, Any]:
        """What is kept, as tensors of all crops together; classes and weights are small whole numbers."""
        parts = [torch.cat(part) for part in zip(*self._kept, strict=True)]
        if parts:
            parts[1:] = [part.to(torch.uint8) for part in parts[1:]]
        return {"draws": self._draws, "kept": parts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._draws = state["draws"]
        self._kept.clear()
        if state["kept"]:
            image, target, weight = (part.to(self._device) for part in state["kept"])
            each = zip(*(part.split(1) for part in (image, target.long(), weight.float())), strict=True)
            self._kept.extend(Batch(*parts) for parts in each)
