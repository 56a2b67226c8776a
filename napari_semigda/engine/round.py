"""One round of training, from painted masks to a saved model.

Fractions of the time, for a first round with unlabelled images:

     0 % - 8 %    stage 1 (DAM): both branches learn the latents of the masks
     8 % - 100 %  stage 2 (CDSA) on painted pixels
    50 % - 100 %  ... and on pseudo-masks of the unlabelled images, from the averaged weights
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

from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.checkpoint import load_model, read_header, save_model
from napari_semigda.engine.device import describe_device, pick_device
from napari_semigda.engine.losses import ramp_up
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.predict import believe, to_prediction
from napari_semigda.engine.sampling import ClassTable, CropSampler
from napari_semigda.engine.schedule import Clock, Events, Plan
from napari_semigda.engine.types import EngineError, Report, Stage, TrainRequest
from napari_semigda.engine.validate import Examiner, hold_out
from napari_semigda.engine.view import PlaneReader, View, choose_view

ALIGN_UNTIL = 0.08
UNLABELLED_FROM = 0.5
LEAST_STEPS = 150  # a shorter run learns more from painted pixels alone: pseudo-masks come into stage 2 only in longer
CHECKS = (0.2, 0.35, 0.5, 0.65)
REFIT_FROM = 0.65
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
        Index of the plane to preview, None for no previews.
    """

    def __init__(self, request: TrainRequest, stopped: Callable[[], bool], in_view: Callable[[], int | None]) -> None:
        self.request, self.settings = request, request.settings
        self.planes = request.planes
        self._stopped, self._in_view = stopped, in_view
        replayed = read_header(request.plan).get("plan", {}) if request.plan else {}
        self.clock = Clock(self.settings, replayed.get("fractions", ()))
        self.device = pick_device(self.settings.device)
        torch.manual_seed(self.settings.seed)
        self.rng = np.random.default_rng(self.settings.seed)
        self.reader = PlaneReader(self.planes)
        self._start_model()
        self.average = MovingAverage(self.model.trained_parts())
        self._choose_planes()
        self.optimiser = self._make_optimiser()
        self._pseudo_masks_pay = False  # decided at half-time
        self._ramp = 0.0
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
            source, its = self.settings.backbone_source, self.earlier["backbone"]
            if self.settings.backbone not in ("auto", its):
                raise EngineError(
                    f"{self.request.init} is built on the backbone {its}, so it cannot go on with "
                    f"{self.settings.backbone}: choose {its}, or train from the start."
                )
            self.model, _ = load_model(Path(self.request.init), self.device, clean=True, source=source)
            self.model.class_count = count
            self.view, self.width = View.of_model(self.earlier), self.earlier["structure_width"]
        else:
            backbone = load_backbone(self.settings.backbone, source=self.settings.backbone_source)
            self.model = SemiGDA(backbone, count).to(self.device, memory_format=torch.channels_last)
            self.view, self.width = choose_view(self.planes, self.reader, self.settings.crop, self.settings.sparse)
        self.model.train()

    def _choose_planes(self) -> None:
        """Who teaches, who is kept back, who stays unlabelled (flat pictures have nothing to say)."""
        training = self.earlier.get("training", {})
        held_out = hold_out(self.planes, training.get("held_out", ()), training.get("trained_on", ()))
        self.examiner = Examiner(self.planes, held_out, self.reader, self.view, self.table)
        painted = [i for i, plane in enumerate(self.planes) if plane.mask is not None]
        bare = [i for i, plane in enumerate(self.planes) if plane.mask is None and not self.reader.is_flat(i)]
        self.teaching = [i for i in painted if i not in held_out]
        self.objective = Objective(
            self.model,
            self.average,
            self._sampler(self.teaching),
            self._sampler(bare),
            self.settings.batch,
            self.rng,
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
        checks, refit, half_time = Events(*CHECKS), Events(REFIT_FROM), Events(UNLABELLED_FROM)
        if self.earlier:
            yield from self._check()
        while (fraction := self.clock.fraction()) < 1 and not self._stopped():
            if checks.due(fraction):
                yield from self._check()
            if refit.due(fraction):
                self._let_held_out_help()
            if half_time.due(fraction):
                self._pseudo_masks_pay = self.clock.steps_expected(fraction) >= LEAST_STEPS
            stage = self._stage(fraction)
            self._set_rate(fraction)
            self._ramp = self._unlabelled_weight(stage, fraction)
            self.clock.begin_step(fraction)
            learn = self.objective.alignment if stage == "aligning" else self.objective.segmentation
            self._step(learn(self._ramp))
            yield from self._progress(stage)
        yield from self._finish()

    def _stage(self, fraction: float) -> Stage:
        if fraction < ALIGN_UNTIL and not self.earlier:
            return "aligning"
        return "unlabelled" if self._pseudo_masks_pay and self._uses_unlabelled() else "learning"

    def _unlabelled_weight(self, stage: Stage, fraction: float) -> float:
        """The ramp of each stage; full weight halfway through the unlabelled part of stage 2."""
        if not self._uses_unlabelled() or stage == "learning":
            return 0.0
        since = (
            fraction / ALIGN_UNTIL if stage == "aligning" else 2 * (fraction - UNLABELLED_FROM) / (1 - UNLABELLED_FROM)
        )
        return self.settings.unlabelled_weight * ramp_up(since)

    def _uses_unlabelled(self) -> bool:
        return len(self.objective.unlabelled) > 0 and self.settings.unlabelled_weight > 0

    def _check(self) -> Iterator[Report]:
        """Dice on the held-out images, as long as they are kept back; the best weights are remembered."""
        if self.examiner.held_out and not self._refitted:
            yield self._report("checking", "Checking the masks on images kept back…")
            self.examiner.examine(self.model, self.average)

    def _let_held_out_help(self) -> None:
        """Painted images are few: once Dice has been measured on the held-out ones, training uses them too."""
        if self.examiner.held_out:
            self.teaching = sorted([*self.teaching, *self.examiner.held_out])
            self.objective.labelled = self._sampler(self.teaching)

    @property
    def _refitted(self) -> bool:
        return set(self.examiner.held_out) <= set(self.teaching)

    def _finish(self) -> Iterator[Report]:
        stage: Stage = "stopped" if self.clock.fraction() < 1 else "done"
        yield from self._check()
        examiner = self.examiner
        if examiner.best and not (self._refitted and examiner.still_as_good(self.model, self.average)):
            self.average.load(examiner.best)
        with self.average.applied():
            save_model(self.request.out, self.model, self._header(), examiner.best)
        yield self._report(stage, self._verdict(), model=self.request.out)

    # ---- one step -----------------------------------------------------------------------------------------------

    def _step(self, loss: Tensor) -> None:
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

    def _set_rate(self, fraction: float) -> None:
        """Linear warm-up, then polynomial decay (power 0.9, as in the paper) over the time."""
        factor = WARM_RATE if self.earlier else 1.0
        warm_up = min(1.0, (self.clock.step + 1) / WARM_UP_STEPS)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * factor * warm_up * max(0.01, (1 - fraction) ** 0.9)

    # ---- reports ------------------------------------------------------------------------------------------------

    def _progress(self, stage: Stage) -> Iterator[Report]:
        now, in_view = time.monotonic(), self._in_view()
        if in_view is not None and now - self._previewed > max(PREVIEW_EVERY, 12 * self._preview_seconds):
            yield self._preview(stage, min(in_view, len(self.planes) - 1))
        elif now - self._reported > REPORT_EVERY:
            yield self._report(stage)

    def _preview(self, stage: Stage, index: int) -> Report:
        begun = time.monotonic()
        with self.average.applied():
            belief = believe(self.model, self.reader.whole(index, self.view.scale), self.view)
        preview = to_prediction(belief, self.planes[index], index, self.table)
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
            loss=self.objective.loss.value,
            unlabelled_loss=self.objective.unlabelled_loss.value,
            ramp=self._ramp,
            dice=self.examiner.dice,
            dice_by_class=self.examiner.dice_by_class,
            held_out=tuple(self.planes[i].name for i in self.examiner.held_out),
            dice_by_image=self.examiner.dice_by_image,
            message=message,
            **more,
        )

    def _verdict(self) -> str:
        before = self.earlier.get("training", {}).get("dice")
        if self.examiner.dice is None:
            return "Done. Paint a second image to see how good the masks are on images kept back."
        images = "1 image" if len(self.examiner.held_out) == 1 else f"{len(self.examiner.held_out)} images"
        change = f" ({before:.2f} in the round before)" if before is not None else ""
        return f"Held-out Dice {self.examiner.dice:.2f} on {images}{change}."

    def _header(self) -> dict:
        names = self.request.classes
        trained = [self.planes[i].name for i in self.teaching if i not in self.examiner.held_out]
        return {
            "classes": [
                {"id": c, "name": names.get(c, "background" if c == 0 else f"class {c}")} for c in self.table.ids
            ],
            "sparse": self.settings.sparse,
            "backbone": self.model.backbone.name,
            "mapper_width": self.model.mapper_width,
            "view": asdict(self.view),
            "structure_width": self.width,
            "plan": asdict(Plan(self.clock.passed, self.settings.batch, **asdict(self.view))),
            "training": {
                "rounds": self.earlier.get("training", {}).get("rounds", 0) + 1,
                "steps": self.clock.step,
                "seconds": round(self.clock.elapsed, 1),
                "device": describe_device(self.device),
                "settings": asdict(self.settings),
                "labelled": len([p for p in self.planes if p.mask is not None]),
                "unlabelled": len(self.objective.unlabelled),
                "held_out": [self.planes[i].name for i in self.examiner.held_out],
                "trained_on": sorted({*trained, *self.earlier.get("training", {}).get("trained_on", ())}),
                "dice": self.examiner.dice,
                "dice_by_class": {str(c): v for c, v in self.examiner.dice_by_class.items()},
            },
        }
