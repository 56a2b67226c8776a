"""Layers larger than memory in the viewer: seconds, and peak memory of viewer and training process, step by step.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/large_layer.py
    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/large_layer.py --kind stack

The first is a made-up slide of `--side` pixels a side as an OME-Zarr in five or six resolutions, opened through our
reader; the second a lazy (50, 2048, 2048) dask stack that no file is behind. It is chosen in the Train dock, painted on
with real mouse strokes, trained on for a few steps and marked (no longer than `--seconds` each); then the model is
saved, and the Predict dock marks the layer for as long. Prints a table.
"""

import argparse
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import dask.array
import napari
import numpy as np
import psutil
import zarr
from napari.layers import Image
from qtpy.QtWidgets import QApplication

from napari_semigda.widgets.opening import image_reader
from napari_semigda.widgets.predict import PredictDock
from napari_semigda.widgets.train import TrainDock
from tests.widgets.conftest import stroke

PIECE = 1024


class Meter:
    """Peak memory of this process and of its children, looked at 20 times a second."""

    def __init__(self) -> None:
        self._peaks = [0, 0]
        self._began = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        me = psutil.Process()
        while True:
            children = 0
            for child in me.children(recursive=True):
                try:
                    children += child.memory_info().rss
                except psutil.Error:
                    continue
            self._peaks = [max(self._peaks[0], me.memory_info().rss), max(self._peaks[1], children)]
            time.sleep(0.05)

    def row(self, step: str) -> None:
        """Print a row of the table on what was done since the last one."""
        viewer, process = (peak / 2**20 for peak in self._peaks)
        print(f"| {step} | {time.monotonic() - self._began:.1f} | {viewer:.0f} | {process:.0f} |", flush=True)
        self._peaks, self._began = [0, 0], time.monotonic()


def picture(seed: int) -> np.ndarray:
    """Bright discs on noise, (1024, 1024) uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:PIECE, :PIECE]
    grey = np.full((PIECE, PIECE), 90.0)
    for row, column, radius in zip(*rng.uniform(0, PIECE, (2, 24)), rng.uniform(20, 50, 24), strict=True):
        grey[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 190
    return (grey + rng.normal(0, 8, grey.shape)).clip(0, 255).astype(np.uint8)


def slide(path: Path, side: int) -> Path:
    """An OME-Zarr of a few pictures again and again, each resolution every second pixel of the one before."""
    group, pictures = zarr.open_group(path, mode="w", zarr_format=2), list(map(picture, range(4)))
    level, length, finer = 0, side, None
    while finer is None or length >= PIECE:
        how = {"chunks": (PIECE, PIECE), "chunk_key_encoding": {"name": "v2", "separator": "/"}}
        array = group.create_array(str(level), shape=(length, length), dtype="uint8", **how)
        for number, (row, column) in enumerate(np.ndindex(-(-length // PIECE), -(-length // PIECE))):
            area = tuple(slice(at * PIECE, min((at + 1) * PIECE, length)) for at in (row, column))
            if finer is None:
                array[area] = pictures[number % 4][: area[0].stop - area[0].start, : area[1].stop - area[1].start]
            else:
                array[area] = finer[tuple(slice(2 * at.start, 2 * at.stop, 2) for at in area)]
        level, length, finer = level + 1, length // 2, array
    scales = [{"type": "scale", "scale": [0.5 * 2**at] * 2} for at in range(level)]
    datasets = [{"path": str(at), "coordinateTransformations": [scale]} for at, scale in enumerate(scales)]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return path


def stack() -> dask.array.Array:
    """(50, 2048, 2048) uint8, of which nothing is there before it is asked for."""

    def plane(block_info=None):
        return np.tile(picture(block_info[None]["chunk-location"][0]), (2, 2))[None]

    return dask.array.map_blocks(plane, chunks=((1,) * 50, (2048,), (2048,)), dtype=np.uint8)


def run_while(busy, seconds: float) -> None:
    """Let the viewer run."""
    end = time.monotonic() + seconds
    while busy() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("slide", "stack"), default="slide")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(given, Path(folder))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """One walk through the docks."""
    path = slide(folder / "slide.ome.zarr", given.side) if given.kind == "slide" else None
    print("| step | seconds | viewer, peak MiB | process, peak MiB |\n| --- | --- | --- | --- |")
    meter = Meter()
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1200, 800)
    run_while(lambda: True, 0.5)
    meter.row("an empty viewer")
    if path is None:
        viewer.add_image(stack(), name="stack", contrast_limits=(0, 255))
    else:
        ((data, options, _),) = image_reader(str(path))(str(path))
        viewer.add_image(data, **options)
    image = viewer.layers[0]
    run_while(lambda: True, 0.5)
    meter.row("open")
    train = TrainDock(viewer, tune=lambda settings: replace(settings, max_steps=given.steps, device="cpu"))
    viewer.window.add_dock_widget(train, area="right")
    train.new_masks()
    run_while(lambda: True, 0.5)
    meter.row("Train dock, new masks")
    for plane in np.linspace(0, len(train.bridge.project.stack) - 2, 3).astype(int):
        train.bridge.go_to(int(plane))
        run_while(lambda: True, 0.3)
        stroke(viewer, (100, 100), (200, 200))
    meter.row(f"three strokes on {len(train.bridge.project.painted)} images")
    train.training.start()
    run_while(lambda: train.bridge.project.rounds.in_use is None and train.training.running, 10 * given.seconds)
    run_while(lambda: train.training.running, given.seconds)
    meter.row(f"train {given.steps} steps, mark what {given.seconds:.0f} s allow: {train.run.sentence.text()}")
    train.training.stop()
    run_while(lambda: train.training.running, 10 * given.seconds)
    model = train.save_model(folder / "model.semigda")
    train.runner.close()
    predict(given, viewer, image, model, meter)
    train.close_session()


def predict(given: argparse.Namespace, viewer: napari.Viewer, image: Image, model: Path, meter: Meter) -> None:
    """The Predict dock on the layer."""
    dock = PredictDock(viewer)
    viewer.window.add_dock_widget(dock, area="right")
    dock.images.setValue(image)
    dock.model.value = model
    dock.predict()
    run_while(lambda: dock.running and dock.run.bar.value() == 0, 10 * given.seconds)
    run_while(lambda: dock.running, given.seconds)
    meter.row(f"predict for {given.seconds:.0f} s: {dock.run.sentence.text()}")
    dock.stop()
    run_while(lambda: dock.running, given.seconds)
    dock.close_session()


if __name__ == "__main__":
    main()
