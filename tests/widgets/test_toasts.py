"""napari's messages go after their time, where they would stay for good without us."""

import pytest
from napari.utils.notifications import show_info
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDialog

from napari_semigda.widgets import toasts
from napari_semigda.widgets.dock import Dock


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch):
    """A viewer in front, with a dock, in which messages live a tenth as long."""
    monkeypatch.setattr(toasts, "LIFE_MS", 600)
    monkeypatch.setattr("napari._qt.dialogs.qt_notification.NapariQtNotification.DISMISS_AFTER", 400)
    viewer = make_napari_viewer(show=True)
    viewer.window.add_dock_widget(Dock(), name="SemiGDA: a dock")
    viewer.window.activate()
    for toast in shown(viewer):
        toast.close()
    return viewer


def shown(viewer):
    """Messages that can be seen."""
    return [child for child in viewer.window._qt_window.findChildren(QDialog) if hasattr(child, "close_with_fade")]


def test_of_several_messages_none_stays(viewer, qtbot):
    for number in range(3):
        show_info(f"Message {number}")
        QTest.qWait(50)
    assert len(shown(viewer)) == 3
    qtbot.waitUntil(lambda: not shown(viewer), timeout=10_000)


def test_a_message_that_is_being_read_stays(viewer, qtbot):
    show_info("A long message that somebody has opened to read all of it")
    show_info("Another one")
    qtbot.waitUntil(lambda: len(shown(viewer)) == 2, timeout=5_000)
    read = shown(viewer)[0]
    read.toggle_expansion()
    qtbot.waitUntil(lambda: shown(viewer) == [read], timeout=10_000)
    QTest.qWait(3 * toasts.LIFE_MS)
    assert shown(viewer) == [read]
    read.close()
