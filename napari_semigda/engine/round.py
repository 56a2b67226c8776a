"""One round of training, from painted masks to a saved model.

Fractions of the time, for a first round with unlabelled images:

     0 % - 8 %    stage 1 (DAM): both branches learn the latents of the masks
     8 % - 100 %  stage 2 (CDSA) on painted pixels, half of them in colours of unlabelled images
    50 % - 100 %  ... and on pieces of unlabelled images with pseudo-masks from the averaged weights, where the steps
                  so far show that there will be enough of them
    65 % - 100 %  ... and on the images held out so far: their Dice has been measured, now they help

A run without a fixed end waits at 60 % until checks bring no gain any more (`OpenEnd`).

A correction starts from the clean weights of the round before, which its held-out images have not taught, so that
figures stay honest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.checkpoint import load_model, read_header, save_model
from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.contrast import describe_reading, reading_of
from napari_semigda.engine.ending import choose_weights, verdict
from napari_semigda.engine.examiner import Examiner
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.learner import Learner
from napari_semigda.engine.lessons import Lessons
from napari_semigda.engine.losses import ramp_up
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.outset import choose_plan
from napari_semigda.engine.pace import StepTimes, measure_pace
from napari_semigda.engine.planner import Pace, mended, smaller, tail_seconds, training_seconds
from napari_semigda.engine.pose import averaging_pose
from napari_semigda.engine.predict import believe, to_prediction
from napari_semigda.engine.record import began_with, header_of
from napari_semigda.engine.reporter import Reporter
from napari_semigda.engine.resume import Checkpoints, catch_up, restore
from napari_semigda.engine.schedule import Clock, Events, OpenEnd
from napari_semigda.engine.several import ALONE, Alone
from napari_semigda.engine.spreading import ASKED, agree
from napari_semigda.engine.trouble import ran_out_of_memory
from napari_semigda.engine.types import EngineError, Prediction, Report, Stage, TrainRequest
from napari_semigda.engine.view import PlaneReader, View, choose_view

ALIGN_UNTIL = 0.08
UNLABELLED_FROM = 0.5
CHECKS = (0.2, 0.35, 0.5, 0.65)
SPREAD_FROM = 0.4
REFIT_FROM = 0.65
LOOK_AT_PAINT = 0.04  # share of the time in which painted images are held against their masks, before and after


class Round:
    """State of one round; see the module for its course.

    Parameters
    ----------
    request
        Checked (`check_request`).
    clock
        Running since the user pressed Train.
    stopped
        Asked after every step.
    in_view
        Index of the plane to preview, None for no previews.
    saved
        The state of a run of this request that was cut off, see `resume`.
    several
        The processes that go through this round together, each with a round of its own.
    """

    def __init__(
        self,
        request: TrainRequest,
        clock: Clock,
        stopped: Callable[[], bool],
        in_view: Callable[[], int | None],
        saved: Mapping[str, Any] | None = None,
        several: Alone = ALONE,
    ) -> None:
        self.request, self.settings, self.clock = request, request.settings, clock
        self.planes = request.planes
        self._stopped, self._in_view, self.several = stopped, in_view, several
        with several.together():
            self.device = several.device(self.settings.device)
            torch.manual_seed(self.settings.seed)
            self.rng = np.random.default_rng(self.settings.seed)
            self._start_model()
            self.learner = Learner(self.model, several)
            self.average = self.learner.average
            self.lessons = self._make_lessons()
        self.plan, self.view, self.width = several.told(lambda: choose_plan(self, saved))
        with several.together():
            self._get_ready(saved)

    # ---- setting up ---------------------------------------------------------------------------------------------

    def _get_ready(self, saved: Mapping[str, Any] | None) -> None:
        """All that hangs on the plan."""
        torch.manual_seed(self.settings.seed)  # a replay measures nothing, so measuring must leave no trace
        self.objective = self._make_objective(self.plan.batch, self.rng)
        self.objective.several = self.several
        self.examiner = Examiner(
            self.planes, self.lessons.held_out, self.reader, self.view, self.table, self.request.keep_start
        )
        self.reporter = Reporter(self.clock, self.plan, self.examiner, self.objective, self._checked, self._predicted)
        self.step_times = StepTimes(self.clock.read)  # of stage 2
        self.pseudo_steps = 0  # with pseudo-masks so far
        self.taught = 0  # steps of stage 2 that went well
        self.checkpoints = Checkpoints(self.request.checkpoint if self.several.first else None)
        if saved is not None:
            restore(self, saved)

    def _start_model(self) -> None:
        """A new network, or the last round's; classes are colours, so new ones need no new weights."""
        self.earlier = read_header(self.request.init) if self.request.init else {}
        self.table = ClassTable.of(self.planes, self.settings.sparse)
        self.reader = PlaneReader(self.planes, reading_of(self.request, self.table, self.earlier))
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
            self.view, self.width = choose_view(self.planes, self.reader, self.settings.crop)
        self.model.train()
        if self.settings.compile:
            self.model.compile(dynamic=False)  # crops have one size; pictures of all sizes pass by `forward`

    def _make_lessons(self) -> Lessons:
        training = self.earlier.get("training", {})
        return Lessons(
            self.planes,
            self.reader,
            self.table,
            self.rng,
            held_out=training.get("held_out", self.request.hold_out),
            trained_on=training.get("trained_on", ()),
            use_unlabelled=self.settings.unlabelled_weight > 0,
        )

    def measure_pace(self, batch: int) -> Pace:
        """Seconds of a step of so many crops, or as many as there is memory for."""
        rng = np.random.default_rng(0)
        picture = self.reader.whole(self.lessons.teaching[0], self.view.scale)
        objective_of = lambda crops: self._make_objective(crops, rng)  # noqa: E731
        try:
            return measure_pace(self.model, objective_of, batch, picture, self.view, self.clock.read)
        except Exception as error:
            if batch == 1 or not ran_out_of_memory(error):
                raise
        self.learner.free()
        pace = self.measure_pace(batch // 2)
        return replace(pace, step=2 * pace.step, room=1.0)

    def seconds_left(self, pace: Pace) -> float:
        """Take what follows the last step off the training; return what is sure to come of that."""
        started, share = self.clock.elapsed, OpenEnd.least if self.settings.until_best else 1.0
        tail = tail_seconds(pace, self._checked, self._predicted)
        self.clock.seconds = training_seconds(self.settings.minutes, tail, started)
        return max(0.0, share * self.clock.seconds - started)

    @property
    def _checked(self) -> float:
        """Million pixels of the images held out."""
        return sum(math.prod(self.planes[i].size) for i in self.lessons.held_out) / 1e6

    @property
    def _predicted(self) -> float:
        """Million pixels of all planes that will be predicted, in each orientation."""
        looks = len({0, averaging_pose(self.view.poses)})
        return looks * sum(math.prod(p.size) for p in self.planes) / 1e6 if self.request.then_predict else 0.0

    def _make_objective(self, batch: int, rng: np.random.Generator) -> Objective:
        painted, unlabelled = self.lessons.painted_crops(self.view, rng), self.lessons.unlabelled_crops(self.view, rng)
        return Objective(self.model, self.average, painted, unlabelled, batch, rng)

    # ---- the course ---------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Report]:
        """Train, save, and report; see `Trainer.fit`."""
        try:
            yield from self._course()
        finally:
            self.checkpoints.finish()

    def _course(self) -> Iterator[Report]:
        yield self.reporter.report("starting", self._describe())
        checks, spread, refit = Events(*CHECKS), Events(SPREAD_FROM), Events(REFIT_FROM)
        halfway = Events(UNLABELLED_FROM)
        for fraction in self.clock.passed[-1:]:  # of a run that was cut off
            for events in (checks, spread, refit, halfway):
                events.due(fraction)
        if self.earlier and not self.clock.step:
            yield from self._check(start=True)
        while (fraction := self._fraction()) < 1 and not self.learner.given_up:
            if checks.due(fraction):
                yield from self._check()
            if self.several.same(self.clock.ask_whether_it_improves()):
                yield from self._check()
                self.clock.note(self._standing())
            if spread.due(fraction) and self.settings.sparse:
                self._try_to_spread()
            if refit.due(fraction):
                self.let_held_out_help()
            if halfway.due(fraction) and not self.request.plan:
                self.plan = self.several.told(lambda: mended(self.plan, self.step_times.mean))
            stage = self._stage(fraction)
            self.learner.set_rate(fraction, self.clock.step, self.plan.steps)
            ramp = self.reporter.ramp = self._unlabelled_weight(stage, fraction)
            self.pseudo_steps += stage == "unlabelled"
            self.clock.begin_step(fraction)
            self._step(stage, ramp)
            self.checkpoints.step(self)
            yield from self._progress(stage)
        yield from self._finish()

    def _fraction(self) -> float:
        """How far the run is, 0..1; 1 as well where somebody wants it to stop."""
        mine = self.clock.fraction() if self.several.first else 0.0
        return self.several.most(1.0 if self._stopped() else mine)

    def _describe(self) -> str:
        """What was read from the painted masks, for the dock."""
        told = self.view.describe(self.width, self.settings.sparse)
        why = describe_reading(self.reader.rule) if self.settings.contrast == "auto" else ""
        return f"{told} {why}".strip()

    def _stage(self, fraction: float) -> Stage:
        if fraction < ALIGN_UNTIL and not self.earlier:
            return "aligning"
        pays = fraction >= UNLABELLED_FROM and self.plan.unlabelled
        return "unlabelled" if pays and self._uses_unlabelled() else "learning"

    def _unlabelled_weight(self, stage: Stage, fraction: float) -> float:
        """The ramp of each stage; full weight after half as many steps with pseudo-masks as there were without.

        There it goes by steps: a run without a fixed end spends many of them at one fraction.
        """
        if not self._uses_unlabelled() or stage == "learning":
            return 0.0
        since = fraction / ALIGN_UNTIL
        if stage == "unlabelled":
            since = 2 * self.pseudo_steps / max(1, self.clock.step - self.pseudo_steps)
        return self.settings.unlabelled_weight * ramp_up(since)

    def _uses_unlabelled(self) -> bool:
        return len(self.objective.unlabelled) > 0

    def _check(self, start: bool = False) -> Iterator[Report]:
        """Dice on the held-out images, as long as they are kept back; the last good weights are remembered."""
        if not self.lessons.refitted:
            yield self.reporter.report("checking", "Checking the masks on images kept back…")
            self.model.v_share = self.several.told(lambda: self._examine(start))

    def _examine(self, start: bool) -> float:
        """Let the examiner look at the averaged weights; returns what branch V counts from now on."""
        if not start:
            self.examiner.examine(self.model, self.average)
        elif [entry["id"] for entry in self.earlier["classes"]] == list(self.table.ids):
            self.examiner.begin(self.model, self.average, self.lessons.new, self._time_to_look())
        return self.model.v_share

    def _time_to_look(self) -> Callable[[], bool]:
        """Whether one more painted image can be held against its mask; the answer turns to no quite soon."""
        share = LOOK_AT_PAINT * (3 if self.examiner.worse else 1)  # then somebody will want to know why
        end = self.clock.read() + share * self.clock.seconds
        return lambda: self.clock.read() < end and not self._stopped()

    def _standing(self) -> float:
        """What gets higher as the masks get better: the held-out Dice, or without held-out images the loss."""
        if self.examiner.dice is not None:
            return self.examiner.dice
        return -math.inf if self.objective.loss.value is None else -self.objective.loss.value

    def _try_to_spread(self) -> None:
        """Let strokes go on in the pictures, where the network agrees with that."""
        spread, asked = self.lessons.spread(), self.lessons.teaching[:ASKED]
        looks = ((self.planes[i].mask, spread[i].mask, self._look_at(i).mask) for i in asked)
        if self.several.told(lambda: agree(looks, self.table.ids)):
            self.lessons.use_spread(spread)
            self.learn_anew()

    def let_held_out_help(self) -> None:
        """Painted images are few: once Dice has been measured on the held-out ones, training uses them too."""
        if self.lessons.held_out:
            self.lessons.let_held_out_help()
            self.learn_anew()

    def learn_anew(self) -> None:
        """Crops come from the lessons as they are now."""
        self.objective.labelled = self.lessons.painted_crops(self.view)

    def _progress(self, stage: Stage) -> Iterator[Report]:
        in_view = self._in_view()
        index = None if in_view is None else min(in_view, len(self.planes) - 1)
        if index is not None and self.reporter.preview_due(index):
            yield self.reporter.preview(stage, lambda: self._look_at(index))
        elif self.reporter.due(stage):
            yield self.reporter.report(stage)

    def _look_at(self, index: int) -> Prediction:
        with self.average.applied():
            belief = believe(self.model, self.reader.whole(index, self.view.scale), self.view)
        return to_prediction(belief, self.planes[index], index, self.table)

    def _finish(self) -> Iterator[Report]:
        with self.several.together():
            if self.learner.given_up and not self.taught and not self.earlier:
                raise EngineError("Training diverged (the loss is not a number). Start again, or remove odd images.")
        stage: Stage = "stopped" if self.clock.fraction() < 1 else "done"
        if self.clock.step or not self.earlier:
            yield from self._check()
        findings = self.several.told(self._save)
        yield self.reporter.report(stage, verdict(self, findings), model=self.request.out, findings=findings)

    def _save(self) -> Findings:
        """Write the model; returns what there is to judge the round by."""
        self.examiner.look_at_paint(self.model, self.average, self.lessons.teaching, self._time_to_look())
        choose_weights(self)
        findings = replace(self.examiner.findings(), began_with=began_with(self))
        with self.average.applied():
            save_model(self.request.out, self.model, header_of(self, findings), self.examiner.kept_weights)
        self.checkpoints.drop()
        return findings

    # ---- one step -----------------------------------------------------------------------------------------------

    def _step(self, stage: Stage, ramp: float) -> None:
        learn = self.objective.alignment if stage == "aligning" else self.objective.segmentation
        try:
            with nullcontext() if stage == "aligning" else self.step_times.timed():
                good = self.learner.step(learn(ramp))
        except Exception as error:
            plan = smaller(self.plan, self.several.count) if ran_out_of_memory(error) else None
            if plan is None:
                raise
        else:
            self.taught += good and stage != "aligning"
            self.reporter.note = self.reporter.note if good else self.learner.note or self.reporter.note
            return
        self.plan, self.view = plan, replace(self.view, crop=plan.crop)
        self.step_times = StepTimes(self.clock.read)
        self.learner.free()  # not before the error, which holds on to what the step had made
        self.objective.resize(plan.batch, self.view)
        catch_up(self)
        pieces = f"{plan.batch} piece{'s' if plan.batch > 1 else ''} of {plan.crop} x {plan.crop} pixels"
        self.reporter.note = f"Memory ran out, so training goes on with {pieces} at a time."
