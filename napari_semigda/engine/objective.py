"""What one training step minimises: the paper's two stages on freshly drawn crops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_semigda.engine.alignment import alignment_loss, cross_alignment_loss
from napari_semigda.engine.appearance import looks_vary
from napari_semigda.engine.augment import Augmentation, borrow_colours, random_box
from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.device import mixed_precision
from napari_semigda.engine.likeness import likeness_loss
from napari_semigda.engine.losses import mask_loss
from napari_semigda.engine.model import Branches, SemiGDA
from napari_semigda.engine.pseudo import PseudoMasks
from napari_semigda.engine.sampling import Batch, CropSampler
from napari_semigda.engine.several import ALONE, Alone
from napari_semigda.engine.view import View

V_EVERY = 3  # branch V has frozen features: it learns nearly as much from every third step, and C gets more steps
BORROWED = (0.3, 1.0)  # how much of another picture's colours
LIKENESS = 3.0  # weight of what scribbles leave to the picture
LIKENESS_FROM = 40  # steps of stage 2: before, nothing has grown from the strokes


class Objective:
    """Losses of both stages.

    Parameters
    ----------
    model
        In training mode, on its device.
    average
        Its averaged weights, which make the pseudo-masks (`pseudo`).
    labelled, unlabelled
        Where crops come from; `labelled` may be replaced during the run.
    crops
        Crops a step.
    rng
        Decides when latents are sampled, and what is borrowed and pasted.
    """

    pasted_side = (0.4, 0.8)
    """Sides of a pasted box, as a share of the crop's (paper: 2/3)."""

    def __init__(
        self,
        model: SemiGDA,
        average: MovingAverage,
        labelled: CropSampler,
        unlabelled: CropSampler,
        crops: int,
        rng: np.random.Generator,
    ) -> None:
        self.model, self.labelled, self.unlabelled = model, labelled, unlabelled
        self.crops, self._rng = crops, rng
        self._pseudo_masks = PseudoMasks(model, average, unlabelled, rng)
        tells = labelled.brightness_tells
        self._borrows = len(unlabelled) > 0 and not tells and looks_vary(*labelled.glimpses())
        self._steps = 0  # of stage 2
        self.device = next(iter(model.trained_parts().values())).device
        self.loss, self.unlabelled_loss = RunningMean(), RunningMean()
        self._vary = Augmentation(labelled.view.poses, tells)
        self.several: Alone = ALONE
        """Who shares the crops of a step."""

    def alignment(self, unlabelled_weight: float) -> Tensor:
        """Stage 1 (DAM): the latents of painted masks, and on unlabelled images the other branch's latent."""
        several, share = self.several, self._share
        with several.together():
            batch = self._varied(self.labelled.draw(self.crops, share))
            images = [batch.image[share]]
            if unlabelled_weight > 0:
                images.append(self._varied(self.unlabelled.draw(self.crops, share)).image[share])
            sample, mine = self._half_of_the_time(), len(images[0])
            with mixed_precision(self.device), several.own_noise():
                latents = self.model.align(torch.cat(images) * 2 - 1, sample=sample)
        target, weight = self._of_all(batch.target), self._of_all(batch.weight)
        v, c = several.whole(latents.v[:mine]), several.whole(latents.c[:mine])
        if unlabelled_weight > 0:
            bare_v, bare_c = several.whole(latents.v[mine:]), several.whole(latents.c[mine:])
        whole = weight.flatten(1).min(1).values == 1  # a partly painted mask has no latent of its own
        with several.together(), mixed_precision(self.device):
            loss = v.sum() * 0.0
            if whole.any():
                loss = loss + alignment_loss(v[whole], c[whole], self.model.mask_latent(target[whole]))
            self.loss.add(loss)
            if unlabelled_weight > 0:
                cross = cross_alignment_loss(bare_v, bare_c)
                self.unlabelled_loss.add(cross)
                loss = loss + unlabelled_weight * cross
        return loss

    def segmentation(self, unlabelled_weight: float) -> Tensor:
        """Stage 2 (CDSA): painted pixels, and with a weight, pseudo-masks pasted into the pictures."""
        several = self.several
        with several.together():
            batch = self._varied(self._in_other_colours(self.labelled.draw(self.crops, self._share)))
            painted = torch.ones_like(batch.weight)
            if unlabelled_weight > 0:
                batch, painted = self._with_pieces(batch)
            with_v = self._steps % V_EVERY == 0
            self._steps += 1
            sample, image = self._half_of_the_time(), batch.image[self._share]
            with mixed_precision(self.device), several.own_noise():
                branches = self.model(image * 2 - 1, sample=sample, with_v=with_v)
        branches = Branches(*(None if answer is None else several.whole(answer) for answer in branches))
        target, weight = self._of_all(batch.target), self._of_all(batch.weight)
        alike = self.labelled.scribbled and self._steps > LIKENESS_FROM
        images = self._of_all(batch.image) if alike else None
        with several.together():
            loss = mask_loss(branches, target, weight * painted)
            self.loss.add(loss / (1 + with_v))
            if unlabelled_weight > 0:
                unlabelled = mask_loss(branches, target, weight * (1 - painted))
                self.unlabelled_loss.add(unlabelled / (1 + with_v))
                loss = loss + unlabelled_weight * unlabelled
            if alike:
                working = [answer.float().exp() for answer in branches if answer is not None]
                loss = loss + LIKENESS * likeness_loss(working, images)
        return loss

    def resize(self, crops: int, view: View) -> None:
        """From now on, `crops` crops a step, of the size of `view`."""
        if view.crop != self.labelled.view.crop:
            self._pseudo_masks.forget()
        self.crops = crops
        for sampler in (self.labelled, self.unlabelled):
            sampler.view = view

    def state(self) -> dict[str, Any]:
        """What later steps and reports depend on, but for the random numbers: plain values and tensors."""
        losses = self.loss.value, self.unlabelled_loss.value
        return {"steps": self._steps, "losses": losses, "pseudo_masks": self._pseudo_masks.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._steps = state["steps"]
        self.loss.value, self.unlabelled_loss.value = state["losses"]
        self._pseudo_masks.load_state(state["pseudo_masks"])

    @property
    def _share(self) -> slice:
        """Which of a step's crops are cut and answered here; all of them are varied, to draw the same numbers."""
        return self.several.share(self.crops)

    def _of_all(self, values: Tensor) -> Tensor:
        """Values of a step's crops, of which only this process's share is true here, with the shares of all."""
        return self.several.whole(values[self._share])

    def _in_other_colours(self, batch: Batch) -> Batch:
        """Half of the painted crops take on colours of unlabelled ones: it costs nothing to learn from those."""
        chosen = np.flatnonzero(self._rng.random(len(batch.image)) < 0.5)
        if not self._borrows or not len(chosen):
            return batch
        mine = slice(*np.searchsorted(chosen, (self._share.start, self._share.stop)))
        image, donor = batch.image.clone(), self.unlabelled.draw(len(chosen), mine).image
        amount = torch.from_numpy(self._rng.uniform(*BORROWED, len(chosen))).float()
        image[chosen[mine]] = borrow_colours(image[chosen[mine]], donor[mine], amount[mine])
        return batch._replace(image=image)

    def _with_pieces(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Paste a box of a pseudo-labelled crop into half of the pictures (the paper's mixing, in one direction).

        No painted picture is lost and the batch stays as large as it is, so a step costs no more.

        Returns the batch and (B, crop, crop) float, 1 where a pixel's target was painted by the user.
        """
        pieces = self._varied(self._pseudo_masks.draw(len(batch.image)))
        batch = Batch(*(part.clone() for part in batch))
        painted = torch.ones_like(batch.weight)
        for i in range(len(painted)):
            if self._half_of_the_time():
                box = (i, ..., *random_box(*painted.shape[1:], share=float(self._rng.uniform(*self.pasted_side))))
                for whole, piece in zip(batch, pieces, strict=True):
                    whole[box] = piece[box]
                painted[box] = 0.0
        return batch, painted

    def _varied(self, batch: Batch) -> Batch:
        batch = batch.to(self.device)
        return Batch(*self._vary(batch.image, batch.target, batch.weight))

    def _half_of_the_time(self) -> bool:
        return bool(self._rng.random() < 0.5)


class RunningMean:
    """Exponential mean of a loss, for a curve that can be read."""

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, loss: Tensor) -> None:
        """Take one step's loss in; one that is not a number is left out."""
        new = float(loss.detach())
        if math.isfinite(new):
            self.value = new if self.value is None else 0.9 * self.value + 0.1 * new
