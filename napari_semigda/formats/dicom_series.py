"""Slices of a DICOM series as one volume: their order, their place, and what makes them no volume."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.types import EngineError

_SAME = 1e-3  # of direction cosines, and of millimetres: scanners write six digits
_UNEVEN = 0.1  # of the usual distance of slices; scanners round, and correct for motion by less


class Slice:
    """One frame of a file, with what its header tells.

    Parameters
    ----------
    path
        The file.
    frame
        Its number in a file of many, else None.
    head
        The tags of the file.
    shared
        What a file of many frames says of this frame and of all of them.
    """

    def __init__(self, path: Path, frame: int | None, head: Any, shared: Sequence[Any]) -> None:
        self.path, self.frame, self.head, self.shared = path, frame, head, shared

    @property
    def name(self) -> str:
        """For messages."""
        return self.path.name if self.frame is None else f"{self.path.name}, frame {self.frame + 1}"

    @cached_property
    def position(self) -> np.ndarray | None:
        """(3,) centre of the first pixel in millimetres left, posterior and superior."""
        return self._numbers("PlanePositionSequence", "ImagePositionPatient", 3)

    @cached_property
    def orientation(self) -> np.ndarray | None:
        """(2, 3): the directions along a row and down a column."""
        six = self._numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
        if six is None or not np.linalg.norm(np.cross(six[:3], six[3:])) > _SAME:  # along one line, or none
            return None
        return six.reshape(2, 3)

    @cached_property
    def pixel_size(self) -> np.ndarray | None:
        """(2,) from row to row and from column to column, in millimetres; at the detector for plain radiographs."""
        size = self._numbers("PixelMeasuresSequence", "PixelSpacing", 2)
        if size is None:
            size = self._numbers("", "ImagerPixelSpacing", 2)
        return size if size is not None and size.min() > 0 else None

    @property
    def is_placed(self) -> bool:
        """Whether it tells where it lies."""
        return self.position is not None and self.orientation is not None

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Height and width of a pixel in millimetres."""
        return None if self.pixel_size is None else (float(self.pixel_size[0]), float(self.pixel_size[1]))

    @property
    def thickness(self) -> float:
        """Of a slice that has no neighbour of known place, in millimetres."""
        for tag in ("SpacingBetweenSlices", "SliceThickness"):
            told = self._numbers("PixelMeasuresSequence", tag, 1)
            if told is not None and told[0] > 0:
                return float(told[0])
        return 1.0

    @property
    def along(self) -> float:
        """How far along the axis through all slices it lies, in millimetres."""
        return float(np.cross(*self.orientation) @ self.position)

    def _numbers(self, sequence: str, tag: str, count: int) -> np.ndarray | None:
        for part in (*(group[sequence].value[0] for group in self.shared if group.get(sequence)), self.head):
            told = part.get(tag)
            numbers = np.atleast_1d(np.asarray([] if told is None or told == "" else told, float))
            if numbers.shape == (count,) and np.isfinite(numbers).all():
                return numbers
        return None


def one_volume(path: Path, slices: list[Slice]) -> list[Slice]:
    """Slices in the order of their places.

    Parameters
    ----------
    path
        What the user calls them: the folder, or the file of many frames.
    slices
        In any order. Where no place is told they stay in the order of their instance numbers, or of frames.

    Raises
    ------
    EngineError
        When they are of several series, differ in size or direction, lie at the same place, or some are missing: masks
        would come out in the wrong place.
    """
    if len(slices) == 1:
        return slices
    _check_one_series(path, slices)
    _check_alike(path, slices)
    placed = [each for each in slices if each.is_placed]
    if not placed:
        return sorted(slices, key=lambda each: (int(each.head.get("InstanceNumber") or 0), each.path, each.frame or 0))
    if len(placed) < len(slices):
        lost = next(each for each in slices if not each.is_placed)
        raise EngineError(f"{lost.name} in {path} does not tell where it lies, the others do: move it elsewhere.")
    first = placed[0]
    for each in placed:
        if np.abs(each.orientation - first.orientation).max() > _SAME:
            raise EngineError(
                f"{first.name} and {each.name} in {path} are cut in different directions, as a localizer is: move what "
                "does not belong to the volume into a folder of its own."
            )
    ordered = sorted(placed, key=lambda each: each.along)
    _check_steps(path, ordered)
    return ordered


def _check_one_series(path: Path, slices: list[Slice]) -> None:
    series: dict[str, list[str]] = {}
    for each in slices:
        series.setdefault(str(each.head.get("SeriesInstanceUID", "")), []).append(each.path.name)
    if len(series) > 1:
        told = ", ".join(f"{names[0]} and {len(names) - 1} more" for names in list(series.values())[:3])
        raise EngineError(
            f"{path} holds {len(series)} series ({told}{', ...' if len(series) > 3 else ''}): move the files of each "
            "into a folder of its own."
        )
    files = {each.path.name for each in slices}
    if len(files) > 1 and len(files) < len(slices):
        many = next(each.path.name for each in slices if each.frame is not None)
        raise EngineError(f"{many} in {path} holds many frames already: move it into a folder of its own.")


def _check_alike(path: Path, slices: list[Slice]) -> None:
    first = slices[0]
    for each in slices:
        sizes = [(int(x.head.Rows), int(x.head.Columns)) for x in (first, each)]
        if sizes[0] != sizes[1]:
            told = " and ".join(
                f"{x.name} {rows} x {columns}" for x, (rows, columns) in zip((first, each), sizes, strict=True)
            )
            raise EngineError(f"The slices in {path} differ in size ({told} pixels): move those that do not belong.")
        spaced = [x.pixel_size for x in (first, each) if x.pixel_size is not None]
        if len(spaced) == 2 and not np.allclose(*spaced, rtol=_SAME):
            raise EngineError(
                f"{first.name} and {each.name} in {path} differ in the size of pixels: move one elsewhere."
            )
        kinds = [int(x.head.get("SamplesPerPixel", 1)) for x in (first, each)]
        if kinds[0] != kinds[1]:
            raise EngineError(f"Of {first.name} and {each.name} in {path} only one has colours: move one elsewhere.")


def _check_steps(path: Path, ordered: list[Slice]) -> None:
    steps = np.diff([each.along for each in ordered])
    if (near := np.flatnonzero(steps < _SAME)).size:
        one, other = ordered[near[0]], ordered[near[0] + 1]
        raise EngineError(
            f"{one.name} and {other.name} in {path} lie at the same place (time points, echoes or a copy): move all of "
            "one time or kind into a folder of their own."
        )
    usual = float(np.median(steps))
    if (wide := np.flatnonzero(steps > (1 + _UNEVEN) * usual)).size:
        at = wide[0]
        missing = round(steps[at] / usual) - 1
        lack = f"{missing} slice{'s are' if missing > 1 else ' is'} missing" if missing else "the distance changes"
        raise EngineError(
            f"In {path} {lack} between {ordered[at].name} and {ordered[at + 1].name} ({steps[at]:.3g} mm instead of "
            f"{usual:.3g}): copy the series again, or move the slices after the gap into a folder of their own."
        )
    if (close := np.flatnonzero(steps < (1 - _UNEVEN) * usual)).size:
        at = close[0]
        raise EngineError(
            f"In {path} {ordered[at].name} and {ordered[at + 1].name} are {steps[at]:.3g} mm apart, the others "
            f"{usual:.3g}: move the slices of one distance into a folder of their own."
        )


def affine_of(ordered: list[Slice]) -> np.ndarray:
    """The place of ordered slices: (4, 4) from (row, column, slice) to millimetres right, anterior and superior.

    Where none is told it is the one that ITK makes up, so that masks fit in viewers all the same.
    """
    first, last = ordered[0], ordered[-1]
    along_row, down_column = first.orientation if first.is_placed else np.eye(3)[:2]
    height, width = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = down_column * height
    affine[:3, 1] = along_row * width
    if first.is_placed and len(ordered) > 1:  # a tilted gantry shifts slices sideways: from place to place, then
        affine[:3, 2] = (last.position - first.position) / (len(ordered) - 1)
    else:
        affine[:3, 2] = np.cross(along_row, down_column) * first.thickness
    if first.is_placed:
        affine[:3, 3] = first.position
    affine[:2] *= -1  # left and posterior are DICOM's, right and anterior NIfTI's
    return affine
