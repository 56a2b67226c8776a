"""The session: one set of images, what is painted on them, the classes, and the rounds trained so far.

From a brush stroke to a predicted layer:

1. A stroke ends; the layer bridge calls `Project.update_masks` for the plane it was on.
2. The project keeps a copy of every painted plane. Nothing changed: nothing happens.
3. Train is pressed: `Project.snapshot` turns the copies into a frozen job with a new generation number.
4. Reports of the training process come back with that number; those of an older one are dropped.
5. `Project.finish` has the round remembered, and which model is in use (see `rounds`).

A project that is kept on disk hands every change to a `Keeper` (`napari_semigda.store`), which saves it in
its own time.

No Qt, no napari: a project can be driven by a script or a test as well as by a dock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from psygnal import Signal

from napari_semigda.classes import Classes, PaintClass, add, colours_of, first_classes, named
from napari_semigda.engine.check import check_layout, check_mask
from napari_semigda.engine.exchange import Job, Outcome, PredictRequest, Standing
from napari_semigda.engine.types import EngineError, Report, Settings, TrainRequest
from napari_semigda.log import Log, computer_log
from napari_semigda.review import Marks, Review
from napari_semigda.rounds import KeptRounds, Round, Rounds
from napari_semigda.scratch import Scratch
from napari_semigda.stacks import ImageStack, StackName


class Keeper(Marks, KeptRounds, Protocol):
    """Where a project is kept."""

    classes: Classes
    scribbles: bool
    pictures: Any
    """Small pictures of the images, ``get(plane)`` and ``put(plane, pixels)``."""
    log: Log
    """Where it is noted what happens."""

    def read_masks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number and mask of every painted plane."""

    def save_masks(self, planes: Iterable[int], masks: Mapping[int, np.ndarray]) -> None:
        """Save what changed on `planes`, soon."""

    def save_classes(self, classes: Classes, scribbles: bool) -> None:
        """Save the classes and the style of painting, soon."""

    def new_model(self) -> Path:
        """Where the model of the next round goes."""

    def close(self) -> bool:
        """Save what is left."""


class Project:
    """What the user works on, and what came of it so far.

    Parameters
    ----------
    stack : ImageStack
        The images.
    folder : Path, optional
        Where the exchange with the training process and the models live. A folder of its own in the system's
        temporary place by default; it is removed by `close`.
    keeper : Keeper, optional
        Where classes, masks and rounds come from and are kept. Without one they last as long as the session.

    Attributes
    ----------
    log : Log
        Where it is noted what happens: the keeper's, or without one the computer's.
    """

    masks_changed = Signal()
    classes_changed = Signal()
    """Names, colours, order or number of the classes, or the style of painting."""

    def __init__(self, stack: ImageStack, folder: Path | None = None, keeper: Keeper | None = None) -> None:
        self.stack = stack
        self.keeper = keeper
        self._scratch = Scratch() if folder is None else None
        self.folder = folder or self._scratch.path
        self.generation = 0
        self.log = computer_log() if keeper is None else keeper.log
        self.log.hide([stack.name])
        self.rounds = Rounds(keeper)
        self._classes = first_classes()
        self._scribbles = False
        self._masks: dict[int, np.ndarray] = {}
        self._running: dict[int, Job] = {}
        if keeper is not None:
            self._classes, self._scribbles = keeper.classes, keeper.scribbles
            self._masks = dict(keeper.read_masks())
        self.review = Review(self._masks, keeper)
        self.rounds.changed.connect(self._tell_dice)
        self._tell_dice()

    def _tell_dice(self) -> None:
        """Tell the review how well the model in use does on its held-out images."""
        self.review.dice = self.rounds.dice_by_image(map(self.stack.plane_name, range(len(self.stack))))

    # -- classes ------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> dict[int, str]:
        """Names by class id, in the user's order; 0 has none."""
        return {each.number: each.name for each in self._classes}

    @property
    def class_list(self) -> Classes:
        """All that is known of the classes, in the user's order."""
        return self._classes

    @property
    def colours(self) -> dict[int, str]:
        """``"#rrggbb"`` by class id."""
        return colours_of(self._classes)

    @property
    def scribbles(self) -> bool:
        """Style of painting: with scribbles 0 means "not annotated"; else what is left unpainted is background."""
        return self._scribbles

    def set_classes(self, classes: Classes, scribbles: bool | None = None) -> None:
        """Replace all classes, and the style of painting where one is given."""
        before = self._classes, self._scribbles
        self._classes = classes
        self._scribbles = self._scribbles if scribbles is None else scribbles
        if before != (self._classes, self._scribbles):
            if self.keeper is not None:
                self.keeper.save_classes(self._classes, self._scribbles)
            self.classes_changed.emit()

    def name_classes(self, names: Mapping[int, str]) -> None:
        """Replace all class names; classes that stay keep their colours."""
        self.set_classes(named(names, self._classes))

    def one_more_class(self, name: str = "") -> tuple[Classes, PaintClass]:
        """What the classes would be with one more, and that one.

        Its number is none that the model in use knows: what was predicted as a class that has been deleted since
        would else be taken for the new one.
        """
        return add(self._classes, name, self.rounds.known_classes())

    # -- masks --------------------------------------------------------------------------------------------------

    @property
    def painted(self) -> tuple[int, ...]:
        """Numbers of the planes that hold any paint."""
        return tuple(sorted(self._masks))

    def update_masks(self, masks: Any, planes: Iterable[int] | None = None) -> bool:
        """Copy what changed.

        Parameters
        ----------
        masks : array-like
            Whole numbers of the shape `ImageStack.shape`.
        planes : iterable of int, optional
            Where something may have changed; all planes by default.

        Returns
        -------
        bool
            Whether anything had changed; `masks_changed` is emitted then.
        """
        changed = []
        for index in range(len(self.stack)) if planes is None else planes:
            height, width = self.stack.size(index)
            mask = np.asarray(masks[self.stack.position(index)])[:height, :width]
            if not mask.any():
                if self._masks.pop(index, None) is not None:
                    changed.append(index)
            elif not np.array_equal(mask, self._masks.get(index)):
                self._masks[index] = mask.copy()
                changed.append(index)
        if changed:
            if self.keeper is not None:
                self.keeper.save_masks(changed, self._masks)
            self.masks_changed.emit()
        return bool(changed)

    def masks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number and mask, (H, W) in the image's own size, of every painted plane."""
        yield from self._masks.items()

    def forget_masks(self) -> None:
        """Start over with no paint, as when another masks layer is chosen. What is kept on disk stays."""
        if self.keeper is None and (self._masks or self.review.empty()):
            self._masks.clear()
            self.review.forget_marks()
            self.masks_changed.emit()

    def classes_painted(self) -> set[int]:
        """Class ids in use on any plane."""
        return {int(number) for mask in self._masks.values() for number in np.unique(mask)} - {0}

    def pixels_of(self, number: int) -> dict[int, int]:
        """How many pixels of a class are painted, by plane number; planes without any are left out."""
        counts = {index: int(np.count_nonzero(mask == number)) for index, mask in self._masks.items()}
        return {index: count for index, count in counts.items() if count}

    # -- from paint to a round ----------------------------------------------------------------------------------

    def goes_on_from(self, backbone: str, afresh: bool = False) -> Standing | None:
        """The model that a round trained now would correct; None when it would start from nothing.

        Parameters
        ----------
        backbone : str
            The one asked for.
        afresh : bool
            Start from new weights even when a round went before.
        """
        return None if afresh else self.rounds.goes_on_from(backbone, self.classes, self._scribbles)

    def snapshot(self, settings: Settings, view: int = 0, afresh: bool = False, kind: StackName | None = None) -> Job:
        """Freeze the images, the masks as they are now and the settings into one job.

        An image that was verified to be empty is background all over; with scribbles, which leave background unknown
        where nobody painted it, it is an unlabelled one.

        Parameters
        ----------
        settings : Settings
            How to train.
        view : int
            The plane on screen.
        afresh : bool
            Start from new weights even when a round went before.
        kind : str, optional
            What the planes are, where the user says it; see `ImageStack.plane`.

        Returns
        -------
        Job
            With a generation number no earlier job had.

        Raises
        ------
        EngineError
            When nothing is painted or a mask cannot be learnt from; nothing has changed then.
        """
        if not self._masks:
            raise EngineError(f"Nothing is painted on {self.stack.name}: paint at least one whole image, then train.")
        masks = dict(self._masks)
        if not settings.sparse:
            masks |= {index: np.zeros(self.stack.size(index), np.uint8) for index in self.review.empty()}
        planes = tuple(self.stack.plane(index, masks.get(index), kind) for index in range(len(self.stack)))
        for index in self.painted:
            check_layout(planes[index])
            check_mask(planes[index])
        going_on, in_use = self.goes_on_from(settings.backbone, afresh), self.rounds.in_use
        request = TrainRequest(
            planes=planes,
            out=self._new_model(),
            settings=settings,
            init=None if going_on is None else going_on.model,
            classes=self.classes,
            hold_out=() if in_use is None else in_use.held_out,
            colours=self.colours,
        )
        request.out.parent.mkdir(parents=True, exist_ok=True)
        return self._job(request, view, in_use)

    def _new_model(self) -> Path:
        if self.keeper is not None:
            return self.keeper.new_model()
        return self.folder / "models" / f"round-{self.generation + 1}.semigda"

    def prediction_job(
        self, model: Path, view: int = 0, device: str = "auto", smooth: float = 0.0, masks: Path | None = None
    ) -> Job:
        """Freeze the images into a job that predicts them all with a finished model, smoothed between slices.

        With `masks`, a folder that is opened by `grown.masks_in`, the masks of large images grow there, not smoothed.
        """
        planes = tuple(self.stack.plane(index) for index in range(len(self.stack)))
        return self._job(PredictRequest(planes, model, device, smooth, masks, self.stack.shape), view)

    def _job(self, request: TrainRequest | PredictRequest, view: int, before: Standing | None = None) -> Job:
        self.generation += 1
        job = Job(request, self.generation, view, before)
        self._running[self.generation] = job
        painted = sum(plane.mask is not None for plane in request.planes)
        if isinstance(request, TrainRequest):
            kind, settings = "round", asdict(request.settings)
        else:
            kind, settings = "predicting", {"device": request.device, "smooth": request.smooth}
        self.log.event(
            f"{kind} begun", generation=self.generation, planes=len(request.planes), painted=painted, **settings
        )
        return job

    def finish(self, generation: int, outcome: Outcome, last: Report) -> Round | None:
        """Remember how a training ended.

        Parameters
        ----------
        generation : int
            Of the job that ended.
        outcome : Outcome
            What the training process said of it.
        last : Report
            The last report of that training, with its Dice.

        Returns
        -------
        Round or None
            The new round; None when the job is not one of ours or made no model.
        """
        job = self._running.get(generation)
        self.log.event(
            "round ended",
            generation=generation,
            steps=last.step,
            seconds=last.elapsed,
            loss=last.loss,
            dice=last.dice,
            held_out=len(last.held_out),
            model=outcome.model is not None,
            stopped=outcome.stopped,
            kept_before=outcome.kept,
            skipped=len(outcome.skipped),
        )
        self._running = {number: other for number, other in self._running.items() if number > generation}
        if job is None or outcome.model is None or not isinstance(job.request, TrainRequest):
            return None
        return self.rounds.add(job, outcome, last)

    def save_model(self, path: Path) -> Path:
        """Copy the model in use to `path`, whole or not at all; the suffix becomes ``.semigda``.

        Its classes are called as they are now, whatever they were called when it was trained.

        Raises
        ------
        EngineError
            When there is no model yet or the file cannot be written.
        """
        return self.rounds.save_model(path, self.classes, self.colours)

    def close(self) -> None:
        """Save what is left and remove the folder if it is ours; the project must not be used afterwards."""
        if self.keeper is not None:
            self.keeper.close()
        if self._scratch is not None:
            self._scratch.close()
