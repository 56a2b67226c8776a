"""A folder of files through a saved model, with real clicks; nothing in the viewer is needed or touched."""

import json

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QScrollArea, QWidget

from napari_semigda.widgets.batch import BatchDock
from napari_semigda.widgets.dock import WIDTH
from napari_semigda.widgets.runner import COMMAND, Runner
from tests import fake_engine

from .conftest import discs, let_run, wait_for


@pytest.fixture
def make_batch_dock(viewer):
    docks = []

    def make(command=fake_engine.COMMAND):
        docks.append(BatchDock(runner=Runner(command)))
        viewer.window.add_dock_widget(docks[-1], name="SemiGDA: Batch", area="right")
        let_run(0.1)
        return docks[-1]

    yield make
    for dock in docks:
        dock.close_session()


@pytest.fixture
def folder(tmp_path):
    """Eight images and a model that thresholds them."""
    (tmp_path / "scans").mkdir()
    for i, image in enumerate(discs(8)[0]):
        Image.fromarray(image).save(tmp_path / "scans" / f"{i + 1}.png")
    wish(tmp_path, "")
    return tmp_path


def wish(folder, text):
    (folder / "nuclei.semigda").write_text(json.dumps({"wish": text}))


def click(widget):
    assert widget.isVisible() and widget.isEnabled()
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
    let_run(0.05)


def type_path(edit, path):
    line = edit.line_edit.native
    line.selectAll()
    QTest.keyClicks(line, str(path))
    QTest.keyClick(line, Qt.Key.Key_Return)
    let_run(0.05)


def choose(dock, folder):
    type_path(dock.model, folder / "nuclei.semigda")
    type_path(dock.images, folder / "scans")


def run_to_the_end(dock):
    assert dock.run_button.isVisible() and dock.run_button.isEnabled()
    QTest.mouseClick(dock.run_button, Qt.MouseButton.LeftButton)
    assert dock.running and not dock.run_button.isEnabled()  # asked at once: a batch may be over in no time
    wait_for_batch(lambda: not dock.running)


def wait_for_batch(what):
    end = 60
    while not what():
        let_run(0.05)
        end -= 0.05
        assert end > 0


def names(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


EIGHT = {f"{i}.png" for i in range(1, 9)}


def test_a_folder_is_run_with_two_choices_and_one_click(viewer, make_batch_dock, folder, notifications):
    dock = make_batch_dock()
    assert dock.run.sentence.text().startswith("Choose a model first")
    choose(dock, folder)
    assert dock.count.text() == "8 files"
    out = folder / "scans masks"
    assert dock.masks.value == out
    assert dock.run.sentence.text() == "Ready: masks for 8 files go to scans masks."
    run_to_the_end(dock)
    assert names(out) == EIGHT | {"overlays", "measurements.csv", "totals.csv"}
    assert names(out / "overlays") == EIGHT
    assert dock.run.sentence.text() == "Done: masks of 8 files written into scans masks." == notifications[-1]
    assert not dock.failed_button.isVisible() and not list(viewer.layers)
    run_to_the_end(dock)
    assert "8 files were finished earlier: nothing to do" in dock.run.sentence.text()


def test_a_folder_is_looked_into_once_its_path_is_written(make_batch_dock, folder, monkeypatch):
    looked = []
    monkeypatch.setattr("napari_semigda.widgets.batch.find_images", lambda paths: looked.append(*paths) or [])
    dock = make_batch_dock()
    QTest.keyClicks(dock.images.line_edit.native, str(folder / "scans"))
    assert not looked  # a path has many folders on its way, and a network drive takes its time for each
    let_run(0.5)
    assert looked == [folder / "scans"]


def test_the_boxes_decide_what_is_written(make_batch_dock, folder):
    dock = make_batch_dock()
    choose(dock, folder)
    type_path(dock.masks, folder / "elsewhere")
    for box in (dock.overlays, dock.measurements):
        box.setFocus()
        QTest.keyClick(box, Qt.Key.Key_Space)
    run_to_the_end(dock)
    assert names(folder / "elsewhere") == EIGHT


def test_stop_and_go_on(make_batch_dock, folder):
    wish(folder, "slow")
    dock = make_batch_dock()
    choose(dock, folder)
    click(dock.run_button)
    wait_for_batch((folder / "scans masks" / "2.png").exists)
    assert dock.run.bar.isVisible() and "left" in dock.run.bar.text()
    click(dock.stop_button)
    wait_for_batch(lambda: not dock.running)
    done = len(names(folder / "scans masks") & EIGHT)
    assert 2 <= done < 8
    assert dock.run.sentence.text() == f"Stopped after {done} of 8 files. Press Run to go on from there."
    run_to_the_end(dock)
    assert dock.run.sentence.text().endswith(f"{done} were finished earlier.")
    assert names(folder / "scans masks") >= EIGHT


def test_files_that_fail_are_listed_on_demand(make_batch_dock, folder, notifications):
    (folder / "scans" / "3.png").write_bytes(b"")
    (folder / "scans" / "5.png").write_bytes(b"not a picture")
    dock = make_batch_dock()
    choose(dock, folder)
    run_to_the_end(dock)
    assert dock.failed_button.text() == "2 failed" and not dock.failed_list.isVisible()
    assert notifications[-1].startswith("2 files without masks: ")
    click(dock.failed_button)
    first, second = dock.failed_list.toPlainText().splitlines()
    assert "3.png is empty" in first and "5.png cannot be read" in second
    assert dock.failed_list.isVisible() and dock.failed_list.isReadOnly()
    assert names(folder / "scans masks") & EIGHT == EIGHT - {"3.png", "5.png"}
    for name in ("3.png", "5.png"):
        Image.fromarray(discs()[0][0]).save(folder / "scans" / name)
    run_to_the_end(dock)
    assert not dock.failed_button.isVisible() and not dock.failed_list.isVisible()
    assert "masks of 2 files written" in dock.run.sentence.text()


def test_what_is_missing_is_said_and_nothing_starts(make_batch_dock, folder, notifications):
    dock = make_batch_dock()
    click(dock.run_button)
    assert notifications[-1].startswith("Choose a model first")
    type_path(dock.model, folder / "nuclei.semigda")
    click(dock.run_button)
    assert notifications[-1] == "Choose the folder with the images."
    (folder / "empty").mkdir()
    type_path(dock.images, folder / "empty")
    assert "holds no image" in dock.run.sentence.text() and dock.count.text() == ""
    type_path(dock.images, folder / "nowhere")
    assert "nowhere is not there" in dock.run.sentence.text()
    tifffile.imwrite(folder / "scans" / "1.tif", discs()[0][0])
    type_path(dock.images, folder / "scans")
    assert "have the same name but for the ending" in dock.run.sentence.text()
    (folder / "scans" / "1.tif").unlink()
    type_path(dock.masks, folder / "scans")
    click(dock.run_button)
    assert "a folder of their own" in notifications[-1]
    assert not dock.running and dock.runner.pid is None
    assert names(folder / "scans") == EIGHT


def test_a_file_that_is_no_model_is_refused_in_words(make_batch_dock, folder, notifications):
    (folder / "notes.semigda").write_text("shopping list")
    dock = make_batch_dock(COMMAND)
    choose(dock, folder)
    type_path(dock.model, folder / "notes.semigda")
    run_to_the_end(dock)
    assert "notes.semigda is damaged or not a SemiGDA model" in notifications[-1] == dock.run.sentence.text()
    assert not (folder / "scans masks").exists()


def test_a_real_model_marks_real_files(make_batch_dock, folder, tiny_run):
    dock = make_batch_dock(COMMAND)
    choose(dock, folder)
    assert dock.about.text() == "This is not a SemiGDA model, or it is damaged."
    type_path(dock.model, tiny_run[2])
    assert dock.about.text().startswith("Finds disc. Held-out Dice 0.")
    run_to_the_end(dock)
    assert dock.run.sentence.text().startswith("Done: masks of 8 files")
    masks = np.stack([np.asarray(Image.open(folder / "scans masks" / f"{i}.png")) for i in range(1, 9)])
    truth = discs(8)[1]
    assert 2 * (masks & truth).sum() / (masks.sum() + truth.sum()) > 0.5  # other discs than it was trained on
    table = (folder / "scans masks" / "measurements.csv").read_text().splitlines()
    assert len(table) > 8 and ",disc," in table[1]


def running(dock, folder):
    wish(folder, "slow")
    choose(dock, folder)
    click(dock.run_button)
    wait_for_batch((folder / "scans masks" / "2.png").exists)  # so 1.png is noted
    return psutil.Process(dock.runner.pid)


@pytest.mark.parametrize("end", ["dock", "viewer"])
def test_closing_ends_the_process_without_a_question(viewer, make_batch_dock, folder, end):
    dock = make_batch_dock()
    process = running(dock, folder)
    if end == "dock":
        viewer.window.remove_dock_widget(dock)
    else:
        viewer.close()
    assert not [x for x in QApplication.topLevelWidgets() if isinstance(x, QDialog) and x.isVisible()]
    wait_for(lambda: not process.is_running(), 5)
    for path in (folder / "scans masks").glob("*.png"):
        assert np.asarray(Image.open(path)).any()  # whole


def test_a_process_that_is_killed_is_told_and_run_goes_on(make_batch_dock, folder, notifications):
    dock = make_batch_dock()
    running(dock, folder).kill()
    wait_for_batch(lambda: not dock.running)
    assert "Finished files are untouched; press Run" in notifications[-1] == dock.run.sentence.text()
    run_to_the_end(dock)
    assert names(folder / "scans masks") >= EIGHT and "finished earlier" in dock.run.sentence.text()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_dock_fits_and_explains_itself(viewer, make_batch_dock, folder, theme):
    viewer.theme = theme
    viewer.window._qt_window.resize(1280, 720)
    long = folder / ("a folder with a rather long name " * 3)
    (folder / "scans").rename(long)
    dock = make_batch_dock()
    type_path(dock.model, folder / "nuclei.semigda")
    type_path(dock.images, long)
    (long / "3.png").write_bytes(b"")
    run_to_the_end(dock)
    click(dock.failed_button)
    area = dock.findChild(QScrollArea)
    content = area.widget()
    assert content.minimumSizeHint().width() <= WIDTH
    assert area.verticalScrollBar().maximum() == 0  # nothing below the window
    for widget in (dock.model, dock.images, dock.masks):
        assert widget.line_edit.native.accessibleName()
    visible = [x for x in content.findChildren(QWidget) if x.isVisible() and x.focusPolicy() & Qt.FocusPolicy.TabFocus]
    assert all(x.toolTip() or x.parent().toolTip() for x in visible if not x.objectName().startswith("qt_"))
    order, at = [], dock.model.line_edit.native
    for _ in range(200):
        at = at.nextInFocusChain()
        if at in (dock.images.line_edit.native, dock.masks.line_edit.native, dock.overlays, dock.run_button):
            order.append(at)
    assert order[:4] == [dock.images.line_edit.native, dock.masks.line_edit.native, dock.overlays, dock.run_button]
