"""Which images teach a round, which judge it, and which stay unlabelled; it changes twice on the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from napari_semigda.engine.blocks import worth_reading
from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.holding_out import hold_out, neighbours_of
from napari_semigda.engine.sampling import CropSampler
from napari_semigda.engine.spreading import spread_strokes
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, View


class Lessons:
    """What there is to learn from.

    Parameters
    ----------
    planes, reader, table
        All planes of the request, how they are read, and their classes.
    rng
        Draws the crops of the run; its state is noted where these lessons change, so that a run which was cut off can
        change them again (`resume`).
    held_out, trained_on
        Names of the planes that the round before kept back, and of those that its weights have learnt from.
    use_unlabelled
        Whether planes without paint are learnt from.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        reader: PlaneReader,
        table: ClassTable,
        rng: np.random.Generator,
        held_out: Collection[str] = (),
        trained_on: Collection[str] = (),
        use_unlabelled: bool = True,
    ) -> None:
        self._planes = self._painted = planes
        self._reader, self._table, self._rng = reader, table, rng
        self.held_out = hold_out(planes, held_out, trained_on)
        self.resting = neighbours_of(planes, self.held_out)
        kept_back = {*self.held_out, *self.resting}
        self.teaching = [i for i, plane in enumerate(planes) if plane.mask is not None and i not in kept_back]
        self.unlabelled = self._worth_learning_from() if use_unlabelled else []
        self._before = sorted(trained_on)
        self.spread_from: Mapping[str, Any] | None = None
        """Where the random numbers were when strokes were spread; None before."""
        self.refit_from: Mapping[str, Any] | None = None
        """The same of when the held-out planes joined those that teach."""

    def _worth_learning_from(self) -> list[int]:
        """Planes without paint; flat ones have nothing to say."""
        worth = sorted(worth_reading([plane.image for plane in self._planes]))
        return [i for i in worth if self._planes[i].mask is None and not self._reader.is_flat(i)]

    def painted_crops(self, view: View, rng: np.random.Generator | None = None) -> CropSampler:
        """Crops of the planes that teach, as they are painted or spread by now."""
        return self._crops(self._painted, self.teaching, view, rng)

    def unlabelled_crops(self, view: View, rng: np.random.Generator | None = None) -> CropSampler:
        """Crops of the planes that nobody painted."""
        return self._crops(self._planes, self.unlabelled, view, rng)

    def _crops(
        self, planes: Sequence[Plane], chosen: list[int], view: View, rng: np.random.Generator | None
    ) -> CropSampler:
        return CropSampler(planes, self._reader, chosen, view, self._table, rng or self._rng)

    def spread(self) -> tuple[Plane, ...]:
        """All planes with their strokes spread."""
        return spread_strokes(self._planes, self._reader, self._table)

    def use_spread(self, spread: tuple[Plane, ...]) -> None:
        """From now on, strokes that have been spread teach."""
        self.spread_from = self._rng.bit_generator.state
        self._painted = spread

    def let_held_out_help(self) -> None:
        """From now on, the held-out planes teach too, and those that rested beside them."""
        self.refit_from = self._rng.bit_generator.state
        self.teaching = sorted([*self.teaching, *self.resting, *self.held_out])

    @property
    def refitted(self) -> bool:
        """Whether no plane is kept back (any more)."""
        return {*self.held_out} <= {*self.teaching}

    @property
    def new(self) -> list[int]:
        """Planes that teach, and that the weights this round begins with have not learnt from."""
        return [i for i in self.teaching if self._planes[i].name not in self._before]

    @property
    def trained_on(self) -> list[str]:
        """Names of the planes that the weights without the held-out ones have learnt from, in this round or before."""
        late = {*self.held_out, *self.resting}  # taught, if at all, after the last check
        now = {self._planes[i].name for i in self.teaching if i not in late}
        return sorted(now.union(self._before))
