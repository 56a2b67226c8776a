"""How late the viewer is while a model trains, and how long the first preview takes.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/responsiveness.py

One run on the bundled sample. A timer of the viewer's event loop asks to be woken every 10 ms while a synthetic hand
paints with real mouse events, three strokes a second: first with nothing going on, then while Train runs, then again
with nothing going on. Lateness is how much later than asked the timer fires: what a person feels as stutter.
"""

import argparse
import datetime
import os
import platform
import time
from importlib.metadata import version

import napari
import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_semigda.widgets.train import TrainDock
from napari_semigda.widgets.words import State

TICK = 0.010
MOVE = 0.030  # between two mouse moves, about as often as a mouse reports to a busy canvas
MOVES = 10  # a stroke


class Hand:
    """Paints strokes to and fro on the slice in view."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._canvas = viewer.window._qt_viewer.canvas
        self._step = 0
        self._timer = QTimer()
        self._timer.setInterval(round(MOVE * 1000))
        self._timer.timeout.connect(self._move)

    def start(self) -> None:
        """Begin to paint."""
        self._timer.start()

    def stop(self) -> None:
        """Lift the brush."""
        self._timer.stop()
        if self._step % MOVES:
            QTest.mouseRelease(self._canvas.native, Qt.MouseButton.LeftButton, pos=self._place())

    def _place(self) -> QPoint:
        stroke, at = divmod(self._step, MOVES)
        row, column = 40 + 13 * (stroke % 10), 40 + 8 * at
        x, y = self._canvas.view.scene.transform.map([column, row])[:2]
        return QPoint(round(x), round(y))

    def _move(self) -> None:
        place, native = self._place(), self._canvas.native
        if self._step % MOVES == 0:
            QTest.mousePress(native, Qt.MouseButton.LeftButton, pos=place)
        elif self._step % MOVES == MOVES - 1:
            QTest.mouseRelease(native, Qt.MouseButton.LeftButton, pos=place)
        else:
            none = Qt.KeyboardModifier.NoModifier
            event = QMouseEvent(
                QEvent.Type.MouseMove, QPointF(place), Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton, none
            )
            QApplication.sendEvent(native, event)
        self._step += 1


class Clock:
    """Collects how late a 10 ms timer is, in milliseconds."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._asked = 0.0
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._tick)

    def run(self, seconds: float) -> np.ndarray:
        """Measure for so long."""
        self.late = []
        end = time.perf_counter() + seconds
        self._ask()
        while time.perf_counter() < end:
            QApplication.processEvents()
            time.sleep(0.0005)
        self._timer.stop()
        return np.array(self.late)

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._timer.start(round(TICK * 1000))

    def _tick(self) -> None:
        self.late.append(max(0.0, (time.perf_counter() - self._asked - TICK) * 1000))
        self._ask()


def wait_for(what, seconds: float) -> None:
    """Let the viewer run until `what()` is true."""
    end = time.perf_counter() + seconds
    while not what():
        if time.perf_counter() > end:
            raise SystemExit("waited in vain")
        QApplication.processEvents()
        time.sleep(0.005)


def main() -> None:
    """Measure once and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="length of each phase (default 30)")
    seconds = parser.parse_args().seconds
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1280, 720)
    dock = TrainDock(viewer)
    viewer.window.add_dock_widget(dock, name="SemiGDA: Train", area="right")
    ready = []
    dock.runner.ready.connect(ready.append)
    viewer.open_sample("napari-semigda", "brain")
    wait_for(lambda: ready, 120)
    dock.time.setValue("thorough")
    dock.bridge.pick_class(1)
    dock.bridge.masks.brush_size = 6
    hand, clock = Hand(viewer), Clock()
    clock.run(3)  # the window settles

    hand.start()
    before = clock.run(seconds)
    pressed = time.perf_counter()
    dock.training.start()
    wait_for(lambda: dock.bridge.ours("predicted") is not None, 300)
    preview = time.perf_counter() - pressed
    wait_for(lambda: dock.state is State.TRAINING, 60)
    during = clock.run(seconds)
    steps = dock.training.last.step
    still = dock.state is State.TRAINING
    dock.runner.close()
    after = clock.run(seconds)
    hand.stop()
    report(before, during, after, preview, steps, still, ready[0])
    dock.close_session()
    viewer.close()


def report(before, during, after, preview, steps, still, device) -> None:
    """Print what was measured as markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("napari", "torch", "qtpy"))
    print(f"Measured {datetime.date.today()} on {os.cpu_count()} cores ({platform.machine()}, {platform.system()}), ")
    print(f"device {device}, Python {platform.python_version()}, {packages}; load average {os.getloadavg()[0]:.1f}.")
    print()
    print("| painting and ... | ticks | lateness p50 (ms) | p99 (ms) | max (ms) |")
    print("|---|---|---|---|---|")
    for name, late in (("nothing else", before), ("training", during), ("nothing else, afterwards", after)):
        p50, p99 = np.percentile(late, [50, 99])
        print(f"| {name} | {len(late)} | {p50:.1f} | {p99:.1f} | {late.max():.1f} |")
    ratio = np.percentile(during, 99) / np.percentile(before, 99)
    control = np.percentile(after, 99) / np.percentile(before, 99)
    print()
    print(f"p99 while training / p99 without: {ratio:.2f} (goal: at most 1.5; afterwards / before: {control:.2f}).")
    print(f"From Train to the first preview: {preview:.1f} s (goal: under 60 s). Training steps by then: {steps}.")
    if not still:
        print("The training ended before the measuring did: these figures do not count.")


if __name__ == "__main__":
    main()
