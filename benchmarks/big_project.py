"""A project of a thousand images: how long it takes to open and to look through, and what memory that costs.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/big_project.py run
    python benchmarks/big_project.py table

Makes its own images, paints every fifth, opens the project in a fresh viewer with the docks Train and Review, scrolls
the table, goes from image to image by the arrow key, and has a prediction of every image come in as it is looked at.
Images and predictions are noise with a disc: real ones take less room.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from cells import RESULTS, machine, markdown, today, write_section

FOLDER = RESULTS / "big_project"
PAINTED = 5  # one in so many
TIMES = 60
app = typer.Typer(add_completion=False)


@app.command()
def run(images: int = 1000, side: int = 512, note: Annotated[str, typer.Option(help="on the machine")] = "") -> None:
    """Measure once, in a process of its own; prints a row of the table and keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        for step in ("make", "measure"):  # the process that makes the project has warmed nothing of the other's
            subprocess.run([sys.executable, __file__, step, str(study), str(images), str(side)], check=True)
        figures = json.loads((Path(folder) / "figures.json").read_text())
    figures |= {"date": today(), "machine": ", ".join(filter(None, (machine(), note)))}
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{images}x{side}.json").write_text(json.dumps(figures, indent=1) + "\n")
    print("\n".join(lines([figures])))


@app.command(hidden=True)
def make(study: Path, images: int, side: int) -> None:
    """A project of noisy discs."""
    from PIL import Image

    from napari_semigda.project import Project
    from napari_semigda.stacks import ImageStack
    from napari_semigda.store import ProjectStore

    study.mkdir()
    for number, (mask, noise) in enumerate(discs(images, side)):
        picture = Image.fromarray((noise // 2 + 100 * mask).astype(np.uint8))
        picture.save(study / f"ax{number:04d}.png", compress_level=1)
    store = ProjectStore.create(study)
    project = Project(ImageStack("study", store.images), keeper=store)
    masks = np.zeros(project.stack.shape, np.uint8)
    for number, (mask, _) in enumerate(discs(images, side)):
        if number % PAINTED == 0:
            masks[number] = mask
    project.update_masks(masks)
    project.close()


def discs(images: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A disc, (side, side) uint8 of 0 and 1, and noise, uint8, for each image."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (side, side), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(images):
        row, column, radius = rng.uniform(0.3, 0.7) * side, rng.uniform(0.3, 0.7) * side, rng.uniform(0.1, 0.25) * side
        yield (((rows - row) ** 2 + (columns - column) ** 2) < radius**2).astype(np.uint8), np.roll(noise, int(row), 0)


@app.command(hidden=True)
def measure(study: Path, images: int, side: int) -> None:
    """Open the project in a viewer and look through it."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    there = Session()
    there.settle(1)
    figures = {"images": images, "side": side, "open": there.open(study)}
    there.settle(2)
    figures["memory"] = {"opened": there.memory()}
    table, bar, dims = there.review.view, there.review.view.verticalScrollBar(), there.viewer.dims
    figures["scroll"] = there.timed(lambda at: bar.setValue(bar.maximum() * at // TIMES))
    dims.set_current_step(0, 0)
    figures["next"] = there.timed(lambda _: QTest.keyClick(table, Qt.Key.Key_Down))
    for seen, until in (("a tenth", images // 10), ("half", images // 2), ("all", images)):
        there.predict(until, images, side)
        figures["memory"][f"{seen} looked at and predicted"] = there.memory()
    figures["next, predicted"] = there.timed(lambda at: dims.set_current_step(0, (37 * at) % images))
    (study.parent / "figures.json").write_text(json.dumps(figures))
    there.train.close_session()
    os._exit(0)


class Session:
    """A fresh viewer with the docks Train and Review."""

    def __init__(self) -> None:
        import napari

        from napari_semigda.widgets.review import ReviewDock
        from napari_semigda.widgets.runner import Runner
        from napari_semigda.widgets.train import TrainDock

        self.viewer = napari.Viewer()
        self.viewer.window._qt_window.resize(1280, 720)
        nobody = Runner((sys.executable, "-c", "import time; time.sleep(1000)"))  # a training process would disturb
        self.train = TrainDock(self.viewer, runner=nobody)
        self.review = ReviewDock(self.viewer, train=self.train)
        for dock in (self.train, self.review):
            self.viewer.window.add_dock_widget(dock, name=dock.windowTitle(), area="right", tabify=dock is self.review)

    def settle(self, seconds: float) -> None:
        """Let the viewer run."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.events()

    @staticmethod
    def events() -> None:
        """Let the viewer do what is due."""
        from qtpy.QtWidgets import QApplication

        QApplication.processEvents()

    def open(self, study: Path) -> float:
        """Open a project; seconds until it is on screen."""
        began = time.perf_counter()
        assert self.train.projects.open(study)
        self.events()
        return time.perf_counter() - began

    def memory(self) -> float:
        """MiB that this process has to itself."""
        import psutil

        self.settle(0.5)
        return psutil.Process().memory_full_info().uss / 2**20

    def timed(self, action: Callable[[int], object]) -> list[float]:
        """Median and 95th percentile in ms until what an action changes is on screen."""
        taken = []
        for at in range(TIMES):
            began = time.perf_counter()
            action(at)
            self.review.view.viewport().repaint()
            self.viewer.window._qt_viewer.canvas.native.repaint()
            self.events()
            taken.append(1000 * (time.perf_counter() - began))
        return [float(value) for value in np.percentile(taken, (50, 95))]

    def predict(self, until: int, images: int, side: int) -> None:
        """Look at the first images, a prediction of each coming in."""
        from napari_semigda.engine.types import Prediction

        for number, (mask, noise) in zip(range(until), discs(images, side), strict=False):
            self.viewer.dims.set_current_step(0, number)
            doubt = np.where(mask, noise // 4, 0).astype(np.float32) / 255
            self.train.bridge.show_prediction(Prediction(number, f"ax{number:04d}.png", mask, doubt))
            self.events()


def lines(found: list[dict]) -> list[str]:
    """The table."""
    kinds = list(found[0]["memory"])
    header = ["images", "open, s", "scroll, ms", "next image, ms", "any image, all predicted, ms"]
    header += [f"{kind}, MiB" for kind in kinds] + ["date", "machine"]
    rows = [
        [
            f"{each['images']} of {each['side']} x {each['side']}",
            f"{each['open']:.1f}",
            *(" / ".join(f"{value:.0f}" for value in each[what]) for what in ("scroll", "next", "next, predicted")),
            *(f"{each['memory'][kind]:.0f}" for kind in kinds),
            each["date"],
            each["machine"],
        ]
        for each in found
    ]
    return markdown(header, rows)


@app.command()
def table() -> None:
    """Write what was measured into benchmarks/README.md."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    write_section("big-project", lines(found) if found else ["Not yet taken."])


if __name__ == "__main__":
    app()
