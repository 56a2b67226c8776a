"""A quick engine for the tests of the transport: everything real except the learning.

Run as a program it serves like ``python -m napari_semigda.child`` and starts in a fraction of a second. What
it does is asked for through the name of class 1, which travels with every request.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_semigda.child import FILES
from napari_semigda.engine.blocks import Block, places
from napari_semigda.engine.findings import Findings, Painted
from napari_semigda.engine.metrics import Score
from napari_semigda.engine.types import EngineError, Prediction, Report
from napari_semigda.engine.worker import run

COMMAND = (sys.executable, __file__)


class FakeTrainer:
    """Reports `settings.max_steps` steps, ten a second, and previews the plane in view."""

    def __init__(self):
        self._stop = threading.Event()
        self._view = 0
        self.device = "auto"

    def stop(self):
        self._stop.set()

    def look_at(self, index):
        self._view = index

    def fit(self, request):
        wish = request.classes.get(1, "")
        misbehave(wish)
        print("a library that prints")  # noqa: T201
        steps = request.settings.max_steps or 10**6
        held_out = tuple(plane.name for plane in request.planes if plane.mask is not None)[:1]
        yield Report("starting")
        done = int(request.checkpoint.read_text()) if request.resume else 0
        for step in range(done + 1, steps + 1):
            if self._stop.wait(0.1):
                break
            if step == 3 and "cut off" in wish:
                request.checkpoint.write_text("2")
                cut_off(wish, request.resume)
            plane = request.planes[self._view]
            preview = threshold(plane, self._view)
            yield Report("learning", step, step / steps, step / 10, loss=1 / step, held_out=held_out, preview=preview)
        if request.checkpoint is not None:
            request.checkpoint.unlink(missing_ok=True)
        request.out.write_text(json.dumps({"wish": wish, "init": str(request.init), "thread": os.getpid()}))
        dice = 0.9 if request.init is None or "worse" not in wish else 0.5
        stage = "stopped" if self._stop.is_set() else "done"
        scores = {name: {1: Score(dice, dice, 2.0)} for name in held_out}
        figures = {"dice": dice, "held_out": held_out, "dice_by_image": dict.fromkeys(held_out, dice)}
        figures["findings"] = Findings(scores, painted={1: Painted(900, 2)})
        yield Report(stage, steps, 1.0, steps / 10, model=request.out, **figures)


class FakePredictor:
    def __init__(self, model, device="auto"):
        self._model = Path(model)
        self._wish = json.loads(self._model.read_text())["wish"]
        self.classes = {0: "background", 1: self._wish}
        self.colours = {1: "#e69f00"}

    def among(self, planes):
        return self

    def check(self, plane):
        pass

    def predict(self, plane, index=0, probabilities=False):
        if "slow" in self._wish:
            time.sleep(0.15)
        if "dies marking" in self._wish and index == 1:
            died = self._model.with_suffix(".died")
            if "twice" in self._wish or not died.exists():
                died.touch()
                os.kill(os.getpid(), 9)
        if "one fails" in self._wish and index == 1:
            raise EngineError(f"{plane.name} has NaN values: remove it.")
        return threshold(plane, index)

    # -- what smoothing between slices needs: two branches that are sure of the threshold, one less so ---------------

    def fits(self, plane):
        return True

    def bytes_seen(self, plane):
        return plane.size[0] * plane.size[1]

    def see(self, plane):
        bright = threshold(plane, 0).mask.astype(np.float32)
        return FakeSeen(FakeBelief(np.stack([1 - bright, bright]), np.stack([0.9 - 0.8 * bright, 0.1 + 0.8 * bright])))

    def decide(self, seen, plane, index=0, probabilities=False):
        v, c = seen.belief
        likely = ((v + c) / 2).astype(np.float32)
        doubt = (1 - np.abs(likely[1] - likely[0])).astype(np.float32)
        return Prediction(
            index, plane.name, likely.argmax(0).astype(np.uint8), doubt, likely if probabilities else None
        )

    def blocks(self, plane, done=(), contrasts=()):
        grey = np.asarray(plane.image).mean()
        for place in (place for row in places(plane.size, 2) for place in row if place.number not in done):
            if "slow" in self._wish:
                time.sleep(0.15)
            mask = (np.asarray(plane.image[place.area]) > grey).astype(np.uint8)
            yield Block(place, mask, mask.astype(np.float32))


class FakeBelief(NamedTuple):
    v: np.ndarray
    c: np.ndarray


class FakeSeen(NamedTuple):
    belief: FakeBelief


class FakeEngine:
    trainer = FakeTrainer
    predictor = FakePredictor

    def load(self):
        if "cannot load" in sys.argv:
            raise ImportError("libtorch_cpu.so: cannot open shared object file")
        return "CPU"


def threshold(plane, index):
    image = np.asarray(plane.image, float)
    grey = image if image.ndim == 2 else image.mean(-1)
    mask = (grey > grey.mean()).astype(np.uint8)
    return Prediction(index, plane.name, mask, np.full(mask.shape, 0.25, np.float32))


def cut_off(wish, resumed):
    if resumed and "twice" not in wish:
        return
    if "hangs" in wish:
        time.sleep(600)
    os.kill(os.getpid(), 9)


def misbehave(wish):
    errors = {
        "engine error": EngineError("brain.png has no mask: paint it."),
        "runtime error": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        "out of memory": RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        "no memory": MemoryError(),
        "disk full": OSError(28, "No space left on device"),
    }
    if wish in errors:
        raise errors[wish]
    if wish == "killed":
        os.kill(os.getpid(), 9)
    if wish == "exits":
        os._exit(3)
    if wish == "hangs":
        time.sleep(600)


if __name__ == "__main__":
    run(FakeEngine(), FILES)
