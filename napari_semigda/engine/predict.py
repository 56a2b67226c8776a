"""From a model and a plane to a mask: read at the model's scale, averaged over branches and turns, at full size."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import Tensor

from napari_semigda.engine.blocks import Block, Place, is_large, places
from napari_semigda.engine.checkpoint import load_model
from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.consensus import Belief, doubt_of
from napari_semigda.engine.device import mixed_precision, pick_device
from napari_semigda.engine.header import class_colours, class_names
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.normalise import Contrast, Input
from napari_semigda.engine.pose import averaging_pose, posed
from napari_semigda.engine.ranking import describe
from napari_semigda.engine.scan import Scans
from napari_semigda.engine.tiles import (
    Area,
    Frame,
    ScaledPlane,
    Sight,
    WholeSight,
    WindowSight,
    next_area,
    strip_columns,
)
from napari_semigda.engine.types import DeviceName, EngineError, Plane, Prediction
from napari_semigda.engine.view import STRIDE, PlaneReader, View, scaled_size

WHOLE = 1.75  # pictures up to this many crops a side are seen at once, larger ones through windows
OVERLAP = 0.25  # of neighbouring windows
_WINDOW = 5 / 3  # crops a side


def window_side(crop: int) -> int:
    """Side of a window in working pixels, a multiple of the stride."""
    return STRIDE * round(crop * _WINDOW / STRIDE)


class Seen(NamedTuple):
    """What a model makes of one plane."""

    belief: Belief
    """(K, h, w) of each branch, at the working scale."""
    description: np.ndarray
    """(D,) float32, see `ranking.describe`."""


class Predictor:
    """A model file, ready to segment planes.

    Parameters
    ----------
    model
        A `.semigda` file.
    device
        A device name, or "auto".
    backbone_source
        Where the weights of a `tiny` or `sd` backbone are, when not where the file says.

    Raises
    ------
    EngineError
        When the file or the device cannot be used.
    """

    def __init__(self, model: Path, device: DeviceName = "auto", backbone_source: str | None = None) -> None:
        self.device = pick_device(device)
        self._model, self.header = load_model(Path(model), self.device, source=backbone_source)
        self._view = View.of_model(self.header)
        self.input = Input.of_model(self.header)
        self._scans = Scans()
        self._table = ClassTable([c["id"] for c in self.header["classes"]], self.header["sparse"])
        self.class_ids: tuple[int, ...] = self._table.ids
        self.classes: dict[int, str] = class_names(self.header)
        self.colours: dict[int, str] = class_colours(self.header)

    def among(self, planes: Sequence[Plane]) -> Predictor:
        """The same for some planes, whose volumes are then known: a model may want their slices to share a contrast."""
        other = copy(self)
        other._scans = Scans(planes, self.input)
        return other

    def check(self, plane: Plane) -> None:
        """Refuse an image that lacks a channel that the model sees, without reading it."""
        self.input.check(plane)

    def predict(self, plane: Plane, index: int = 0, probabilities: bool = False) -> Prediction:
        """The mask of one plane at its own height and width, averaged over two orientations.

        Raises
        ------
        EngineError
            When the plane cannot be read, lacks a channel that the model sees, or the computation fails.
        """
        self.check(plane)
        if not self.fits(plane):
            return self._from_blocks(plane, index, probabilities)
        return self.decide(self.see(plane), plane, index, probabilities)

    def fits(self, plane: Plane) -> bool:
        """Whether a plane can be seen at once: larger ones are predicted block by block, and `see` is not for them."""
        return not is_large(plane.size, self._view.scale)

    def bytes_seen(self, plane: Plane) -> int:
        """How much memory what is seen of a plane takes."""
        height, width = scaled_size(*plane.size, self._view.scale)
        return 2 * len(self.class_ids) * height * width * 4

    def see(self, plane: Plane) -> Seen:
        """What the model makes of one plane, before it is brought to full size and decided."""
        with _told_of(plane):
            picture = PlaneReader([plane], self.input, scans=self._scans).whole(0, self._view.scale)
            belief = believe(self._model, picture, self._view, turns=True)
            foreground = 1 - belief.probability[0].cpu().numpy()  # with scribbles: all but the first class
            return Seen(belief, describe(picture.numpy(), foreground))

    def decide(self, seen: Seen, plane: Plane, index: int = 0, probabilities: bool = False) -> Prediction:
        """The mask of what was seen of a plane, at the plane's own height and width."""
        with _told_of(plane):
            prediction = to_prediction(seen.belief, plane, index, self._table, probabilities)
            return replace(prediction, description=seen.description)

    def blocks(
        self,
        plane: Plane,
        done: Container[int] = (),
        probabilities: bool = False,
        contrasts: Sequence[Contrast] = (),
    ) -> Iterator[Block]:
        """The mask of a plane of any size in blocks, as they are finished: that of `predict`, without its memory.

        Nothing is read or computed before it is asked for, so whoever wants to stop stops asking.

        Parameters
        ----------
        plane
            Its image is read through ``plane.image[rows, columns]``; one that says that it cannot read parts
            (``by_parts`` is False) is read whole.
        done
            Numbers of blocks that are left out, because an earlier run has finished them.
        probabilities
            Give those as well.
        contrasts
            Of the plane, from `input`; left out, they are found, for which all of it is read.

        Raises
        ------
        EngineError
            When the plane cannot be read, lacks a channel that the model sees, or the computation fails.
        """
        self.check(plane)
        if not getattr(plane.image, "by_parts", True):
            plane = replace(plane, image=np.asarray(plane.image))
        reader = PlaneReader([plane], self.input, {0: tuple(contrasts)} if contrasts else {})
        picture = ScaledPlane(reader, plane.size, self._view.scale)
        with _told_of(plane):
            sight = self._sight_of(picture)
        for row in self._rows(plane.size):
            for place in row:
                if place.number in done:
                    continue
                with _told_of(plane), torch.inference_mode():
                    frame = Frame.of(place, picture.size, plane.size)
                    belief = Belief(*sight.region(frame.area).chunk(2), self._model.v_share)
                    block = self._block(place, frame, belief, probabilities)
                sight.forget(*next_area(row, place, picture.size, plane.size))
                yield block

    def pieces(self, plane: Plane, most: int) -> list[list[int]]:
        """Blocks of a plane in groups that can be predicted apart from each other at little cost, by their numbers.

        Parameters
        ----------
        plane
            Nothing of it is read.
        most
            Blocks of a group, where that many lie together; what is seen at once is one group.
        """
        rows = list(self._rows(plane.size))
        if _at_once(scaled_size(*plane.size, self._view.scale), self._view):
            most = sum(map(len, rows))
        pieces: list[list[Place]] = []
        for row in rows:
            if pieces and row[0].left == pieces[-1][0].left and len(pieces[-1]) + len(row) <= most:
                pieces[-1] += row
            else:
                pieces.append(row)
        return [[place.number for place in piece] for piece in pieces]

    def _rows(self, size: tuple[int, int]) -> Iterator[list[Place]]:
        """Blocks in the order in which they are predicted."""
        return places(size, self._strip(scaled_size(*size, self._view.scale)[1] / size[1]))

    def _block(self, place: Place, frame: Frame, belief: Belief, probabilities: bool) -> Block:
        full = frame.at_full_size(belief.probability)
        likely, doubt = full.cpu().numpy(), doubt_of(full).cpu().numpy()
        return Block(place, self._table.to_ids(likely.argmax(0)), doubt, likely if probabilities else None)

    def _sight_of(self, picture: ScaledPlane) -> Sight:
        """What the model sees of a picture: what `believe` gives, region by region."""
        height, width = picture.size
        if _at_once(picture.size, self._view):
            belief = believe(self._model, picture.read(Area(0, 0, height, width)), self._view, turns=True)
            return WholeSight(torch.cat([belief.v, belief.c]))
        self._model.eval()
        side, look = window_side(self._view.crop), _looking(self._model)
        return WindowSight(
            picture.read, picture.size, side, OVERLAP, _poses(self._view), lambda window: look(window.to(self.device))
        )

    def _strip(self, scale: float) -> int:
        """How many blocks are predicted side by side."""
        side, channels = window_side(self._view.crop), 2 * self._model.class_count
        return strip_columns(side, OVERLAP, len(_poses(self._view)), channels, scale)

    def _from_blocks(self, plane: Plane, index: int, probabilities: bool) -> Prediction:
        """A whole prediction of a large plane, for those who have room for its results."""
        try:
            mask, doubt = np.zeros(plane.size, np.uint8), np.zeros(plane.size, np.float32)
            likely = np.zeros((len(self.class_ids), *plane.size), np.float32) if probabilities else None
        except MemoryError as error:
            raise _failure(plane, error) from error
        for block in self.blocks(plane, probabilities=probabilities):
            mask[block.place.area], doubt[block.place.area] = block.mask, block.doubt
            if likely is not None:
                likely[:, *block.place.area] = block.probabilities
        return Prediction(index, plane.name, mask, doubt, likely)


@contextmanager
def _told_of(plane: Plane) -> Iterator[None]:
    """Say of which plane it was that something went wrong with."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise _failure(plane, error) from error


def _failure(plane: Plane, error: Exception) -> EngineError:
    return EngineError(f"{plane.name} could not be predicted ({error}). Try another device or a smaller image.")


@torch.inference_mode()
def believe(model: SemiGDA, picture: Tensor, view: View, turns: bool = False) -> Belief:
    """What both branches see in a whole picture.

    Parameters
    ----------
    model
        In the state that shall predict.
    picture
        (3, h, w) float in [0, 1] at the working scale.
    view
        Its crop tells how large a piece the model is used to.
    turns
        Average over two orientations: a little better, twice the work.

    Returns
    -------
    Belief
        (K, h, w) float32 of each branch.
    """
    training = model.training
    model.eval()
    device = next(iter(model.trained_parts().values())).device
    image = picture[None].to(device) * 2 - 1
    both = torch.zeros(1, 2 * model.class_count, *image.shape[-2:], device=device)
    poses = _poses(view) if turns else (0,)
    for pose in poses:
        both += posed(_windows(model, posed(image, pose), view), pose)  # each of these poses undoes itself
    both /= len(poses)
    model.train(training)
    return Belief(*both[0].chunk(2), model.v_share)


def to_prediction(
    belief: Belief, plane: Plane, index: int, table: ClassTable, probabilities: bool = False
) -> Prediction:
    """Resize a belief to the plane and choose the likeliest class of every pixel."""
    size = plane.size
    full = _resize(belief.probability, size)
    return Prediction(
        index=index,
        name=plane.name,
        mask=table.to_ids(full.argmax(0).cpu().numpy()),
        doubt=doubt_of(full).cpu().numpy(),
        probabilities=full.cpu().numpy() if probabilities else None,
    )


def _poses(view: View) -> tuple[int, ...]:
    """As it is, and turned half round: most of what four mirror images gain, at half their price."""
    return tuple(sorted({0, averaging_pose(view.poses)}))


def _at_once(size: tuple[int, int], view: View) -> bool:
    """Whether a picture of such a height and width is seen at once, without windows."""
    return max(size) <= WHOLE * view.crop


def _looking(model: SemiGDA) -> Callable[[Tensor], Tensor]:
    """(1, 3, h, w) in [-1, 1] -> (1, 2 K, h, w), where the sides are multiples of the stride."""

    def look(window: Tensor) -> Tensor:
        with mixed_precision(window.device):
            branches = model.forward(window)  # not the compiled call: each new size would be compiled
        return torch.cat(branches, 1).float().exp()

    return look


def _windows(model: SemiGDA, image: Tensor, view: View) -> Tensor:
    """(1, 3, h, w) in [-1, 1] -> (1, 2 K, h, w): probabilities of branch V, then of branch C."""
    look = _looking(model)
    height, width = image.shape[-2:]
    if _at_once((height, width), view):
        bottom, right = -height % STRIDE, -width % STRIDE
        padded = F.pad(image, (0, right, 0, bottom), mode="replicate")
        return look(padded)[..., :height, :width]
    roi = window_side(view.crop)
    return sliding_window_inference(
        image, (roi, roi), 1, look, overlap=OVERLAP, mode="gaussian", padding_mode="replicate"
    )


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
