"""Keys, tooltips and words of all docks: one table, nothing without a word on it, no jargon before it is asked for."""

import re

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QScrollArea,
)

from napari_semigda.engine.types import Prediction
from napari_semigda.widgets import keys
from napari_semigda.widgets.batch import BatchDock
from napari_semigda.widgets.key_sheet import KeySheet
from napari_semigda.widgets.predict import PredictDock
from napari_semigda.widgets.review import ReviewDock
from napari_semigda.widgets.runner import Runner
from tests import fake_engine

from .conftest import discs, let_run, press

CONTROLS = (QAbstractButton, QAbstractItemView, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, QProgressBar)
JARGON = re.compile(
    r"backbone|network|encoder|latent|weights?\b|epoch|hyperparam|\bseed\b|\bloss\b|tensor|\bcuda\b|iteration|"
    r"pseudo|neural|softmax|checkpoint|inference|segmentation|argmax|voxel|\bcpu\b|\bgpu\b",
    re.IGNORECASE,
)


@pytest.fixture
def docks(viewer, make_dock):
    """All docks on images with predictions, in a window of 1280 x 720."""
    train = make_dock()
    viewer.add_image(discs()[0], name="discs")
    train.new_masks()
    runner = Runner(fake_engine.COMMAND)
    others = [ReviewDock(viewer, train=train), PredictDock(viewer, runner=runner), BatchDock(runner=runner)]
    for dock in others:
        viewer.window.add_dock_widget(dock, name=dock.windowTitle(), area="right", tabify=True)
    viewer.window._qt_window.resize(1280, 720)
    for plane, mask in enumerate(discs()[1]):
        train.bridge.show_prediction(Prediction(plane, "", mask, np.zeros(mask.shape, np.float32)))
    let_run(0.3)
    yield [train, *others]
    for dock in others:
        dock.close_session()


def explained(widget, dock):
    """Whether a tooltip comes up over a widget: its own or, as Qt does it, that of what it is in."""
    while widget is not dock:
        if widget.toolTip():
            return True
        widget = widget.parentWidget()
    return False


def path_of(widget):
    text = getattr(widget, "text", None) or getattr(widget, "accessibleName", str)
    return f"{type(widget.window()).__name__}: {type(widget).__name__} {text()!r} in {type(widget.parent()).__name__}"


def in_use(dock, kind):
    """Widgets of a kind, hidden ones too, without the inner parts of others (lists of combo boxes, scroll bars)."""
    for widget in dock.findChildren(kind):
        inner = widget.objectName().startswith("qt_") or "QComboBoxPrivateContainer" in type(widget.parent()).__name__
        if not inner and not (isinstance(widget.parent(), QComboBox | QAbstractSpinBox)):
            yield widget


def test_every_control_of_every_dock_says_what_it_does(docks):
    controls = [(dock, widget) for dock in docks for kind in CONTROLS for widget in in_use(dock, kind)]
    assert len(controls) > 50  # the walk found them
    bare = {f"{dock.windowTitle()}: {path_of(widget)}" for dock, widget in controls if not explained(widget, dock)}
    assert not bare
    short = {widget.toolTip() for _, widget in controls if 0 < len(widget.toolTip()) < 15}
    assert not short  # a word is no explanation
    assert [x for dock in docks for x in in_use(dock, QScrollArea)]  # nothing is cut off on a small screen


def test_what_shows_before_anything_is_unfolded_is_in_a_users_words(docks):
    jargon = {}
    for dock in docks:
        advanced = getattr(dock, "advanced", None)
        for widget in (*in_use(dock, QLabel), *(each for kind in CONTROLS for each in in_use(dock, kind))):
            if advanced is not None and advanced.isAncestorOf(widget):
                continue
            text = widget.text() if isinstance(widget, QLabel | QAbstractButton) else ""
            said = f"{text} {widget.toolTip()}".replace("(CPU)", "")  # which computer it is, where the time is told
            if found := JARGON.search(said):
                jargon[found[0]] = f"{dock.windowTitle()}: {said}"
    assert not jargon


def test_keys_tooltips_and_the_sheet_come_of_one_table(viewer, docks):
    train, review = docks[:2]
    buttons = {
        keys.TRAIN: [train.train_button],
        keys.STOP: [train.stop_button],
        keys.ACCEPT: [train.accept_button, review.accept_button],
        keys.TOGGLE: [train.toggle_button, review.toggle_button],
        keys.SHEET: [train.keys_button],
        keys.NEXT: [review.next_button],
        keys.SKIP: [review.skip_button],
        keys.VERIFY: [review.verify_button],
    }
    for key, those in buttons.items():
        for button in those:
            assert button.toolTip() == keys.tip(key)
            assert button.toolTip().endswith(f"Key: {keys.shown(key)}.")
            assert button.text().startswith(keys.TABLE[key].name)
    bound = {str(key) for layer in (viewer, train.bridge.masks) for key in layer.keymap}
    told = {key.replace("Control", "Ctrl").replace("-", "+") for key in keys.TABLE}
    assert bound == (told - {keys.CLASSES}) | set(keys.DIGITS)

    press(viewer, Qt.Key.Key_F1)
    sheet = viewer.window._qt_window.findChild(KeySheet)
    assert sheet.isVisible() and not sheet.isModal() and sheet.styleSheet() == ""
    said = {label.text() for label in sheet.findChildren(QLabel)}
    for key, entry in keys.TABLE.items():
        assert {keys.shown(key), entry.name, entry.tip, entry.place} <= said
    assert sheet.height() < 700 and sheet.width() < 900
    for label in sheet.findChildren(QLabel):  # nothing is cut off
        assert label.height() >= label.heightForWidth(label.width())
    press(viewer, Qt.Key.Key_H)  # the viewer's keys go on working
    assert not train.bridge.ours("predicted").visible
    press(viewer, Qt.Key.Key_F1)
    assert not sheet.isVisible()
    train.keys_button.click()
    assert sheet.isVisible()


def test_no_key_of_the_docks_is_one_that_napari_has_for_images_masks_or_the_viewer(viewer):
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from napari.settings import get_settings
    from napari.utils.action_manager import action_manager

    ours = set(keys.TABLE) - {keys.UNDO, keys.REDO, keys.CLASSES}  # which are taken over on purpose
    assert len(ours) == 8
    ours = {key.replace("-", "+") for key in ours}
    asked = (Image, Labels, ViewerModel)  # what is asked for a key when images or masks are selected
    for name, bound in get_settings().shortcuts.shortcuts.items():
        if any(issubclass(each, action_manager._actions[name].keymapprovider) for each in asked):
            assert not ours & {str(key) for key in bound}, name
    assert not ours & {str(key) for each in asked for key in each.class_keymap}
