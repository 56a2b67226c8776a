"""What one training step minimises: the paper's two stages on freshly drawn crops."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from napari_semigda.engine import augment
from napari_semigda.engine.alignment import alignment_loss, cross_alignment_loss
from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.device import mixed_precision
from napari_semigda.engine.losses import mask_loss, pseudo_mask
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.sampling import Batch, CropSampler

UNLABELLED_PART = 0.25  # share of unlabelled crops in a step: few, because each replaces a painted one
CONFIDENCE = 0.9  # least mean probability of a pseudo-mask's pixel that counts


class Objective:
    """Losses of both stages.

    Parameters
    ----------
    model
        In training mode, on its device.
    average
        Its averaged weights are the teacher that makes pseudo-masks: steadier than the network being trained, and
        better with every step (Tarvainen & Valpola, 2017; the paper takes the network itself).
    labelled, unlabelled
        Where crops come from; `labelled` may be replaced during the run.
    crops
        Crops a step.
    rng
        Decides when latents are sampled and boxes mixed.
    """

    def __init__(
        self,
        model: SemiGDA,
        average: MovingAverage,
        labelled: CropSampler,
        unlabelled: CropSampler,
        crops: int,
        rng: np.random.Generator,
    ) -> None:
        self.model, self._average, self.labelled, self.unlabelled = model, average, labelled, unlabelled
        self.crops, self._rng = crops, rng
        self.device = next(iter(model.trained_parts().values())).device
        self.loss, self.unlabelled_loss = RunningMean(), RunningMean()
        self._vary = augment.Augmentation(labelled.view.poses)

    def alignment(self, unlabelled_weight: float) -> Tensor:
        """Stage 1 (DAM): the latents of painted masks, and on unlabelled images the other branch's latent."""
        batch = self._varied(self.labelled.draw(self.crops))
        whole = batch.weight.flatten(1).min(1).values == 1  # a partly painted mask has no latent of its own
        images = [batch.image]
        if unlabelled_weight > 0:
            images.append(self._varied(self.unlabelled.draw(self.crops)).image)
        with mixed_precision(self.device):
            latents = self.model.align(torch.cat(images) * 2 - 1, sample=self._half_of_the_time())
            v, c = latents.v[: self.crops], latents.c[: self.crops]
            loss = v.sum() * 0.0
            if whole.any():
                loss = loss + alignment_loss(v[whole], c[whole], self.model.mask_latent(batch.target[whole]))
            self.loss.add(loss)
            if unlabelled_weight > 0:
                cross = cross_alignment_loss(latents.v[self.crops :], latents.c[self.crops :])
                self.unlabelled_loss.add(cross)
                loss = loss + unlabelled_weight * cross
        return loss

    def segmentation(self, unlabelled_weight: float) -> Tensor:
        """Stage 2 (CDSA): painted pixels, and with a weight, pseudo-masks mixed into the batch."""
        batch, painted = self._mixed_batch() if unlabelled_weight > 0 else self._painted_batch()
        with mixed_precision(self.device):
            branches = self.model(batch.image * 2 - 1, sample=self._half_of_the_time())
        loss = mask_loss(branches, batch.target, batch.weight * painted)
        self.loss.add(loss)
        if unlabelled_weight > 0:
            unlabelled = mask_loss(branches, batch.target, batch.weight * (1 - painted))
            self.unlabelled_loss.add(unlabelled)
            loss = loss + unlabelled_weight * unlabelled
        return loss

    def _painted_batch(self) -> tuple[Batch, Tensor]:
        batch = self._varied(self.labelled.draw(self.crops))
        return batch, torch.ones_like(batch.weight)

    def _mixed_batch(self) -> tuple[Batch, Tensor]:
        """Painted crops and a few unlabelled ones; in half of the steps a box is swapped between them.

        Returns the batch and (B, crop, crop) float, 1 where a pixel's target was painted by the user.
        """
        few = max(1, round(self.crops * UNLABELLED_PART))
        a, b = self._varied(self.labelled.draw(self.crops - few)), self._varied(self._pseudo_labelled(few))
        painted = torch.ones_like(a.weight), torch.zeros_like(b.weight)
        pairs = [(a.image, b.image), (a.target, b.target), (a.weight, b.weight), painted]
        if self._half_of_the_time():
            box = augment.random_box(*a.target.shape[-2:])
            pairs = [_swapped(first, second, box) for first, second in pairs]
        image, target, weight, painted_by_user = (torch.cat(pair) for pair in pairs)
        return Batch(image, target, weight), painted_by_user

    def _pseudo_labelled(self, count: int) -> Batch:
        """Unlabelled crops with what both branches of the teacher agree on, made before they are varied."""
        batch = self.unlabelled.draw(count).to(self.device)
        with self._average.applied(), torch.no_grad(), mixed_precision(self.device):
            branches = self.model(batch.image * 2 - 1)
        return Batch(batch.image, *pseudo_mask(branches, CONFIDENCE))

    def _varied(self, batch: Batch) -> Batch:
        batch = batch.to(self.device)
        return Batch(*self._vary(batch.image, batch.target, batch.weight))

    def _half_of_the_time(self) -> bool:
        return bool(self._rng.random() < 0.5)


def _swapped(many: Tensor, few: Tensor, box: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    """Swap a box between the second batch and as many of the first."""
    n = min(len(many), len(few))
    first, second = augment.mix_boxes(many[:n], few[:n], box)
    return torch.cat([first, many[n:]]), torch.cat([second, few[n:]])


class RunningMean:
    """Exponential mean of a loss, for a curve that can be read."""

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, loss: Tensor) -> None:
        """Take one step's loss in; one that is not a number is left out."""
        new = float(loss.detach())
        if math.isfinite(new):
            self.value = new if self.value is None else 0.9 * self.value + 0.1 * new
