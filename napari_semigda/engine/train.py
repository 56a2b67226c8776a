"""Training: both stages of the paper under a time budget, as an iterator of reports.

    for report in Trainer().fit(request):
        ...

The command line, the tests and the viewer's child process drive this same loop. Every optimiser step is a point where
the run can stop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from napari_semigda.engine import resume
from napari_semigda.engine.check import check_request
from napari_semigda.engine.device import pick_device
from napari_semigda.engine.round import Round
from napari_semigda.engine.schedule import Clock
from napari_semigda.engine.several import ALONE, Alone
from napari_semigda.engine.trouble import lost_device, ran_out_of_memory
from napari_semigda.engine.types import EngineError, Report, TrainRequest


class Trainer:
    """Runs one round. `stop` and `look_at` may be called from other threads.

    Parameters
    ----------
    several
        The processes that run it together, see `several.begin`; each has a trainer, and is given the same request.
    """

    rounds = Round  # what a round is: benchmarks leave parts of it out

    def __init__(self, several: Alone = ALONE) -> None:
        self._several = several
        self._stopping = threading.Event()
        self._in_view: int | None = None
        self.device = "auto"
        """Where the last run ended: as it was asked for, or "cpu" after a graphics card had failed."""

    def stop(self) -> None:
        """Finish the step, keep the last good weights, save the model."""
        self._stopping.set()

    def look_at(self, index: int) -> None:
        """The plane that previews shall show; without a viewer nobody asks, and none are made."""
        self._in_view = index

    def fit(self, request: TrainRequest) -> Iterator[Report]:
        """Train and save a model.

        Where memory runs out, steps get smaller; where a graphics card fails, the run goes on on the CPU.

        Yields
        ------
        Report
            At most about five a second; the last one has stage "done" or "stopped" and names the saved model.

        Raises
        ------
        EngineError
            A sentence for the user, whatever went wrong; nothing is half-written then.
        """
        self._stopping.clear()
        self.device, clock = request.settings.device, Clock(request.settings)
        try:
            with self._several.together():
                request, warnings = check_request(request)
            yield Report("starting", message=" ".join(warnings) or "Starting…")
            self._compare(request)
            saved = self._several.told(lambda: resume.read(request)) if request.resume else None
            try:
                yield from self._round(request, clock, saved)
                return
            except Exception as error:
                why = _card_failed(request, error) if self._several.count == 1 else ""
                if not why:
                    raise
            yield from self._on_the_cpu(request, why)
        except (MemoryError, RuntimeError) as error:  # a RuntimeError would vanish in a napari thread worker
            if ran_out_of_memory(error):
                raise EngineError(
                    "This computer ran out of memory. Close other programs or use fewer images."
                ) from error
            raise EngineError(f"Training stopped because of an error inside the engine: {error}") from error

    def _round(self, request: TrainRequest, clock: Clock, saved: Mapping[str, Any] | None) -> Iterator[Report]:
        told = self._stopping.is_set, lambda: self._in_view
        yield from self.rounds(request, clock, *told, saved, self._several).run()

    def _compare(self, request: TrainRequest) -> None:
        """Several computers must have the same images and masks, or they would learn from something else each."""
        if self._several.count == 1:
            return
        with self._several.together():
            mine = resume.digest(request)
        others = self._several.same(mine)
        with self._several.together():
            if mine != others:
                raise EngineError(
                    f"Process {self._several.rank + 1} has other images, masks or settings than the first, or another "
                    "version of this program: make them the same on all computers."
                )

    def _on_the_cpu(self, request: TrainRequest, why: str) -> Iterator[Report]:
        """The same round from its last checkpoint, or anew where there is none that fits."""
        request, saved = replace(request, settings=replace(request.settings, device="cpu")), None
        self.device = "cpu"
        with suppress(EngineError):
            saved = resume.read(request)
        note = f"{why} The run goes on on the CPU{'' if saved else ', from its start'}."
        saved = None if saved is None else saved | {"note": note}
        for report in self._round(request, Clock(request.settings), saved):
            yield replace(report, note=report.note or note)


def _card_failed(request: TrainRequest, error: BaseException) -> str:
    """What a graphics card failed at, in a sentence; nothing when it is not to blame."""
    if pick_device(request.settings.device).type == "cpu":
        return ""
    if lost_device(error):
        return "The graphics card stopped working."
    return "The memory of the graphics card is too small for this." if ran_out_of_memory(error) else ""
