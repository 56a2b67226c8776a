"""The session: one set of images, what is painted on them, the class names, and the rounds trained so far.

From a brush stroke to a predicted layer:

1. A stroke ends; the layer bridge calls `Project.update_masks` for the plane it was on.
2. The project keeps a copy of every painted plane. Nothing changed: nothing happens.
3. Train is pressed: `Project.snapshot` turns the copies into a frozen job with a new generation number.
4. Reports of the training process come back with that number; those of an older one are dropped.
5. `Project.finish` remembers the round and which model is in use.

No Qt, no napari: a project can be driven by a script or a test as well as by a dock.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from psygnal import Signal

from napari_semigda.engine.check import check_layout, check_mask
from napari_semigda.engine.exchange import Job, Outcome, PredictRequest, Standing
from napari_semigda.engine.types import EngineError, Plane, Report, Settings, TrainRequest


class LazyPlane:
    """One plane of a stack that is not in memory; computed when somebody asks for its pixels.

    Parameters
    ----------
    stack : array-like
        Dask, zarr or anything that slices like them.
    position : tuple of int
        Index of the plane on the leading axes.
    key : str
        Names the content, so that a copy of it can be recognised without computing it.
    """

    def __init__(self, stack: Any, position: tuple[int, ...], key: str) -> None:
        self._stack, self._position, self.key = stack, position, key
        self.shape: tuple[int, ...] = tuple(stack.shape[len(position) :])
        self.dtype = np.dtype(stack.dtype)
        self.ndim = len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._stack[self._position], dtype=dtype)


@dataclass(frozen=True, eq=False)
class ImageStack:
    """Images of one layer: its last two axes (and colours) are the image, every leading index is another image.

    Parameters
    ----------
    name : str
        What the user calls the layer. It stays for the session, so that renaming the layer cannot make a
        held-out image look like a new one.
    data : array-like
        (..., H, W), or (..., H, W, 3 or 4) when `rgb`.
    rgb : bool
        Whether the last axis is colours.
    """

    name: str
    data: Any
    rgb: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def __post_init__(self) -> None:
        if len(self.data.shape) < 2 + self.rgb:
            raise EngineError(f"The layer {self.name} is not an image: choose one with height and width.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the masks: that of the images without colours."""
        return tuple(self.data.shape[:-1] if self.rgb else self.data.shape)

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes that tell images apart; empty for a single image."""
        return self.shape[:-2]

    def __len__(self) -> int:
        return int(np.prod(self.leading, dtype=int))

    def position(self, index: int) -> tuple[int, ...]:
        """Where plane number `index` is on the leading axes."""
        return tuple(int(place) for place in np.unravel_index(index, self.leading)) if self.leading else ()

    def index(self, position: Iterable[float]) -> int:
        """Number of the plane at `position`; a position outside the stack gives the nearest plane."""
        place = [int(np.clip(round(at), 0, n - 1)) for at, n in zip(position, self.leading, strict=True)]
        return int(np.ravel_multi_index(place, self.leading)) if place else 0

    def plane_name(self, index: int) -> str:
        """What a message calls plane `index`: the layer's name and the numbers beside the viewer's sliders."""
        if not self.leading:
            return self.name
        return f"{self.name}, slice {', '.join(str(place) for place in self.position(index))}"

    def plane(self, index: int, mask: np.ndarray | None = None) -> Plane:
        """One image and its mask for the engine; nothing is computed."""
        position = self.position(index)
        if isinstance(self.data, np.ndarray):
            image = self.data[position]
        else:
            image = LazyPlane(self.data, position, f"{self.token}-{index}")
        return Plane(self.plane_name(index), image, mask, group=self.name if self.leading else "")


@dataclass(frozen=True)
class Round:
    """One finished training."""

    standing: Standing
    labelled: int
    seconds: float
    stopped: bool
    settings: Settings


class Project:
    """What the user works on, and what came of it so far.

    Parameters
    ----------
    stack : ImageStack
        The images.
    folder : Path, optional
        Where the exchange with the training process and the models live. A folder of its own in the system's
        temporary place by default; it is removed by `close`.
    """

    masks_changed = Signal()
    classes_changed = Signal()
    rounds_changed = Signal()

    def __init__(self, stack: ImageStack, folder: Path | None = None) -> None:
        self.stack = stack
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="napari-semigda-")) if folder is None else folder
        self.generation = 0
        self.rounds: list[Round] = []
        self.in_use: Standing | None = None
        self._classes: dict[int, str] = {1: "class 1"}
        self._masks: dict[int, np.ndarray] = {}
        self._running: dict[int, Job] = {}

    # -- classes ------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> dict[int, str]:
        """Names by class id; background, 0, has none."""
        return dict(self._classes)

    def name_classes(self, names: dict[int, str]) -> None:
        """Replace all class names."""
        if names != self._classes:
            self._classes = dict(sorted(names.items()))
            self.classes_changed.emit()

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
        changed = False
        for index in range(len(self.stack)) if planes is None else planes:
            mask = np.asarray(masks[self.stack.position(index)])
            if not mask.any():
                changed |= self._masks.pop(index, None) is not None
            elif not np.array_equal(mask, self._masks.get(index)):
                self._masks[index] = mask.copy()
                changed = True
        if changed:
            self.masks_changed.emit()
        return changed

    def forget_masks(self) -> None:
        """Start over with no paint, as when another masks layer is chosen."""
        if self._masks:
            self._masks = {}
            self.masks_changed.emit()

    def classes_painted(self) -> set[int]:
        """Class ids in use on any plane."""
        return {int(number) for mask in self._masks.values() for number in np.unique(mask)} - {0}

    # -- rounds -------------------------------------------------------------------------------------------------

    def snapshot(self, settings: Settings, view: int = 0, afresh: bool = False) -> Job:
        """Freeze the images, the masks as they are now and the settings into one job.

        Parameters
        ----------
        settings : Settings
            How to train.
        view : int
            The plane on screen.
        afresh : bool
            Start from new weights even when a round went before.

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
        planes = tuple(self.stack.plane(index, self._masks.get(index)) for index in range(len(self.stack)))
        for index in self.painted:
            check_layout(planes[index])
            check_mask(planes[index])
        # A network of another backbone cannot go on from these weights.
        same = self.rounds and self.rounds[-1].settings.backbone == settings.backbone
        going_on = self.in_use if self.in_use is not None and same and not afresh else None
        request = TrainRequest(
            planes=planes,
            out=self.folder / "models" / f"round-{self.generation + 1}.semigda",
            settings=settings,
            init=None if going_on is None else going_on.model,
            classes=self.classes,
        )
        request.out.parent.mkdir(parents=True, exist_ok=True)
        return self._job(request, view, self.in_use)

    def prediction_job(self, model: Path, view: int = 0, device: str = "auto") -> Job:
        """Freeze the images into a job that predicts them all with a finished model."""
        planes = tuple(self.stack.plane(index) for index in range(len(self.stack)))
        return self._job(PredictRequest(planes, model, device), view)

    def _job(self, request: TrainRequest | PredictRequest, view: int, before: Standing | None = None) -> Job:
        self.generation += 1
        job = Job(request, self.generation, view, before)
        self._running[self.generation] = job
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
        self._running = {number: other for number, other in self._running.items() if number > generation}
        if job is None or outcome.model is None or not isinstance(job.request, TrainRequest):
            return None
        standing = Standing(job.request.out, last.dice, last.held_out, len(self.rounds) + 1)
        labelled = sum(plane.mask is not None for plane in job.request.planes)
        done = Round(standing, labelled, last.elapsed, outcome.stopped, job.request.settings)
        self.rounds.append(done)
        if not outcome.kept:
            self.in_use = standing
        self.rounds_changed.emit()
        return done

    def use(self, standing: Standing) -> None:
        """Go on from the model of another round, whatever its Dice."""
        self.in_use = standing
        self.rounds_changed.emit()

    def save_model(self, path: Path) -> Path:
        """Copy the model in use to `path`, whole or not at all; the suffix becomes ``.semigda``.

        Raises
        ------
        EngineError
            When there is no model yet or the file cannot be written.
        """
        if self.in_use is None:
            raise EngineError("There is no model to save yet: train first.")
        path = path.with_suffix(".semigda")
        part = path.with_name(path.name + ".part")
        try:
            shutil.copyfile(self.in_use.model, part)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise EngineError(f"Cannot write {path} ({error.strerror}): choose another folder.") from error
        return path

    def close(self) -> None:
        """Remove the folder if it is ours; the project must not be used afterwards."""
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
