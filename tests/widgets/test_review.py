"""The Review dock with real clicks and keys: verify, skip, images without masks, rounds, and the dock by itself."""

import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.types import Report, Settings
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore
from napari_semigda.widgets import review_table
from napari_semigda.widgets.words import State

from .conftest import (
    CONTROL,
    SHIFT,
    click_row,
    column,
    discs,
    let_run,
    predict,
    press,
    states,
    stroke,
    wait_for,
    write_images,
)


def test_the_states_follow_what_is_done(viewer, both, notifications):
    train, review = both
    assert review.counts.text() == "4 images   0 verified   0 in progress"
    assert states(review) == ["unlabelled"] * 4
    train.bridge.masks.brush_size = 16
    for plane in (0, 2):
        viewer.dims.set_current_step(0, plane)
        stroke(viewer, (24, 24), (24, 40))
    let_run(0.2)
    assert states(review) == ["in progress", "unlabelled", "in progress", "unlabelled"]
    train.train_button.click()
    wait_for(lambda: train.state is State.DONE)
    let_run(0.3)
    assert states(review) == ["in progress", "predicted", "in progress", "predicted"]
    assert column(review, review_table.DICE) == ["0.90", "", "", ""]
    assert all(text.endswith("%") for text in column(review, review_table.DOUBT))

    viewer.dims.set_current_step(0, 1)
    press(viewer, Qt.Key.Key_D)
    assert "ax1.png has no masks of yours" in notifications[-1]
    assert review.sentence.text() == notifications[-1]
    notifications.clear()
    press(viewer, Qt.Key.Key_A)
    press(viewer, Qt.Key.Key_D)  # at once: the accepted masks have not settled yet
    let_run(0.2)
    assert states(review)[1] == "✓ verified"
    assert review.counts.text() == "4 images   1 verified   2 in progress"
    assert review.verify_button.text().startswith("Verified")

    viewer.dims.set_current_step(0, 3)
    press(viewer, Qt.Key.Key_S)
    let_run(0.2)
    assert states(review)[3] == "skipped"
    assert notifications == []

    project = train.bridge.project
    assert project.keeper.flush()
    assert project.keeper.marked("verified") == {1}


def test_marks_and_dice_come_back_with_the_project_and_its_model_predicts(viewer, make_dock, make_review, tmp_path):
    store = ProjectStore.create(write_images(tmp_path / "study"))
    project = Project(ImageStack("study", store.images), keeper=store)
    masks = np.stack([discs()[1][0]] * 2 + [np.zeros((64, 72), np.uint8)] * 2)
    project.update_masks(masks)
    project.review.mark("verified", 1)
    project.review.mark("skipped", 3)
    job = project.snapshot(Settings())
    job.request.out.write_text('{"wish": "disc"}')  # what the quick engine takes for a model
    last = Report("done", elapsed=1, dice=0.9, held_out=("ax0.png",), dice_by_image={"ax0.png": 0.9})
    project.finish(job.generation, Outcome(job.request.out), last)
    project.close()

    train = make_dock()
    assert train.projects.open(tmp_path / "study")
    review = make_review(train)
    assert states(review) == ["in progress", "✓ verified", "unlabelled", "skipped"]
    assert column(review, review_table.DICE) == ["0.90", "", "", ""]
    viewer.dims.set_current_step(0, 3)
    press(viewer, Qt.Key.Key_S)  # wanted after all
    let_run(0.2)
    assert states(review)[3] == "unlabelled"
    press(viewer, Qt.Key.Key_N)  # there is a model but no prediction
    assert "Marking the images with round 1" in review.sentence.text()
    wait_for(lambda: states(review)[2:] == ["predicted", "predicted"], 20)


def test_accept_leaves_verified_masks_alone(viewer, both, notifications):
    train, review = both
    predict(train, [], [], [], [])
    train.bridge.masks.brush_size = 10
    stroke(viewer, (50, 10), (50, 20))
    press(viewer, Qt.Key.Key_D)
    verified = train.bridge.masks.data.copy()
    press(viewer, Qt.Key.Key_A)
    np.testing.assert_array_equal(train.bridge.masks.data, verified)
    (said,) = notifications
    assert said.startswith("ax0.png is verified, so its masks stay as they are")
    review.verify_button.click()
    press(viewer, Qt.Key.Key_A)
    np.testing.assert_array_equal(train.bridge.masks.data[0], discs()[1][0])


def test_an_image_without_any_of_the_classes_is_verified_as_empty_and_that_is_undone(viewer, both, notifications):
    train, review = both
    marks = train.bridge.project.review
    train.bridge.masks.brush_size = 10
    stroke(viewer, (30, 20), (30, 40))
    viewer.dims.set_current_step(0, 3)
    press(viewer, Qt.Key.Key_D)
    let_run(0.2)
    assert states(review)[3] == "✓ verified"
    assert "ax3.png is verified: none of your classes is on it" in review.sentence.text()
    assert train.counts.text() == "1 of 4 painted, 1 empty"
    assert "1 painted, 1 verified as empty, 2 unlabelled images" in train.run.sentence.text()
    press(viewer, Qt.Key.Key_Z, CONTROL)
    assert not marks.is_verified(3) and train.counts.text() == "1 of 4 painted"
    press(viewer, Qt.Key.Key_Z, CONTROL | SHIFT)
    assert marks.is_verified(3)
    stroke(viewer, (30, 20), (30, 40))  # something is on it after all
    let_run(0.2)
    assert states(review)[3] == "in progress"
    press(viewer, Qt.Key.Key_Z, CONTROL)
    let_run(0.2)
    assert states(review)[3] == "✓ verified"
    assert notifications == []

    predict(train, [], [], [], [])
    viewer.dims.set_current_step(0, 2)
    press(viewer, Qt.Key.Key_D)  # perhaps Accept was forgotten
    assert "press Accept to take the predicted ones" in notifications[-1] and not marks.is_verified(2)
    press(viewer, Qt.Key.Key_D)
    assert marks.is_verified(2)
    press(viewer, Qt.Key.Key_A)
    assert "is verified, so its masks stay as they are" in notifications[-1]
    press(viewer, Qt.Key.Key_D)
    assert not marks.is_verified(2)
    train.style._box.setCurrentIndex(1)
    press(viewer, Qt.Key.Key_D)
    assert "With scribbles, what is not painted is unknown" in notifications[-1] and not marks.is_verified(2)
    assert train.bridge.project.keeper.flush()
    assert (mask_file(train, 3), mask_file(train, 2)) == ((True, False), (False, False))


def mask_file(train, number):
    """Whether there is a mask on disk, and whether it holds any paint."""
    path = train.bridge.project.keeper.home / "masks" / f"ax{number}.tif"
    return path.exists(), path.exists() and bool(np.asarray(Image.open(path)).any())


def test_the_doubt_overlay_is_off_until_wanted_and_the_boxes_of_both_docks_agree(viewer, both):
    train, review = both
    predict(train, [(2, 2, 6)], [], [], [])
    doubt = train.bridge.ours("doubt")
    assert not doubt.visible and doubt.colormap.name == "magma"
    QTest.mouseClick(review.doubt_box, Qt.MouseButton.LeftButton)
    assert doubt.visible and train.doubt_box.isChecked()
    train.doubt_box.setChecked(False)
    assert not doubt.visible and not review.doubt_box.isChecked()
    review.toggle_button.click()
    assert not train.bridge.ours("predicted").visible


def test_loose_layers_work_too_as_long_as_the_session_lasts(viewer, make_dock, make_review, notifications):
    train = make_dock()
    review = make_review(train)
    assert not review.verify_button.isEnabled()
    press(viewer, Qt.Key.Key_D)
    assert "Open images" in notifications[-1]
    images = np.stack([discs(3)[0]] * 2)
    viewer.add_image(images, name="scan", scale=(2, 3, 1, 1), translate=(1, 0, 5, 5))
    viewer.add_points(np.zeros((1, 5)))  # more axes than the images have
    let_run(0.2)
    assert column(review, review_table.NAME)[4] == "slice 1, 1"
    train.new_masks()
    click_row(review, 4)
    assert train.bridge.plane_in_view() == 4
    train.bridge.masks.paint((1, 1, 20, 20), 1)
    let_run(0.3)
    assert review.verify()
    assert train.bridge.project.review.is_verified(4)
    viewer.layers.remove("scan")
    let_run(0.2)
    assert review.table.rowCount() == 0
    assert "Open images" in review.sentence.text()


def test_no_other_round_is_taken_while_one_runs(viewer, make_dock, make_review):
    viewer.add_image(discs()[0], name="discs")
    viewer.add_labels(discs()[1], name="masks")
    train = make_dock(max_steps=1000)
    review, project = make_review(train), train.bridge.project
    for _ in range(2):
        job = project.snapshot(Settings())
        project.finish(job.generation, Outcome(job.request.out), Report("done"))
    train.training.start()
    QTest.keyClick(review.rounds.choice.box, Qt.Key.Key_Down)
    assert project.rounds.number_in_use == train.round_choice.value() == review.rounds.choice.value() == 2


def test_the_dock_opens_the_train_dock_beside_itself_and_outlives_it(viewer, tmp_path, monkeypatch):
    import napari
    from app_model import Application
    from napari._app_model import get_app_model

    app = get_app_model()  # the viewer fixture makes one of another name
    monkeypatch.setattr(Application, "get_app", lambda name: app if name == "napari" else None)
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    viewer.add_image(discs()[0], name="discs")
    app.commands.execute_command("napari-semigda.review").result()
    let_run(0.3)
    docks = {type(dock).__name__: dock for dock in viewer.window.dock_widgets.values()}
    train, review = docks["TrainDock"], docks["ReviewDock"]
    assert review.bridge is train.bridge
    assert review.table.rowCount() == 4
    assert train.visibleRegion().isEmpty() and not review.visibleRegion().isEmpty()  # tabs, this one on top
    viewer.window.remove_dock_widget(train)
    let_run(0.2)
    assert (review.table.rowCount(), review.bridge) == (0, None)
    press(viewer, Qt.Key.Key_D)
    QTest.mouseClick(review.train_button, Qt.MouseButton.LeftButton)
    let_run(0.3)
    assert review.table.rowCount() == 4
    assert not review.train_button.isVisible()
    viewer.window.remove_dock_widget(review)
    assert "D" not in {str(key) for key in viewer.keymap}
