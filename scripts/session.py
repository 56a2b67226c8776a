"""A viewer with the Train dock, used like a person does it: what the demo and the day are played with."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
import psutil
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.utils.notifications import NotificationSeverity, notification_manager
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDockWidget
from strokes import Hand

from napari_semigda import launch
from napari_semigda.widgets.train import TrainDock
from napari_semigda.widgets.words import State

SIZE = 1280, 800


class StepError(Exception):
    """A step that did not work, in a sentence."""


def play(what: str, action: Callable[[], object], errors: tuple[type[Exception], ...] = (StepError,)) -> int:
    """Do it to the end, and see that napari reported no error meanwhile; the exit status.

    Parameters
    ----------
    what : str
        Begins the sentence on what went wrong: ``"The demo"``.
    action : callable
        All of it.
    errors : tuple
        Exceptions that are sentences.
    """
    with notification_manager:
        try:
            action()
        except errors as error:
            print(f"{what} failed: {error}", file=sys.stderr)
            return 1
        said = [n.message for n in notification_manager.records if n.severity >= NotificationSeverity.ERROR]
    if said:
        print(f"{what} failed: napari reported " + "; ".join(said), file=sys.stderr)
    return 1 if said else 0


class Session:
    """A viewer, the Train dock, a hand on mouse and keys, and a list of facts.

    Parameters
    ----------
    out : Path
        Where screenshots go.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.viewer = napari.Viewer(title="SemiGDA")
        self.viewer.window._qt_window.resize(*SIZE)
        self.viewer.window.activate()  # messages stay until somebody could read them
        launch.dock_train()
        self.dock = self.find_dock(TrainDock)
        self.hand = Hand(self.viewer)
        self.facts: list[str] = []

    def find_dock(self, kind: type):
        """The dock of a kind that is open."""
        return next(x for x in map(_inside, self.viewer.window.dock_widgets.values()) if isinstance(x, kind))

    def bring(self, dock) -> None:
        """Bring a dock to the front of those that share its place."""
        while not isinstance(dock, QDockWidget):
            dock = dock.parentWidget()
        dock.raise_()
        self.rest(0.5)

    @property
    def masks(self):
        """The user's layer."""
        return self.dock.bridge.masks

    def look_at(self, plane: int) -> None:
        """Move the slider."""
        self.viewer.dims.set_current_step(0, plane)
        self.rest(0.3)

    def click(self, button) -> None:
        """Press a button with the mouse."""
        if not button.isEnabled():
            raise StepError(f'The button "{button.text()}" cannot be pressed: {self.dock.run.sentence.text()}')
        if not button.isVisible():
            raise StepError(f'The button "{button.text()}" cannot be seen, so nobody could press it.')
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def press(self, letter: str, modifier=Qt.KeyboardModifier.NoModifier) -> None:
        """Press a key over the picture."""
        QTest.keyClick(self.hand.canvas, getattr(Qt.Key, f"Key_{letter}"), modifier)

    def rest(self, seconds: float) -> None:
        """Let the viewer live for a while."""
        QTest.qWait(round(1000 * seconds))

    def wait(self, what: str, condition: Callable[[], object], seconds: float) -> None:
        """Let the viewer live until `condition` holds."""
        end = time.monotonic() + seconds
        while not condition():
            if self.dock.state is State.ERROR:
                raise StepError(f"Waiting for {what}: {self.dock.run.sentence.text()}")
            if time.monotonic() > end:
                raise StepError(f"Waited {seconds:.0f} s for {what}; the dock is {self.dock.state.value}.")
            QTest.qWait(50)

    def shoot(self, name: str) -> None:
        """A picture of the whole window."""
        for toast in self.viewer.window._qt_window.findChildren(NapariQtNotification):
            toast.close()  # what napari has to say of its own would hide the picture
        self.rest(0.3)
        self.viewer.screenshot(self.out / f"{name}.png", canvas_only=False, flash=False)

    def fact(self, sentence: str) -> None:
        """Print and keep something that was measured."""
        print(sentence, flush=True)
        self.facts.append(sentence)

    def close(self) -> None:
        """Close the viewer and see that its training process is gone."""
        pid = self.dock.runner.pid
        self.viewer.close()
        end = time.monotonic() + 10
        while pid is not None and psutil.pid_exists(pid):
            if time.monotonic() > end:
                raise StepError(f"The training process {pid} outlived the viewer.")
            QTest.qWait(100)


def _inside(dock):
    """The widget in a dock, without what napari wraps around it."""
    return dock.inner_widget() if hasattr(dock, "inner_widget") else dock
