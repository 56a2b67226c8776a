"""The words the engine and its callers share: what is asked for, what is reported, what comes out.

Everything here is frozen and light (no torch), so that a viewer can import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from napari_semigda.engine.findings import Findings

BackboneName = Literal["auto", "compact", "tiny", "sd"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
ContrastName = Literal["auto", "image", "volume", "dataset"]
Stage = Literal["starting", "aligning", "learning", "unlabelled", "checking", "predicting", "done", "stopped"]

MAX_CLASSES = 32
"""Most classes a user can paint, background not counted."""


class EngineError(Exception):
    """A sentence for the user: what is wrong, in which file or layer, and what to do.

    Never a RuntimeError, because that vanishes in napari's thread workers.
    """


@dataclass(frozen=True)
class Plane:
    """One flat image, with its mask when somebody painted one."""

    name: str
    """What the user calls it: ``"ax031.png"`` or ``"brain, slice 12"``. Used in every message."""
    image: Any
    """(H, W) or (H, W, C), any number of channels; anything ``np.asarray`` reads (ndarray, memmap, dask, zarr)."""
    mask: Any | None = None
    """(H, W) class ids in 0..255, or None when the plane is unlabelled."""
    group: str = ""
    """Planes of one volume share a group, so that neighbours never sit on both sides of a hold-out."""
    volume: str = ""
    """Planes in a row that share it are neighbouring slices of one volume; empty where they are not known to be."""
    depth: float | None = None
    """From one slice of the volume to the next, in mm or µm as the file tells; None where it does not."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Settings:
    """What a user may choose; every default is sensible."""

    minutes: float = 5.0  # from Train to the masks; with `until_best` the most that it may take
    until_best: bool = False  # end once the held-out Dice (without held-out images the loss) stops improving
    backbone: BackboneName = "auto"
    backbone_source: str | None = None  # of tiny and sd: a folder, a file or a name on the hub; None is the published
    device: DeviceName = "auto"
    sparse: bool = False  # scribbles: 0 means "not annotated", background is a painted class
    seed: int = 0
    unlabelled_weight: float = 0.3  # most weight of the unlabelled terms (paper: 0.3); 0 switches them off
    max_steps: int | None = None  # stop after so many steps instead of by the clock (tests, replays)
    clock: Literal["wall", "cpu"] = "wall"  # "cpu" counts process CPU seconds, so a busy machine changes nothing
    crop: int | None = None  # side of the training crop in pixels; None: from the painted masks and this machine
    batch: int | None = None  # crops a step on each device; None: what suits this machine
    compile: bool = False  # torch.compile: faster steps on a GPU after a minute of compiling; for long runs
    channels: tuple[int, ...] = ()  # of the images, counted from 1, three at most; none: the first three
    contrast: ContrastName = "auto"  # whose percentiles are black and white; auto: what makes classes look most alike
    devices: int = 1  # processors or graphics cards of each computer that learn together, see `several`
    nodes: int = 1  # computers that do

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON knows lists only


@dataclass(frozen=True)
class TrainRequest:
    """A whole round: the images, what is painted on them, and where the model goes."""

    planes: tuple[Plane, ...]
    out: Path
    settings: Settings = Settings()
    init: Path | None = None  # a model of an earlier round to continue from
    classes: Mapping[int, str] = field(default_factory=dict)  # names by id, in order; missing ones get "class N"
    colours: Mapping[int, str] = field(default_factory=dict)  # "#rrggbb" by id, for those who show the masks
    plan: Path | None = None  # a model whose run is to be repeated step by step, whatever the clock says
    then_predict: bool = False  # the masks of all planes come next: the time is for them as well
    hold_out: tuple[str, ...] = ()  # names that the round before kept back: again, so that both can be compared
    checkpoint: Path | None = None  # a file from which the run can be gone on with should it be cut off (`resume`)
    resume: bool = False  # go on from there
    keep_start: bool = True  # where training made it worse, end with the weights it began with (else: as it turned out)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The masks of one plane."""

    index: int
    """Which of the planes that were asked for."""
    name: str
    mask: np.ndarray
    """(H, W) uint8 class ids."""
    doubt: np.ndarray
    """(H, W) float32 in [0, 1]: how close another class came to the one in `mask`, see `consensus.doubt_of`."""
    probabilities: np.ndarray | None = None
    """(K, H, W) float32, in the order of the model's class ids; only when asked for."""
    description: np.ndarray | None = None
    """(D,) float32, how image and masks look (`ranking.describe`); only of whole predictions of a finished model."""


@dataclass(frozen=True)
class Report:
    """What a training run says of itself, a few times a second at most."""

    stage: Stage
    step: int = 0
    fraction: float = 0.0  # 0..1 of the whole run, for a determinate bar
    elapsed: float = 0.0  # seconds
    remaining: float | None = None  # seconds to the saved model, or to the last mask where the request wants them
    at_most: bool = False  # `remaining` is the most it can take: the run ends sooner once it stops improving
    loss: float | None = None  # running mean of the supervised loss
    unlabelled_loss: float | None = None
    ramp: float = 0.0  # weight of the unlabelled terms just now
    dice: float | None = None  # mean foreground Dice on held-out images; None when there are none
    dice_by_class: Mapping[int, float] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()  # names of the images that Dice was measured on
    dice_by_image: Mapping[str, float] = field(default_factory=dict)  # of each of these
    findings: Findings | None = None  # what there is to judge the round by, once it is over
    message: str = ""  # a sentence for the user
    model: Path | None = None  # where the model is, once there is one
    note: str = ""  # what befell the run and how it goes on, from then until its end
    preview: Prediction | None = None  # the plane in view, as the model sees it now


@dataclass(frozen=True)
class BatchRequest:
    """Image files through a finished model into a folder."""

    model: Path
    images: tuple[Path, ...]  # files, no two of one stem
    out: Path  # masks go here, as STEM.png, .tif or .nii.gz
    overlays: bool = False  # also OUT/overlays: pictures of the masks on the images
    measurements: bool = False  # also OUT/measurements.csv and OUT/totals.csv
    maps: tuple[str, ...] = ()  # also OUT/STEM_NAME.tif; of "probabilities", "uncertainty"
    keep_going: bool = True  # a file that fails is told and passed over; else all are looked at before any is written
    resume: bool = True  # note finished files in OUT and pass over those an earlier run has noted
    keep_masks: bool = False  # never replace a mask that no earlier run has noted, or that was corrected since
    smooth: float = 0.0  # between the slices of volumes, see `volume.smoothed`; 0 leaves every slice as it is predicted
    device: str = "auto"


@dataclass(frozen=True)
class BatchReport:
    """How far a batch has come."""

    total: int  # files
    done: int = 0  # files dealt with, whether now, by an earlier run, or in vain
    before: int = 0  # of these, finished by an earlier run
    failures: int = 0  # of these, in vain
    failed: tuple[str, ...] = ()  # a sentence for each file that has failed since the last report
    fraction: float = 0.0  # 0..1 of all files
    elapsed: float = 0.0  # seconds
    remaining: float | None = None  # seconds, None until it is known

    @property
    def written(self) -> int:
        """Files whose masks were written by this run."""
        return self.done - self.before - self.failures
