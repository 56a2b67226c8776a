"""A project from the dock, with real strokes: made, painted, killed, opened again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from qtpy.QtCore import Qt

from napari_semigda.store import ProjectStore
from napari_semigda.widgets import commands
from napari_semigda.widgets.key_sheet import KeySheet
from napari_semigda.widgets.project_row import NO_PROJECT
from napari_semigda.widgets.words import State

from .conftest import discs, let_run, press, stroke, wait_for

UNDO = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    for number, image in enumerate(discs()[0]):
        Image.fromarray(image).save(folder / f"ax{number}.png")
    return folder


def mask_of(folder, number):
    path = folder / "semigda" / "masks" / f"ax{number}.tif"
    return tifffile.imread(path) if path.exists() else np.zeros((64, 72), np.uint8)


def test_a_stroke_is_on_disk_in_two_seconds_and_so_is_its_undo(viewer, make_dock, folder, notifications):
    dock = make_dock()
    assert dock.project_row.button.text() == NO_PROJECT
    assert dock.projects.new(folder)
    assert dock.project_row.button.text() == "study"
    assert dock.state is State.NOTHING_PAINTED
    dock.bridge.masks.brush_size = 12
    for plane in (0, 2):
        viewer.dims.set_current_step(0, plane)
        stroke(viewer, (30, 20), (30, 40))
        wait_for(lambda plane=plane: np.array_equal(mask_of(folder, plane), dock.bridge.masks.data[plane]), 2)
        assert mask_of(folder, plane).any()
    stroke(viewer, (50, 20), (50, 40))
    press(viewer, Qt.Key.Key_Z, UNDO)
    wait_for(lambda: np.array_equal(mask_of(folder, 2), dock.bridge.masks.data[2]), 2)
    press(viewer, Qt.Key.Key_Z, UNDO)
    wait_for(lambda: not mask_of(folder, 2).any(), 2)
    assert dock.counts.text() == "1 of 4 painted"

    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    assert dock.bridge.project.rounds.in_use.model == folder / "semigda" / "rounds" / "round-1.semigda"
    assert dock.bridge.project.rounds.in_use.held_out == ("ax0.png",)
    viewer.dims.set_current_step(0, 3)
    press(viewer, Qt.Key.Key_A)
    wait_for(lambda: np.array_equal(mask_of(folder, 3), dock.bridge.ours("predicted").data[3]), 2)
    assert notifications == []


@pytest.mark.parametrize("how", ["menu", "layers", "dock", "viewer"])
def test_closing_saves_the_stroke_of_a_moment_ago_and_frees_the_project(viewer, make_dock, folder, how):
    dock = make_dock()
    dock.projects.new(folder)
    dock.bridge.masks.paint((1, 20, 20), 1)
    wanted = dock.bridge.masks.data[1].copy()
    if how == "menu":
        dock.projects.close()
        assert dock.project_row.button.text() == NO_PROJECT
        assert list(viewer.layers) == []
    elif how == "layers":
        viewer.layers.clear()
        assert dock.project_row.button.text() == NO_PROJECT
    elif how == "dock":
        viewer.window.remove_dock_widget(dock)
    else:
        viewer.close()
    np.testing.assert_array_equal(mask_of(folder, 1), wanted)
    ProjectStore.open(folder).close()


VIEWER = """
import sys
from pathlib import Path
import napari
from qtpy.QtCore import QTimer
from napari_semigda.widgets.train import TrainDock
from tests.widgets.conftest import let_run, stroke
viewer = napari.Viewer()
viewer.window._qt_window.resize(1000, 700)
dock = TrainDock(viewer)
viewer.window.add_dock_widget(dock, name="SemiGDA: Train", area="right")
let_run(0.3)
dock.projects.new(Path(sys.argv[1]))
dock.bridge.masks.brush_size = 9
viewer.dims.set_current_step(0, 0)
for row in (20, 40):
    stroke(viewer, (row, 20), (row, 40))
print("stroke", int(dock.bridge.masks.data[0].sum()), flush=True)
napari.run()
"""


def test_the_last_stroke_is_there_after_the_viewer_was_killed(viewer, make_dock, folder, notifications):
    process = subprocess.Popen(
        [sys.executable, "-c", VIEWER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    pixels = next(int(line.split()[1]) for line in process.stdout if line.startswith("stroke"))  # napari prints too
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    dock = make_dock()
    assert dock.projects.open(folder)
    masks = dock.bridge.masks.data
    assert masks[0].sum() == pixels > 0
    assert masks[0][20, 30] == masks[0][40, 30] == 1
    assert dock.counts.text() == "1 of 4 painted"
    assert dock.state is State.READY
    assert notifications == []


def test_a_folder_that_was_dropped_is_offered_and_what_is_painted_comes_along(viewer, make_dock, folder):
    dock = make_dock()
    viewer.open(str(folder), plugin="napari")
    let_run(0.1)
    assert dock.project_row.offered() == folder
    assert dock.project_row.yes.isVisible()
    dock.new_masks()
    stroke(viewer, (30, 20), (30, 40))
    painted = dock.bridge.masks.data.copy()
    assert painted.any()
    dock.project_row.yes.click()
    assert not dock.project_row.yes.isVisible()
    assert [layer.name for layer in viewer.layers] == ["study", "study masks"]
    np.testing.assert_array_equal(dock.bridge.masks.data, painted)
    assert dock.project_row.value() == folder
    assert dock.bridge.project.keeper.flush()
    assert mask_of(folder, int(np.flatnonzero(painted.any(axis=(1, 2)))[0])).any()


def test_a_project_that_is_dropped_opens(viewer, make_dock, folder):
    ProjectStore.create(folder).close()
    dock = make_dock()
    viewer.open(str(folder), plugin="napari")
    let_run(0.1)
    assert dock.project_row.value() == folder
    assert [layer.name for layer in viewer.layers] == ["study", "study masks"]


def test_an_offer_can_be_declined_and_goes_with_its_layer(viewer, make_dock, folder):
    dock = make_dock()
    layer = viewer.open(str(folder), plugin="napari")[0]
    let_run(0.1)
    dock.project_row.no.click()
    assert not dock.project_row.yes.isVisible()
    assert not (folder / "semigda").exists()
    dock.project_row.offer(folder, "again?", "Yes")
    viewer.layers.remove(layer)
    assert dock.project_row.offered() is None


def test_what_is_wrong_is_one_sentence_and_the_layers_stay(viewer, make_dock, folder, tmp_path, notifications):
    dock = make_dock()
    viewer.add_image(discs()[0], name="loose")
    assert not dock.projects.open(tmp_path / "gone")
    assert "is not there any more" in notifications[-1]
    assert not dock.projects.new(tmp_path)
    assert "holds no image" in notifications[-1]
    other = ProjectStore.create(folder)
    assert not dock.projects.open(folder)
    assert "is open already" in notifications[-1]
    other.close()
    assert [layer.name for layer in viewer.layers] == ["loose"]
    assert dock.state is State.NO_MASKS


def test_a_disk_that_takes_nothing_is_said_until_it_does(viewer, make_dock, folder, notifications, monkeypatch):
    from napari_semigda.store import writer

    monkeypatch.setattr(writer, "RETRY_S", 0.05)
    dock = make_dock()
    dock.projects.new(folder)
    masks = folder / "semigda" / "masks"
    masks.write_text("in the way")
    stroke(viewer, (30, 20), (30, 40))
    wait_for(lambda: dock.project_row.saved.text() == "not saved", 5)
    assert "cannot be saved" in notifications[-1] and notifications[-1] == dock.project_row.saved.toolTip()
    masks.unlink()
    wait_for(lambda: dock.project_row.saved.text() == "saved as you go", 5)
    assert notifications[-1] == "Everything is saved again."
    np.testing.assert_array_equal(mask_of(folder, 1), dock.bridge.masks.data[1])
    assert dock.bridge.masks.data[1].any()
    dock.projects.close()

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("napari_semigda.store.files.FileLock", refuse)
    assert dock.projects.open(folder)
    assert dock.project_row.saved.text() == "not saved"
    assert "cannot be written to (Read-only file system)" in notifications[-1]


def test_no_other_masks_layer_can_take_the_place_of_a_projects_own(viewer, make_dock, folder, notifications):
    dock = make_dock()
    dock.projects.new(folder)
    dock.bridge.masks.paint((0, 20, 20), 1)
    let_run(0.3)
    other = viewer.add_labels(np.zeros((4, 64, 72), np.uint8), name="other")
    dock.masks.setValue(other)
    assert "The layer other is not that of the open project" in notifications[-1]
    viewer.layers.remove("study masks")
    assert dock.new_masks().data[0].any()
    assert dock.bridge.project.keeper.flush()
    assert mask_of(folder, 0).any()


def test_images_of_two_sizes_are_painted_and_predicted(viewer, make_dock, folder, notifications):
    Image.fromarray(discs(1, (96, 60))[0][0]).save(folder / "ax9.png")
    dock = make_dock()
    dock.projects.new(folder)
    masks = dock.bridge.masks
    assert masks.data.shape == (5, 96, 72)
    masks.brush_size = 16
    for plane in (0, 4):
        viewer.dims.set_current_step(0, plane)
        stroke(viewer, (24, 24), (24, 40))
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    predicted = np.asarray(dock.bridge.ours("predicted").data)
    assert predicted.any(axis=(1, 2)).all()
    assert not predicted[:4, 64:].any()
    assert not predicted[4, :, 60:].any()
    viewer.dims.set_current_step(0, 1)
    dock.accept()
    np.testing.assert_array_equal(masks.data[1], predicted[1])
    assert notifications == []


def test_the_menu_lists_projects_opened_lately(viewer, make_dock, folder):
    dock = make_dock()
    dock.projects.new(folder)
    dock.projects.close()
    dock.project_row.menu.aboutToShow.emit()
    actions = [action for action in dock.project_row.menu.actions() if action.text()]
    texts = [action.text() for action in actions]
    assert texts[:3] == ["New project from a folder of images…", "Open project…", "study"]
    actions[2].trigger()
    assert dock.project_row.value() == folder
    dock.project_row.menu.aboutToShow.emit()
    assert "Close project" in {action.text() for action in dock.project_row.menu.actions()}


def test_a_project_json_that_is_dropped_opens_the_dock_with_it(viewer, folder, tmp_path, monkeypatch):
    import napari
    from app_model import Application
    from napari._app_model import get_app_model

    app = get_app_model()  # the viewer fixture makes one of another name
    monkeypatch.setattr(Application, "get_app", lambda name: app if name == "napari" else None)
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    ProjectStore.create(folder).close()
    path = folder / "semigda" / "project.json"
    assert commands.project_reader(str(tmp_path / "project.json")) is None
    viewer.open(str(path), plugin="napari-semigda")
    dock = commands.train_dock()
    assert dock.project_row.value() == folder
    assert commands.train_dock() is dock
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *_: str(tmp_path))
    commands.show_keys()
    assert viewer.window._qt_window.findChild(KeySheet).isVisible()
    commands.new_project()  # a folder without images: said, and nothing else happens
    assert dock.project_row.value() == folder
    dock.close_session()
