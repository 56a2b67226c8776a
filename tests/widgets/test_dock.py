"""The dock as napari opens it, its choosers, and how it looks."""

import subprocess
import sys

import numpy as np
import pytest
from napari._app_model import get_app_model
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QWidget

from napari_semigda.engine.types import Report, Settings
from napari_semigda.widgets import words
from napari_semigda.widgets.choices import AdvancedValue
from napari_semigda.widgets.curve import MAX_POINTS, Curve
from napari_semigda.widgets.runner import Failure
from napari_semigda.widgets.train import TrainDock
from napari_semigda.widgets.words import State

from .conftest import discs, let_run, press, stroke, wait_for


def test_the_menu_entry_opens_a_dock_that_works_through_naparis_proxies(viewer):
    opened, name = get_app_model().commands.execute_command("napari-semigda.train").result()
    dock = opened if isinstance(opened, TrainDock) else opened.widget()
    assert isinstance(dock, TrainDock)
    assert name.startswith("SemiGDA: Train")
    viewer.add_image(discs()[0], name="discs")
    dock.new_masks_button.click()
    stroke(viewer, (30, 20), (30, 40))
    assert dock.state is State.READY
    assert viewer.layers.selection.active == viewer.layers["discs masks"]
    press(viewer, Qt.Key.Key_A)
    assert "no prediction" in dock.run.sentence.text()
    dock.close_session()


def test_the_sample_is_ready_to_train_with_its_class_names(viewer, make_dock):
    dock = make_dock()
    viewer.open_sample("napari-semigda", "brain")
    assert dock.state is State.READY
    assert dock.counts.text() == "4 of 24 painted"
    assert set(dock.bridge.project.classes) == {1, 2}
    assert "4 painted, 20 unlabelled images." in dock.run.sentence.text()


def test_layers_come_go_and_are_renamed_in_the_combo_boxes(viewer, make_dock):
    dock = make_dock()
    one = viewer.add_image(discs()[0], name="one")
    two = viewer.add_image(discs()[0][0], name="two")
    box = dock.images.findChild(QComboBox)
    shown = lambda: {box.itemText(i) for i in range(box.count())}  # noqa: E731
    assert {"one (4 slices)", "two"} <= shown()
    assert dock.images.value() == one
    one.name = "first"
    assert "first (4 slices)" in shown()
    assert dock.images.value() == one
    dock.images.setValue(two)
    assert dock.bridge.image == two
    viewer.layers.remove(two)
    assert dock.images.value() == one
    assert dock.state is State.NO_MASKS


def test_settings_of_the_fold_reach_the_engine(viewer, make_dock):
    dock = make_dock()
    dock.time.setValue("thorough")
    value = AdvancedValue("cpu", "compact", unlabelled=False, seed=7, afresh=True)
    dock.advanced.setValue(value)
    assert dock.advanced.value() == value
    settings = value.settings(dock.time.value(), correction=False, sparse=True)
    assert (settings.minutes, settings.device, settings.backbone) == (20, "cpu", "compact")
    assert (settings.unlabelled_weight, settings.sparse, settings.seed) == (0, True, 7)


def test_a_correction_takes_a_fifth_of_the_chosen_time(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    viewer.add_labels(discs()[1], name="masks")
    dock = make_dock(max_steps=1)
    rounds = lambda: [(x.settings.minutes, x.settings.until_best) for x in dock.bridge.project.rounds]  # noqa: E731

    def train(number):
        dock.train_button.click()
        wait_for(lambda: len(rounds()) == number and dock.state is State.DONE)

    dock.time.setValue("standard")
    assert "About 5 minutes" in dock.run.sentence.text()
    train(1)
    dock.time.setValue("quick")
    assert "About 12 seconds" in dock.run.sentence.text()
    assert dock.run.sentence.text().endswith("to correct round 1.")
    train(2)
    dock.time.setValue("best")
    assert "Until it stops improving: 1 to 12 minutes" in dock.run.sentence.text()
    dock.advanced.afresh.value = True
    assert "Until it stops improving: 6 to 60 minutes" in dock.run.sentence.text()
    train(3)
    assert rounds() == [(5, False), (0.2, False), (60, True)]


def test_the_bar_goes_on_from_training_to_marking(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    viewer.add_labels(discs()[1], name="masks")
    dock = make_dock()
    dock.training._running, shown = dock.bridge.project, []
    for report in (
        Report("learning", 1, 0.1, 5, 45),
        Report("learning", 9, 0.9, 36, 14),
        Report("predicting", 10, 0.5, 45, 5),
    ):
        dock.run._drawn = 0
        dock.training._on_report(report)
        shown.append((dock.run.bar.value(), dock.run.bar.format(), dock.run.sentence.text()))
    assert [value for value, *_ in shown] == [100, 720, 900]
    assert shown[1][1] == "72%, 0:14 left"
    assert shown[2][1:] == ("90%, 0:05 left", "Marking the images: 2 of 4.")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off_at_1280_by_720(viewer, make_dock, theme):
    viewer.theme = theme
    viewer.window._qt_window.resize(1280, 720)
    dock = make_dock()
    viewer.open_sample("napari-semigda", "brain")
    dock.advanced.expand()
    dock.training._running = dock.bridge.project
    for step in range(3):
        report = Report("learning", step, step / 3, step, 9 - step, 1 / (step + 1), dice=0.5, held_out=("a",))
        dock.run._drawn = 0
        dock.training._on_report(report)
    let_run(0.2)
    assert dock.width() <= 330
    right = dock.mapToGlobal(dock.rect().topRight()).x()
    assert right <= viewer.window._qt_window.geometry().right() + 1
    for widget in dock.findChildren(QWidget):
        if widget.isVisible() and isinstance(widget, QAbstractButton | QLabel | QComboBox | Curve):
            assert widget.mapToGlobal(widget.rect().topRight()).x() <= right, widget
            assert widget.width() >= widget.minimumSizeHint().width(), widget
            if isinstance(widget, QLabel) and widget.wordWrap():
                assert widget.height() >= widget.heightForWidth(widget.width()), widget.text()


def test_details_of_an_error_are_there_on_demand(viewer, make_dock, notifications):
    viewer.add_image(discs()[0], name="discs")
    viewer.add_labels(discs()[1], name="masks")
    dock = make_dock()
    dock.training._on_failed(Failure("It broke: try again.", "Traceback: line 3"))
    assert (dock.state, notifications[-1]) == (State.ERROR, "It broke: try again.")
    assert not dock.run.details.isVisible()
    dock.run.show_details.click()
    assert dock.run.details.isVisible()
    assert dock.run.details.toPlainText() == "Traceback: line 3"
    dock.bridge.masks.paint((0, 5, 5), 1)
    let_run(0.4)
    assert dock.run.sentence.text() == "It broke: try again."  # painting on does not wipe it


def test_the_model_is_saved_once_there_is_one(viewer, make_dock, tmp_path, notifications):
    viewer.add_image(discs()[0], name="discs")
    viewer.add_labels(discs()[1], name="masks")
    dock = make_dock(max_steps=1)
    assert not dock.save_button.isEnabled()
    dock.training.start()
    wait_for(lambda: dock.state is State.DONE)
    assert dock.save_button.isEnabled()
    saved = dock.save_model(tmp_path / "mine")
    assert saved.read_bytes() == dock.bridge.project.rounds.in_use.model.read_bytes()
    assert dock.save_model(tmp_path / "nowhere" / "mine") is None
    assert "Cannot write" in notifications[-1]


def test_the_curve_keeps_its_shape_at_a_bounded_number_of_points(qtbot):
    curve = Curve()
    qtbot.addWidget(curve)
    for step in range(1, 5000):
        curve.add(step, 1 / step, None if step < 100 else float("nan") if step % 2 else 0.5)
    loss, dice = curve.value()
    assert len(loss) <= MAX_POINTS
    assert (loss[0][0], loss[-1][0]) == (1, 4999)
    assert all(value == 0.5 for _, value in dice)
    curve.add(4999, 0.25, 0.75)  # checked again at the same step: the newer figure counts
    assert curve.value()[0][-1] == (4999, 0.25)
    image = curve.grab().toImage()
    colours = {image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())}
    assert len(colours) > 10
    curve.clear()
    assert curve.value() == ([], [])


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (64, "1:04"), (59.7, "1:00"), (3700, "1:01:40")])
def test_times_are_written_as_on_a_clock(seconds, text):
    assert words.clock(seconds) == text


def test_sentences():
    about = words.how_long(Settings(minutes=1), 0.0, "CPU")
    assert words.ready(4, 24, about) == "4 painted, 20 unlabelled images. About 1 minute on this computer (CPU)."
    about = words.how_long(Settings(minutes=0.2), 0.0, "CPU")
    assert words.ready(5, 24, about, 1).endswith("About 12 seconds on this computer (CPU), to correct round 1.")
    about = words.how_long(Settings(minutes=60, until_best=True), 0.0, "")
    assert about == "Until it stops improving: 6 to 60 minutes"
    assert words.progress(Report("learning", fraction=0.6, remaining=64, at_most=True)) == "60%, at most 1:04 left"
    report = Report("done", dice=0.912, held_out=("a", "b"), dice_by_class={1: 0.9, 2: None})
    assert words.done(64, "Better.", stopped=False).startswith("Done in 1:04. Better. Look")
    tip = words.dice_tip(report, {1: "nucleus"})
    assert "nucleus: 0.90" in tip
    assert "class 2: not on these images" in tip
    assert tip.endswith("Measured on: a, b")
    assert words.dice(Report("done")) == "No image is kept back to check on: paint a second one."


def test_the_docks_leave_torch_alone():
    code = (
        "import sys, napari_semigda.widgets.train, napari_semigda.widgets.predict\n"
        "print([m for m in ('torch', 'monai', 'kornia') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_dock_made_for_an_open_viewer_finds_what_is_there(viewer, make_dock):
    images, masks = discs()
    viewer.add_image(images, name="discs")
    viewer.add_labels(masks, name="mine")
    viewer.add_labels(np.zeros((9, 9), np.uint8), name="other")
    dock = make_dock()
    assert (dock.bridge.image.name, dock.bridge.masks.name) == ("discs", "mine")
    assert dock.counts.text() == "4 of 4 painted"
