"""What the viewer asks its training process for: a folder of arrays and one ``request.json``.

Arrays travel as ``.npy`` files that the other side maps into memory (see `arrays`); what comes back is in `answers`.
Every file is written under another name and then moved into place, so a reader meets whole files only. A run folder
holds::

    request.json          what is asked for, with the shape and dtype of every array it names
    images/               one file a plane, written once and kept while its content stays the same; none of a large
                          image in a file that can be read by parts: that is read where it lies
    round-3/              the masks of that round on the way in, previews and predictions on the way out
    unfinished.safetensors   what a training can be gone on with, as long as it runs

Neither torch nor Qt is imported here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.arrays import save_array
from napari_semigda.engine.handover import Copies, OpenPlace, check_room, read_array, read_image
from napari_semigda.engine.metrics import surely_worse
from napari_semigda.engine.strangers import parse_json
from napari_semigda.engine.types import BatchRequest, EngineError, Plane, Report, Settings, TrainRequest

SCHEMA = 1
MAX_REQUEST_BYTES = 64 * 2**20  # a request of a hundred thousand planes is a quarter of this


@dataclass(frozen=True)
class PredictRequest:
    """Predict planes with a finished model."""

    planes: tuple[Plane, ...]
    model: Path
    device: str = "auto"
    smooth: float = 0.0  # between the slices of volumes, see `volume.smoothed`
    masks: Path | None = None  # a folder that masks of large images grow in, instead of coming as a whole
    shape: tuple[int, ...] = ()  # of these: (..., H, W)


@dataclass(frozen=True)
class Standing:
    """How good the model in use is, and on which images that was measured."""

    model: Path
    dice: float | None = None
    held_out: tuple[str, ...] = ()
    number: int = 0
    classes: tuple[int, ...] = ()  # ids that it finds
    dice_by_image: Mapping[str, float] = field(default_factory=dict)  # of each held-out image

    @classmethod
    def of(cls, model: Path, last: Report, number: int = 0) -> Standing:
        """How good the model of a round is, by the round's last report."""
        classes = tuple(sorted(last.findings.painted)) if last.findings is not None else ()
        by_image = {name: dice for name, dice in last.dice_by_image.items() if np.isfinite(dice)}
        return cls(model, last.dice, last.held_out, number, classes, by_image)

    def beats(self, other: Standing) -> bool:
        """Whether this model is surely better than `other`, judged on the very same images.

        Dice of different held-out images, or of other classes, says nothing about which model is better, so the answer
        is then no.
        """
        if self.dice is None or other.dice is None or not self.held_out:
            return False
        if self.classes and other.classes and self.classes != other.classes:
            return False
        mine, its, shared = self.dice, other.dice, set(self.held_out)
        if shared != set(other.held_out):
            shared = self.dice_by_image.keys() & other.dice_by_image.keys()
            mine, its = (float(np.mean([x.dice_by_image[name] for name in shared] or [0])) for x in (self, other))
        return mine > its + surely_worse(len(shared))


@dataclass(frozen=True)
class Job:
    """One thing for the training process to do."""

    request: TrainRequest | PredictRequest | BatchRequest
    generation: int = 0
    view: int = 0  # the plane on screen: previewed first, predicted first
    before: Standing | None = None  # the model in use until now; kept when this round turns out worse


@dataclass(frozen=True)
class Resume:
    """That a training was cut off and what is to come of it; goes with the command, not into the request."""

    note: str  # what happened, for the reports
    finish: bool = False  # learn no more: make the model of what was learnt


@dataclass(frozen=True)
class Outcome:
    """How a job ended, when it ended well."""

    model: Path | None = None
    stopped: bool = False
    kept: bool = False  # True: the new model was worse, `model` is the one in use before
    skipped: tuple[str, ...] = ()  # one sentence for each plane that has no prediction
    classes: Mapping[int, str] = field(default_factory=dict)  # the model's, by id


def checkpoint_of(folder: Path) -> Path:
    """The file in a run folder that a training can be gone on with, see `resume`."""
    return folder / "unfinished.safetensors"


# -- writing --------------------------------------------------------------------------------------------------------


def write_job(folder: Path, job: Job) -> Iterator[tuple[int, int]]:
    """Write all that `job` needs into `folder`; ``folder / "request.json"`` comes last.

    Parameters
    ----------
    folder : Path
        The run folder, made when missing. Images of earlier jobs in it are reused or removed.
    job : Job
        What to write.

    Yields
    ------
    tuple of int
        How many planes are written, of how many: a place to show progress or to give up.

    Raises
    ------
    EngineError
        When the disk is full or read-only, or a plane cannot be read.
    """
    images, answers = folder / "images", folder / f"round-{job.generation}"
    for needed in (images, answers):
        try:
            needed.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"Cannot make the folder {needed} ({error.strerror}): free that disk.") from error
    wanted = () if isinstance(job.request, BatchRequest) else job.request.planes  # a batch reads files by itself
    check_room(folder, wanted)
    planes, handed_over = [], Copies(images, wanted)
    for index, plane in enumerate(wanted):
        image = yield from handed_over.write(index)
        entry = {key: getattr(plane, key) for key in ("name", "group", "volume", "depth")}
        entry |= {"image": image, "mask": None}
        if plane.mask is not None:
            mask = np.ascontiguousarray(plane.mask)
            entry["mask"] = {"file": f"{answers.name}/mask-{index:05d}.npy"}
            entry["mask"] |= save_array(answers / f"mask-{index:05d}.npy", mask)
        planes.append(entry)
        yield index + 1, len(wanted)
    _drop_unused(folder, {Path(entry["image"].get("file", "")).name for entry in planes}, answers)
    _write_json(folder / "request.json", _describe(job) | {"planes": planes})


def _describe(job: Job) -> dict[str, Any]:
    """Everything of a job but its planes."""
    common = {"schema": SCHEMA, "generation": job.generation, "view": job.view, "before": None}
    if job.before is not None:
        common["before"] = asdict(job.before) | {"model": str(job.before.model)}
    request = job.request
    if isinstance(request, BatchRequest):
        paths = {"model": str(request.model), "out": str(request.out), "images": [str(path) for path in request.images]}
        return common | {"do": "batch", "batch": asdict(request) | paths}
    if isinstance(request, PredictRequest):
        growing = {"masks": None if request.masks is None else str(request.masks), "shape": list(request.shape)}
        told = {"device": request.device, "smooth": request.smooth}
        return common | {"do": "predict", "model": str(request.model), **told, **growing}
    return common | {
        "do": "train",
        "out": str(request.out),
        "init": None if request.init is None else str(request.init),
        "classes": {str(number): name for number, name in request.classes.items()},
        "colours": {str(number): colour for number, colour in request.colours.items()},
        "settings": asdict(request.settings),
        "hold_out": list(request.hold_out),
    }


def _drop_unused(folder: Path, used: set[str], answers: Path) -> None:
    """Remove images that changed since and the exchanged arrays of earlier rounds; models stay."""
    for file in (folder / "images").iterdir():
        if file.name not in used:
            file.unlink(missing_ok=True)
    for earlier in folder.glob("round-*"):
        if earlier != answers:
            for file in earlier.glob("*.npy"):
                file.unlink(missing_ok=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(content), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise EngineError(f"Cannot write to {path.parent} ({error.strerror}): make room on that disk.") from error


# -- reading --------------------------------------------------------------------------------------------------------


def read_job(path: Path, open_place: OpenPlace | None = None) -> Job:
    """Read what `write_job` wrote, with every array mapped into memory.

    Parameters
    ----------
    path : Path
        The ``request.json`` of a run folder.
    open_place : callable, optional
        Finds large images that were not copied. Files are above the engine, so it is told from there.

    Returns
    -------
    Job
        Equal to the one written; images and masks are read-only maps.

    Raises
    ------
    EngineError
        When the file is missing, too large, not ours, of a newer version, or names a file outside its folder.
    """
    try:
        if path.stat().st_size > MAX_REQUEST_BYTES:
            raise EngineError(f"{path} is too large to be a request of ours.")
        content = parse_json(path.read_bytes())
        if content["schema"] != SCHEMA:
            raise EngineError(f"{path} was written by another version of napari-semigda: restart the viewer.")
        return _job(content, path.parent, open_place)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise EngineError(f"{path} is missing or damaged: press Train again.") from error


def _job(content: dict[str, Any], folder: Path, open_place: OpenPlace | None) -> Job:
    large: dict[str, Any] = {}
    planes = tuple(
        Plane(
            entry["name"],
            read_image(folder, entry, open_place, large),
            read_array(folder, entry["mask"]),
            entry["group"],
            entry["volume"],
            None if entry["depth"] is None else float(entry["depth"]),
        )
        for entry in content["planes"]
    )
    if content["do"] == "predict":
        masks = None if content["masks"] is None else Path(content["masks"])
        device, smooth, shape = content["device"], float(content["smooth"]), tuple(map(int, content["shape"]))
        request = PredictRequest(tuple(planes), Path(content["model"]), device, smooth, masks, shape)
    elif content["do"] == "batch":
        request = _batch(content["batch"])
    else:
        request = TrainRequest(
            planes=tuple(planes),
            out=Path(content["out"]),
            settings=Settings(**content["settings"]),
            init=None if content["init"] is None else Path(content["init"]),
            classes={int(number): name for number, name in content["classes"].items()},
            hold_out=tuple(content["hold_out"]),
            colours={int(number): colour for number, colour in content["colours"].items()},
        )
    before = content["before"]
    if before is not None:
        sequences = {key: tuple(before[key]) for key in ("held_out", "classes")}
        before = Standing(**(before | sequences | {"model": Path(before["model"])}))
    return Job(request, int(content["generation"]), int(content["view"]), before)


def _batch(content: dict[str, Any]) -> BatchRequest:
    paths = {"model": Path(content["model"]), "out": Path(content["out"])}
    images, maps = tuple(map(Path, content["images"])), tuple(content["maps"])
    return BatchRequest(**(content | paths | {"images": images, "maps": maps}))
