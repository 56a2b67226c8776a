"""A real viewer under Xvfb, real mouse strokes, and docks whose trainings take seconds."""

import time
from dataclasses import replace

import napari.utils.notifications as notes
import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_semigda.engine.types import Prediction
from napari_semigda.widgets import review_table
from napari_semigda.widgets.review import ReviewDock
from napari_semigda.widgets.runner import Runner
from napari_semigda.widgets.train import TrainDock
from tests import fake_engine

CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
TIMEOUT = 60  # seconds; only a machine that does much else needs more than a few


open_docks = []


def wait_for(what, timeout=TIMEOUT):
    """Let the viewer run until `what()` is true."""
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, [(x.state, x.run.sentence.text(), x.runner.pid) for x in open_docks]
        QApplication.processEvents()
        time.sleep(0.005)


def let_run(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def stroke(viewer, start, end, moves=8):
    """Press, move and release the mouse on the canvas, from `start` to `end` (row, column) of the slice in view."""
    canvas = viewer.window._qt_viewer.canvas
    let_run(0.05)
    widget = canvas.native

    def place(row, column):
        x, y = canvas.view.scene.transform.map([column, row])[:2]
        return QPoint(round(x), round(y))

    path = np.linspace(start, end, moves + 2)
    QTest.mouseMove(widget, place(*path[0]))
    let_run(0.05)
    QTest.mousePress(widget, Qt.MouseButton.LeftButton, pos=place(*path[0]))
    for at in path[1:-1]:
        point = QPointF(place(*at))
        none = Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(QEvent.Type.MouseMove, point, Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton, none)
        QApplication.sendEvent(widget, event)
        let_run(0.02)
    QTest.mouseRelease(widget, Qt.MouseButton.LeftButton, pos=place(*path[-1]))
    let_run(0.3)  # longer than the bridge waits for a stroke to settle


def press(viewer, key, modifier=None):
    """Press a key while the mouse is on the canvas."""
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, key, modifier or Qt.KeyboardModifier.NoModifier)
    let_run(0.1)


def discs(count=4, size=(64, 72)):
    """Noisy images with a bright disc each: (N, H, W) uint8 and their masks."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[0], : size[1]]
    masks = np.stack([(rows - 24 - 4 * i) ** 2 + (columns - 30 - 3 * i) ** 2 < 15**2 for i in range(count)])
    images = (60 + 120 * masks + rng.normal(0, 12, masks.shape)).clip(0, 255).astype(np.uint8)
    return images, masks.astype(np.uint8)


@pytest.fixture
def notifications():
    """Every notification of the test, as text."""
    said = []

    def keep(notification):
        said.append(notification.message)

    notes.notification_manager.notification_ready.connect(keep)
    yield said
    notes.notification_manager.notification_ready.disconnect(keep)


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch):
    """A viewer with a window of a known size that shows no toasts."""
    viewer = make_napari_viewer(show=True)
    # After the first viewer has tied it to the messages: tied to this stand-in, it would be so in every later test.
    monkeypatch.setattr("napari._qt.dialogs.qt_notification.NapariQtNotification.show_notification", lambda *_: None)
    viewer.window._qt_window.resize(1000, 700)
    return viewer


@pytest.fixture
def make_dock(viewer):
    """Add a Train dock to the viewer; the quick engine unless told otherwise, every training short."""
    open_docks.clear()

    def make(command=fake_engine.COMMAND, **changes):
        changes = {"max_steps": 5, "crop": 64, "batch": 2, "device": "cpu"} | changes
        dock = TrainDock(viewer, runner=Runner(command), tune=lambda settings: replace(settings, **changes))
        viewer.window.add_dock_widget(dock, name="SemiGDA: Train", area="right")
        open_docks.append(dock)
        let_run(0.1)
        return dock

    yield make
    for dock in open_docks:
        dock.close_session()


# -- a Review dock beside the Train dock


def write_images(folder, count=4):
    folder.mkdir()
    for number, image in enumerate(discs(count)[0]):
        Image.fromarray(image).save(folder / f"ax{number}.png")
    return folder


@pytest.fixture
def make_review(viewer):
    """Add a Review dock to a Train dock's viewer."""
    made = []

    def make(train):
        dock = ReviewDock(viewer, train=train)
        viewer.window.add_dock_widget(dock, name="SemiGDA: Review", area="right")
        made.append(dock)
        let_run(0.2)
        return dock

    yield make
    for dock in made:
        dock.close_session()


@pytest.fixture
def both(viewer, make_dock, make_review, tmp_path):
    """A project of four images with both docks."""
    train = make_dock()
    assert train.projects.new(write_images(tmp_path / "study"))
    viewer.dims.set_current_step(0, 0)
    return train, make_review(train)


def predict(train, *places):
    """Give image i the prediction of a disc, in doubt at `places[i]`, (row, column, side) each."""
    _, masks = discs(len(places))
    for plane, mask in enumerate(masks):
        doubt = np.zeros(mask.shape, np.float32)
        for row, column, side in places[plane]:
            doubt[row : row + side, column : column + side] = 0.8
        train.bridge.show_prediction(Prediction(plane, f"ax{plane}.png", mask, doubt))
    let_run(0.3)


def column(dock, which):
    table = dock.table
    return [table.data(table.index(row, which)) for row in range(table.rowCount())]


def states(dock):
    return column(dock, review_table.STATE)


def click_row(dock, row):
    place = dock.view.visualRect(dock.table.index(row, review_table.NAME)).center()
    QTest.mouseClick(dock.view.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    let_run(0.1)


def shown(viewer):
    return viewer.dims.current_step[0]
