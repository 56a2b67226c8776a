"""How far each image is: painted, predicted, verified, skipped; how much in doubt; and which one comes next.

No Qt, no napari. A project has one `Review`; what is marked goes to its `Keeper`, figures of predictions last as long
as the session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, get_args

import numpy as np
from psygnal import Signal

from napari_semigda.engine.ranking import doubt_score, suggest
from napari_semigda.engine.types import Prediction

Mark = Literal["verified", "skipped", "empty"]
"""Masks that are the truth; not to be suggested; an image without paint that truly holds none of the classes."""


class ImageState(StrEnum):
    """How far one image is, in the words of the table."""

    UNLABELLED = "unlabelled"
    PREDICTED = "predicted"
    SKIPPED = "skipped"
    IN_PROGRESS = "in progress"
    VERIFIED = "verified"


class Marks(Protocol):
    """Where marks are kept."""

    def marked(self, kind: Mark) -> frozenset[int]:
        """Numbers of the planes with a mark."""

    def mark(self, kind: Mark, plane: int, on: bool = True) -> None:
        """Note that a plane has a mark, or has not."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is remembered of a prediction."""

    doubt: float
    """0..1, see `engine.ranking.doubt_score`."""
    description: np.ndarray | None
    """See `engine.ranking.describe`; None when it was a preview."""


class Review:
    """The state of every image of a project.

    Parameters
    ----------
    painted : mapping by plane number
        The masks, as they are at any time.
    kept : Marks, optional
        Where marks come from and go to; without it they last as long as the session.
    """

    marks_changed = Signal(int)
    """Number of the plane."""
    predicted = Signal(int)
    """Number of the plane that there are new figures of."""

    def __init__(self, painted: Mapping[int, np.ndarray], kept: Marks | None = None) -> None:
        self._painted = painted
        self._kept = kept
        self._marks: dict[Mark, set[int]] = {kind: set() for kind in get_args(Mark)}
        if kept is not None:
            self._marks = {kind: set(kept.marked(kind)) for kind in self._marks}
        self._looks: dict[int, Look] = {}
        self._suggested: tuple[dict[int, float], list[int]] | None = None  # for these doubts
        self.dice: dict[int, float] = {}
        """Dice of the held-out images by plane number, 0..1, taken before training saw them."""

    # -- marks --------------------------------------------------------------------------------------------------

    def mark(self, kind: Mark, plane: int, on: bool = True) -> None:
        """Note that an image is verified, skipped or empty, or is not."""
        if (plane in self._marks[kind]) is not on:
            (self._marks[kind].add if on else self._marks[kind].discard)(plane)
            if self._kept is not None:
                self._kept.mark(kind, plane, on)
            self.marks_changed.emit(plane)

    def forget_marks(self) -> None:
        """Start over with no marks, as when other masks are chosen. What is kept on disk stays."""
        if self._kept is None:
            self._marks = {kind: set() for kind in self._marks}

    def is_verified(self, plane: int) -> bool:
        """Whether the masks of an image are the truth, or it is truly without any.

        That paint is true is one mark, and that its lack is, another: once all paint of a verified image is gone it is
        not verified, until the paint is back; nor is an empty one that was painted on, until the paint is gone.
        """
        return plane in self._marks["verified" if plane in self._painted else "empty"]

    def empty(self) -> frozenset[int]:
        """Images that were verified to hold none of the classes: nothing on them but background."""
        return frozenset(self._marks["empty"] - self._painted.keys())

    def state(self, plane: int) -> ImageState:
        """How far an image is."""
        if self.is_verified(plane):
            return ImageState.VERIFIED
        if plane in self._painted:
            return ImageState.IN_PROGRESS
        if plane in self._marks["skipped"]:
            return ImageState.SKIPPED
        return ImageState.PREDICTED if plane in self._looks else ImageState.UNLABELLED

    # -- predictions --------------------------------------------------------------------------------------------

    def note(self, prediction: Prediction) -> None:
        """Remember the figures of a prediction."""
        before = self._looks.get(prediction.index)
        description = prediction.description
        if description is None and before is not None:
            description = before.description
        self._looks[prediction.index] = Look(doubt_score(prediction.doubt, prediction.mask), description)
        self._suggested = None
        self.predicted.emit(prediction.index)

    def doubt(self, plane: int) -> float | None:
        """How much the prediction of an image is in doubt, 0..1; None when there is none."""
        look = self._looks.get(plane)
        return None if look is None else look.doubt

    def suggestions(self) -> list[int]:
        """Predicted images that are not painted, verified or skipped, the one to correct next first."""
        looks = self._looks.items()
        doubts = {plane: look.doubt for plane, look in looks if self.state(plane) is ImageState.PREDICTED}
        if self._suggested is None or self._suggested[0] != doubts:  # asked for at every key, another now and then
            descriptions = {plane: look.description for plane, look in looks if look.description is not None}
            known = [plane for plane in self._looks if plane not in doubts]
            self._suggested = doubts, suggest(doubts, descriptions, known)
        return list(self._suggested[1])

    def count(self, planes: Collection[int]) -> dict[ImageState, int]:
        """How many of `planes` are in which state."""
        states = [self.state(plane) for plane in planes]
        return {state: states.count(state) for state in ImageState}
