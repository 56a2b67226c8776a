"""A drawn data set, shared by the engine's tests and by the tiny model of all tests; a process to talk to."""

from __future__ import annotations

import contextlib
import json
import subprocess

import numpy as np
import pytest

from napari_semigda.engine import exchange
from napari_semigda.engine.exchange import PredictRequest
from napari_semigda.engine.types import BatchRequest, Plane
from tests import fake_engine


def draw_discs(seed: int, size: tuple[int, int] = (64, 72)) -> tuple[np.ndarray, np.ndarray]:
    """A noisy grey picture with bright discs, and its mask: (H, W) uint8 each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, dtype=np.uint8)
    for _ in range(3):
        row, column, radius = rng.uniform(10, size[0] - 10), rng.uniform(10, size[1] - 10), rng.uniform(6, 12)
        mask[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 1
    picture = 70 + 90 * mask + rng.normal(0, 18, size)
    return picture.clip(0, 255).astype(np.uint8), mask


def drawn_planes(labelled: int, unlabelled: int, first_seed: int = 0) -> tuple[Plane, ...]:
    """Discs, the first `labelled` of them with masks."""
    planes = []
    for i in range(labelled + unlabelled):
        picture, mask = draw_discs(first_seed + i)
        planes.append(Plane(f"disc{i}", picture, mask if i < labelled else None))
    return tuple(planes)


def stacked(*painted, group="brain", first=0, count=24):
    """Slices of one volume, painted alike on some."""
    picture, mask = draw_discs(0)
    return [Plane(f"{group} {i}", picture, mask if i in painted else None, group) for i in range(first, first + count)]


class Talk:
    """One process and its lines."""

    def __init__(self, command, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def say(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def hear(self, kind=None):
        """The next line, or the next one of that kind."""
        for line in self.process.stdout:
            heard = json.loads(line)
            if kind in (None, heard["kind"]):
                return heard
        raise AssertionError(f"the process ended: {self.process.stderr.read()}")

    def hear_all(self):
        """Every line up to the last word on a job."""
        lines = [self.hear()]
        while lines[-1]["kind"] not in ("done", "error"):
            lines.append(self.hear())
        return lines

    def begin(self, what, **more):
        for _ in exchange.write_job(self.folder, what):
            pass
        kind = {PredictRequest: "predict", BatchRequest: "batch"}.get(type(what.request), "train")
        self.say(do=kind, request=str(self.folder / "request.json"), **more)


@pytest.fixture
def talk(tmp_path):
    """Start a process; all are ended afterwards."""
    started = []

    def start(command=fake_engine.COMMAND):
        started.append(Talk(command, tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        for pipe in (each.process.stdin, each.process.stdout, each.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
