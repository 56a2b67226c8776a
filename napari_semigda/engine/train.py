"""Training: both stages of the paper under a time budget, as an iterator of reports.

    for report in Trainer().fit(request):
        ...

The command line, the tests and the viewer's child process drive this same loop. Every optimiser step is a point where
the run can stop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch

from napari_semigda.engine.check import check_request
from napari_semigda.engine.round import Round
from napari_semigda.engine.schedule import Clock
from napari_semigda.engine.types import EngineError, Report, TrainRequest


class Trainer:
    """Runs one round. `stop` and `look_at` may be called from other threads."""

    rounds = Round  # what a round is: benchmarks leave parts of it out

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._in_view: int | None = None

    def stop(self) -> None:
        """Finish the step, keep the best weights so far, save the model."""
        self._stopping.set()

    def look_at(self, index: int) -> None:
        """The plane that previews shall show; without a viewer nobody asks, and none are made."""
        self._in_view = index

    def fit(self, request: TrainRequest) -> Iterator[Report]:
        """Train and save a model.

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
        clock = Clock(request.settings)
        try:
            request, warnings = check_request(request)
            yield Report("starting", message=" ".join(warnings) or "Starting…")
            yield from self.rounds(request, clock, self._stopping.is_set, lambda: self._in_view).run()
        except torch.cuda.OutOfMemoryError as error:
            raise EngineError(
                "The graphics card ran out of memory. Choose the CPU, or a smaller crop, under Advanced."
            ) from error
        except MemoryError as error:
            raise EngineError("This computer ran out of memory. Close other programs or use fewer images.") from error
        except RuntimeError as error:  # torch's errors; a RuntimeError would vanish in a napari thread worker
            raise EngineError(f"Training stopped because of an error inside the engine: {error}") from error
