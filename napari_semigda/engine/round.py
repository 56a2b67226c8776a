"""One round of training, from painted masks to a saved model.

Fractions of the time, for a first round with unlabelled images:

     0 % - 8 %    stage 1 (DAM): both branches learn the latents of the masks
     8 % - 35 %   stage 2 (CDSA) on painted pixels
    35 % - 100 %  ... and on pseudo-masks of the unlabelled images, made anew at 35, 55 and 75 %
    65 % - 100 %  ... and on the images held out so far: their Dice has been measured, now they help
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_semigda.engine import augment
from napari_semigda.engine.alignment import alignment_loss, cross_alignment_loss
from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.checkpoint import load_model, read_header, save_model
from napari_semigda.engine.device import describe_device, mixed_precision, pick_device
from napari_semigda.engine.losses import mask_loss, pseudo_mask, ramp_up
from napari_semigda.engine.metrics import dice, mean_foreground
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.predict import believe, to_prediction
from napari_semigda.engine.sampling import Batch, ClassTable, CropSampler, PoolTile, PseudoPool, cut_tile
from napari_semigda.engine.schedule import Clock, Events
from napari_semigda.engine.types import EngineError, Report, Stage, TrainRequest
from napari_semigda.engine.validate import hold_out
from napari_semigda.engine.view import STRIDE, PlaneReader, View, choose_view

ALIGN_UNTIL = 0.08
UNLABELLED_FROM = 0.35
REFILLS = (0.35, 0.55, 0.75)
CHECKS = (0.2, 0.35, 0.5, 0.65)
REFIT_FROM = 0.65
CONFIDENCE = 0.8  # least mean probability of a pseudo-mask's pixel
POOL_TILES = 64  # most unlabelled pieces a phase
POOL_SHARE = 0.04  # most of the time a refill may take
LEARNING_RATE, TRUNK_RATE, WARM_RATE = 1.5e-3, 5e-4, 0.5
WARM_UP_STEPS = 20
REPORT_EVERY = 0.2  # seconds
PREVIEW_EVERY = 4.0  # seconds, stretched where a preview is slow


class Round:
    """State of one round; see the module for its course.

    Parameters
    ----------
    request
        Checked (`check_request`).
    stopped
        Asked after every step.
    in_view
        Index of the plane to preview.
    """

    def __init__(self, request: TrainRequest, stopped: Callable[[], bool], in_view: Callable[[], int]) -> None:
        self.request, self.settings = request, request.settings
        self.planes = request.planes
        self._stopped, self._in_view = stopped, in_view
        self.clock = Clock(self.settings)
        self.device = pick_device(self.settings.device)
        torch.manual_seed(self.settings.seed)
        self.rng = np.random.default_rng(self.settings.seed)
        self.reader = PlaneReader(self.planes)
        self._start_model()
        self._choose_planes()
        self.augmentation = augment.Augmentation()
        self.pool = PseudoPool(self.view, self.rng)
        self.average = MovingAverage(self.model.trained_parts())
        self.optimiser = self._make_optimiser()
        self.clean: dict[str, Tensor] | None = None  # best weights that never saw a held-out image
        self.dice: float | None = None
        self.dice_by_class: dict[int, float] = {}
        self._loss, self._unlabelled_loss, self._ramp = _RunningMean(), _RunningMean(), 0.0
        self._reported = self._previewed = -math.inf
        self._preview_seconds = 0.0
        self._bad_steps = 0

    # ---- setting up ---------------------------------------------------------------------------------------------

    def _start_model(self) -> None:
        """A new network, or the last round's; classes are colours, so new ones need no new weights."""
        self.earlier = read_header(self.request.init) if self.request.init else {}
        self.table = ClassTable.of(self.planes, self.settings.sparse)
        count = len(self.table.ids)
        if self.earlier:
            self.model, _ = load_model(Path(self.request.init), self.device, clean=True)
            self.model.class_count = count
            self.view, self.width = View(**self.earlier["view"]), self.earlier["structure_width"]
        else:
            backbone = load_backbone(self.settings.backbone)
            self.model = SemiGDA(backbone, count).to(self.device, memory_format=torch.channels_last)
            self.view, self.width = choose_view(self.planes, self.settings.crop)
        self.model.train()

    def _choose_planes(self) -> None:
        training = self.earlier.get("training", {})
        self.held_out = hold_out(self.planes, training.get("held_out", ()), training.get("trained_on", ()))
        labelled = [i for i, plane in enumerate(self.planes) if plane.mask is not None]
        unlabelled = [i for i, plane in enumerate(self.planes) if plane.mask is None]
        self.training_planes = [i for i in labelled if i not in self.held_out]
        self.labelled = self._sampler(self.training_planes)
        self.unlabelled = self._sampler(
            [i for i in unlabelled if self.reader.contrast(i).low < self.reader.contrast(i).high]
        )

    def _sampler(self, chosen: list[int]) -> CropSampler:
        return CropSampler(self.planes, self.reader, chosen, self.view, self.table, self.rng)

    def _make_optimiser(self) -> torch.optim.Optimizer:
        parts = self.model.trained_parts()
        trunk = [w for name, w in parts.items() if ".trunk." in name]
        rest = [w for name, w in parts.items() if ".trunk." not in name]
        groups = [{"params": trunk, "rate": TRUNK_RATE}, {"params": rest, "rate": LEARNING_RATE}]
        return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-2)

    # ---- the course ---------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Report]:
        """Train, save, and report; see `Trainer.fit`."""
        yield self._report("starting", self.view.describe(self.width))
        warm = bool(self.earlier)
        align_until = 0.0 if warm else ALIGN_UNTIL
        checks, refills, refit = Events(*CHECKS), Events(*REFILLS), Events(REFIT_FROM)
        if warm:
            yield from self._check()
        while (fraction := self.clock.fraction()) < 1 and not self._stopped():
            if checks.due(fraction):
                yield from self._check()
            if refit.due(fraction):
                self._let_held_out_help()
            if refills.due(fraction) and self._uses_unlabelled():
                yield self._report("checking", "Making first masks of the unlabelled images…")
                self._refill_pool()
            self._set_rate(fraction, WARM_RATE if warm else 1.0)
            stage: Stage = "aligning" if fraction < align_until else "unlabelled" if len(self.pool) else "learning"
            self._step(self._alignment(fraction) if stage == "aligning" else self._segmentation(fraction))
            yield from self._progress(stage)
        yield from self._finish()

    def _finish(self) -> Iterator[Report]:
        stopped = self.clock.fraction() < 1
        if self.held_out and not self._refitted:
            yield from self._check()
        if self.clean is not None and not (self._refitted and self._still_as_good()):
            self.average.load(self.clean)
        with self.average.applied():
            save_model(self.request.out, self.model, self._header(), self.clean)
        stage: Stage = "stopped" if stopped else "done"
        yield self._report(stage, self._verdict(), model=self.request.out)

    @property
    def _refitted(self) -> bool:
        return len(self.training_planes) == len([p for p in self.planes if p.mask is not None])

    def _uses_unlabelled(self) -> bool:
        return len(self.unlabelled) > 0 and self.settings.unlabelled_weight > 0

    def _let_held_out_help(self) -> None:
        """Painted images are few: once Dice has been measured on the held-out ones, training uses them too."""
        if self.held_out:
            self.training_planes = sorted([*self.training_planes, *self.held_out])
            self.labelled = self._sampler(self.training_planes)

    # ---- one step -----------------------------------------------------------------------------------------------

    def _alignment(self, fraction: float) -> Tensor:
        """Stage 1: the latents of painted masks, and of each other on unlabelled images."""
        count = self.settings.batch
        batch = self._varied(self.labelled.draw(count))
        whole = batch.weight.flatten(1).min(1).values == 1  # a partly painted mask has no latent of its own
        images = [batch.image]
        if len(self.unlabelled):
            images.append(self._varied(self.unlabelled.draw(count)).image)
        with mixed_precision(self.device):
            latents = self.model.align(torch.cat(images) * 2 - 1, sample=self._sampled())
            loss = latents.v.sum() * 0.0
            if whole.any():
                target = self.model.mask_latent(batch.target[whole])
                loss = loss + alignment_loss(latents.v[:count][whole], latents.c[:count][whole], target)
            self._loss.add(loss)
            self._ramp = self.settings.unlabelled_weight * ramp_up(fraction / ALIGN_UNTIL)
            if len(self.unlabelled) and self._ramp > 0:
                cross = cross_alignment_loss(latents.v[count:], latents.c[count:])
                self._unlabelled_loss.add(cross)
                loss = loss + self._ramp * cross
        return loss

    def _segmentation(self, fraction: float) -> Tensor:
        """Stage 2: painted pixels, and pseudo-masks mixed in once there is a pool of them."""
        count = self.settings.batch
        since = (fraction - UNLABELLED_FROM) / (1 - UNLABELLED_FROM)
        self._ramp = self.settings.unlabelled_weight * ramp_up(2 * since) if len(self.pool) else 0.0
        if self._ramp == 0:
            batch = self._varied(self.labelled.draw(count))
            painted = torch.ones_like(batch.weight)
        else:
            batch, painted = self._mixed_batch(count)
        with mixed_precision(self.device):
            branches = self.model(batch.image * 2 - 1, sample=self._sampled())
        loss = mask_loss(branches, batch.target, batch.weight * painted)
        self._loss.add(loss)
        if self._ramp > 0:
            unlabelled = mask_loss(branches, batch.target, batch.weight * (1 - painted))
            self._unlabelled_loss.add(unlabelled)
            loss = loss + self._ramp * unlabelled
        return loss

    def _mixed_batch(self, count: int) -> tuple[Batch, Tensor]:
        """Half painted, half pseudo-labelled crops; in half of the steps a box is swapped between them.

        Returns the batch and (B, crop, crop) float, 1 where a pixel's target was painted by the user.
        """
        half = max(1, count // 2)
        a, b = self._varied(self.labelled.draw(half)), self._varied(self.pool.draw(half))
        painted = torch.ones_like(a.weight), torch.zeros_like(b.weight)
        pairs = [(a.image, b.image), (a.target, b.target), (a.weight, b.weight), painted]
        if self.rng.random() < 0.5:
            box = augment.random_box(self.view.crop, self.view.crop)
            pairs = [augment.mix_boxes(first, second, box) for first, second in pairs]
        image, target, weight, painted_by_user = (torch.cat(pair) for pair in pairs)
        return Batch(image, target, weight), painted_by_user

    def _varied(self, batch: Batch) -> Batch:
        batch = batch.to(self.device)
        return Batch(*self.augmentation(batch.image, batch.target, batch.weight))

    def _sampled(self) -> bool:
        return bool(self.rng.random() < 0.5)  # paper: the V latent is sampled half of the time

    def _step(self, loss: Tensor) -> None:
        self.clock.step += 1
        if not torch.isfinite(loss):
            self._bad_steps += 1
            if self._bad_steps >= 10:
                raise EngineError("Training diverged (the loss is not a number). Start again, or remove odd images.")
            return
        self._bad_steps = 0
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.trained_parts().values(), 3.0)
        self.optimiser.step()
        self.average.update()

    def _set_rate(self, fraction: float, factor: float) -> None:
        """Linear warm-up, then polynomial decay (power 0.9, as in the paper) over the time."""
        warm_up = min(1.0, (self.clock.step + 1) / WARM_UP_STEPS)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * factor * warm_up * max(0.01, (1 - fraction) ** 0.9)

    # ---- looking at whole planes --------------------------------------------------------------------------------

    def _check(self) -> Iterator[Report]:
        """Dice on the held-out images; the best weights so far are kept."""
        if not self.held_out:
            return
        yield self._report("checking", "Checking the masks on images kept back…")
        by_class = self._held_out_dice()
        mean = mean_foreground(by_class) if self.table.ids[0] == 0 else float(np.nanmean(list(by_class.values())))
        if not math.isnan(mean) and (self.dice is None or mean >= self.dice):
            self.dice, self.dice_by_class, self.clean = mean, by_class, self.average.snapshot()

    def _held_out_dice(self) -> dict[int, float]:
        """Mean Dice of each class over the held-out images, nan where a class is on none."""
        ignore = 0 if self.settings.sparse else None
        scores = []
        with self.average.applied():
            for i in self.held_out:
                belief = believe(self.model, self.reader.whole(i, self.view.scale), self.view)
                mask = to_prediction(belief, self.planes[i], i, self.table).mask
                ids = [c for c in self.table.ids if c != 0]
                scores.append(dice(mask, np.asarray(self.planes[i].mask), ids, ignore))
        columns = {c: [s[c] for s in scores if not math.isnan(s[c])] for c in scores[0]}
        return {c: float(np.mean(v)) if v else math.nan for c, v in columns.items()}

    def _still_as_good(self) -> bool:
        """After the held-out images joined training, Dice on them can only fall if something went wrong."""
        values = [v for v in self._held_out_dice().values() if not math.isnan(v)]
        return self.dice is None or not values or float(np.mean(values)) >= self.dice - 0.02

    def _refill_pool(self) -> None:
        """Pseudo-masks of random pieces of the unlabelled images, within a small share of the time."""
        order = self.rng.permutation(self.unlabelled.chosen)
        tiles: list[PoolTile] = []
        begun = self.clock.elapsed
        with self.average.applied(), torch.inference_mode():
            for i in order[:POOL_TILES]:
                tiles.append(self._pseudo_labelled(int(i)))
                used = (self.clock.elapsed - begun) / (self.settings.minutes * 60)
                if self.settings.max_steps is None and len(tiles) >= 8 and used > POOL_SHARE:
                    break
        self.pool.refill(tiles)

    def _pseudo_labelled(self, index: int) -> PoolTile:
        picture = cut_tile(self.planes, self.reader, index, self.view, self.rng)  # (3, h, w)
        height, width = picture.shape[-2:]
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        image = torch.nn.functional.pad(picture[None], padding, mode="replicate").to(self.device)
        with mixed_precision(self.device):
            branches = self.model(image * 2 - 1)
        target, weight = (t[0, :height, :width].to("cpu", torch.uint8) for t in pseudo_mask(branches, CONFIDENCE))
        return PoolTile(picture.half(), target, weight)

    # ---- reports ------------------------------------------------------------------------------------------------

    def _progress(self, stage: Stage) -> Iterator[Report]:
        now = time.monotonic()
        if now - self._previewed > max(PREVIEW_EVERY, 12 * self._preview_seconds):
            yield self._preview(stage)
        elif now - self._reported > REPORT_EVERY:
            yield self._report(stage)

    def _preview(self, stage: Stage) -> Report:
        begun = time.monotonic()
        i = min(self._in_view(), len(self.planes) - 1)
        with self.average.applied():
            belief = believe(self.model, self.reader.whole(i, self.view.scale), self.view)
        preview = to_prediction(belief, self.planes[i], i, self.table)
        self._previewed = time.monotonic()
        self._preview_seconds = self._previewed - begun
        return self._report(stage, preview=preview)

    def _report(self, stage: Stage, message: str = "", **more) -> Report:
        self._reported = time.monotonic()
        return Report(
            stage,
            step=self.clock.step,
            fraction=self.clock.fraction(),
            elapsed=self.clock.elapsed,
            remaining=self.clock.remaining(),
            loss=self._loss.value,
            unlabelled_loss=self._unlabelled_loss.value,
            ramp=self._ramp,
            dice=self.dice,
            dice_by_class=self.dice_by_class,
            held_out=tuple(self.planes[i].name for i in self.held_out),
            message=message,
            **more,
        )

    def _verdict(self) -> str:
        before = self.earlier.get("training", {}).get("dice")
        if self.dice is None:
            return "Done. Paint a second image to see how good the masks are on images kept back."
        images = "1 image" if len(self.held_out) == 1 else f"{len(self.held_out)} images"
        change = f" ({before:.2f} in the round before)" if before is not None else ""
        return f"Held-out Dice {self.dice:.2f} on {images}{change}."

    def _header(self) -> dict:
        names = self.request.classes
        trained = [self.planes[i].name for i in self.training_planes if i not in self.held_out]
        return {
            "classes": [
                {"id": c, "name": names.get(c, "background" if c == 0 else f"class {c}")} for c in self.table.ids
            ],
            "sparse": self.settings.sparse,
            "backbone": self.model.backbone.name,
            "mapper_width": self.model.mapper_width,
            "view": asdict(self.view),
            "structure_width": self.width,
            "training": {
                "rounds": self.earlier.get("training", {}).get("rounds", 0) + 1,
                "steps": self.clock.step,
                "seconds": round(self.clock.elapsed, 1),
                "device": describe_device(self.device),
                "settings": asdict(self.settings),
                "labelled": len([p for p in self.planes if p.mask is not None]),
                "unlabelled": len(self.unlabelled),
                "held_out": [self.planes[i].name for i in self.held_out],
                "trained_on": sorted({*trained, *self.earlier.get("training", {}).get("trained_on", ())}),
                "dice": self.dice,
                "dice_by_class": {str(c): v for c, v in self.dice_by_class.items()},
            },
        }


class _RunningMean:
    """Exponential mean of a loss, for a curve that can be read."""

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, loss: Tensor) -> None:
        new = float(loss.detach())
        if math.isfinite(new):
            self.value = new if self.value is None else 0.9 * self.value + 0.1 * new
