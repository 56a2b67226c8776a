"""The rounds trained so far, and the one whose model is in use.

No Qt, no napari. A project has one `Rounds`; what changes goes to its `Keeper`.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from psygnal import Signal

from napari_semigda.classes import taught
from napari_semigda.engine.exchange import Job, Outcome, Standing
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.header import copy_with_classes
from napari_semigda.engine.types import EngineError, Report, Settings
from napari_semigda.engine.verdict import Trained


@dataclass(frozen=True)
class Round:
    """One finished training."""

    standing: Standing
    labelled: int
    seconds: float
    stopped: bool
    settings: Settings
    dice_by_class: Mapping[int, float] = field(default_factory=dict)
    date: str = ""
    before: int | None = None
    """Number of the round in use until then."""
    kept_before: bool = False
    """Whether that one stayed in use because this one was worse."""
    findings: Findings = field(default_factory=Findings)


class KeptRounds(Protocol):
    """Where rounds are kept."""

    def rounds(self) -> tuple[list[Round], Standing | None]:
        """Rounds so far and the one in use."""

    def save_rounds(self, rounds: Iterable[Round], in_use: Standing | None) -> None:
        """Save rounds, soon."""


class Rounds(Sequence[Round]):
    """All rounds of a project, the newest last.

    Parameters
    ----------
    kept : KeptRounds, optional
        Where rounds come from and go to; without it they last as long as the session.
    """

    changed = Signal()
    """A round more, or another model in use."""

    def __init__(self, kept: KeptRounds | None = None) -> None:
        self._kept = kept
        self._rounds: list[Round] = []
        self._in_use: Standing | None = None
        if kept is not None:
            self._rounds, self._in_use = kept.rounds()

    def __len__(self) -> int:
        return len(self._rounds)

    def __getitem__(self, place: int) -> Round:
        return self._rounds[place]

    def trained(self) -> list[Trained]:
        """What is known of all rounds, to judge them by."""
        return [
            Trained(
                each.standing.number,
                each.findings,
                each.labelled,
                each.before,
                kept_before=each.kept_before
                and each.before == self.number_in_use,  # unless the user has chosen otherwise
            )
            for each in self._rounds
        ]

    def add(self, job: Job, outcome: Outcome, last: Report) -> Round:
        """Remember a training that made a model.

        Parameters
        ----------
        job : Job
            With the `TrainRequest`.
        outcome : Outcome
            What the training process said of it; its model is in use from now on.
        last : Report
            The last report of that training, with its Dice.

        Returns
        -------
        Round
            The new one.
        """
        # Kept rounds are named after their files: one whose file is lost must not share its number with another.
        number = len(self) + 1 if self._kept is None else int(job.request.out.stem.rpartition("-")[2])
        done = Round(
            Standing.of(job.request.out, last, number),
            sum(plane.mask is not None for plane in job.request.planes),
            last.elapsed,
            outcome.stopped,
            job.request.settings,
            {each: dice for each, dice in last.dice_by_class.items() if dice is not None and np.isfinite(dice)},
            datetime.now(UTC).isoformat(timespec="seconds"),
            before=None if job.before is None else job.before.number,
            kept_before=outcome.kept,
            findings=last.findings or Findings(),
        )
        self._rounds.append(done)
        self._use(self._in_use if outcome.kept else done.standing)
        return done

    # -- the model in use ---------------------------------------------------------------------------------------

    @property
    def in_use(self) -> Standing | None:
        """The model that predicts, and that the next round goes on from."""
        return self._in_use

    @property
    def number_in_use(self) -> int | None:
        """Number of the round that made it."""
        return None if self._in_use is None else self._in_use.number

    def use(self, number: int) -> bool:
        """Go on from the model of round `number`, whatever its Dice; returns whether that is another one."""
        wanted = next((each.standing for each in self._rounds if each.standing.number == number), None)
        if wanted is None or wanted == self._in_use:
            return False
        self._use(wanted)
        return True

    def _use(self, standing: Standing | None) -> None:
        self._in_use = standing
        if self._kept is not None:
            self._kept.save_rounds(self._rounds, standing)
        self.changed.emit()

    def goes_on_from(self, backbone: str, class_ids: Collection[int], scribbles: bool) -> Standing | None:
        """The model in use, where training can go on from it.

        It cannot when a class that the model knows is gone, or when the style of painting is another: the network has a
        colour for every class, and these would all be shifted.

        Parameters
        ----------
        backbone : str
            The one asked for: a network of another backbone cannot go on from these weights.
        class_ids : collection of int
            Classes that there are now.
        scribbles : bool
            The style of painting.
        """
        if not any(each.standing == self._in_use and each.settings.backbone == backbone for each in self._rounds):
            return None
        ids, style = self._taught() or (frozenset(), scribbles)
        return self._in_use if ids <= set(class_ids) and style is scribbles else None

    def known_classes(self) -> frozenset[int]:
        """Class ids that the model in use was taught."""
        known = self._taught()
        return frozenset() if known is None else known[0]

    def _taught(self) -> tuple[frozenset[int], bool] | None:
        """Class ids and style of painting of the model in use; None when there is none or its file says nothing."""
        return None if self._in_use is None else taught(self._in_use.model)

    def dice_by_image(self, names: Iterable[str]) -> dict[int, float]:
        """Dice of the model in use on its held-out images, by their places among `names`."""
        figures = {} if self._in_use is None else self._in_use.dice_by_image
        return {index: figures[name] for index, name in enumerate(names) if name in figures} if figures else {}

    def save_model(self, path: Path, classes: Mapping[int, str], colours: Mapping[int, str]) -> Path:
        """Copy the model in use to `path`, whole or not at all; the suffix becomes ``.semigda``.

        Parameters
        ----------
        path : Path
            Where to.
        classes, colours : mapping by class id
            What the classes are called and look like now, whatever they were called when it was trained.

        Raises
        ------
        EngineError
            When there is no model yet or the file cannot be written.
        """
        if self._in_use is None:
            raise EngineError("There is no model to save yet: train first.")
        path = path.with_suffix(".semigda")
        part = path.with_name(path.name + ".part")
        try:
            if self._taught() is None:
                shutil.copyfile(self._in_use.model, part)
            else:
                copy_with_classes(self._in_use.model, part, classes, colours)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise EngineError(f"Cannot write {path} ({error.strerror}): choose another folder.") from error
        return path
