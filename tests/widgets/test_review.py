"""The Review dock with real clicks and keys: the table and the slider, verify, skip, the tour of doubtful places."""

import time

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.types import Prediction, Report, Settings
from napari_semigda.project import Project
from napari_semigda.review import ImageState
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore
from napari_semigda.widgets import keys, review_table
from napari_semigda.widgets.history import MOST, History
from napari_semigda.widgets.review import ReviewDock
from napari_semigda.widgets.thumbnails import SIZE, thumbnail
from napari_semigda.widgets.words import State

from .conftest import discs, let_run, press, stroke, wait_for

CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


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


def test_strokes_accept_and_verify_are_taken_back_in_the_order_they_were_made(viewer, both):
    train, review = both
    predict(train, [], [], [], [])
    masks, marks = train.bridge.masks, train.bridge.project.review
    masks.brush_size = 8
    seen = [(masks.data.copy(), False)]

    def remember():
        let_run(0.2)
        seen.append((masks.data.copy(), marks.is_verified(0)))

    stroke(viewer, (50, 10), (50, 20))
    remember()
    press(viewer, Qt.Key.Key_A)
    remember()
    press(viewer, Qt.Key.Key_D)
    remember()
    stroke(viewer, (55, 40), (55, 50))  # the user's own hand may still change a verified image
    remember()
    press(viewer, Qt.Key.Key_D)
    remember()
    assert [verified for _, verified in seen] == [False, False, False, True, True, False]

    viewer.dims.set_current_step(0, 2)  # from wherever
    for data, verified in reversed(seen[:-1]):
        press(viewer, Qt.Key.Key_Z, CONTROL)
        np.testing.assert_array_equal(masks.data, data)
        assert marks.is_verified(0) is verified or not data[0].any()
    let_run(0.3)
    assert train.bridge.project.painted == ()  # strokes of an image out of view are noticed too
    for data, verified in seen[1:]:
        press(viewer, Qt.Key.Key_Z, CONTROL | SHIFT)
        let_run(0.2)
        np.testing.assert_array_equal(masks.data, data)
        assert marks.is_verified(0) is verified
    assert "is not verified any more" in review.sentence.text()


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


def test_the_table_and_the_slider_follow_each_other(viewer, both):
    train, review = both
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(4)))
    click_row(review, 2)
    assert shown(viewer) == 2
    QTest.keyClick(review.view, Qt.Key.Key_Down)
    assert shown(viewer) == 3
    QTest.keyClick(review.view, Qt.Key.Key_Home)
    assert shown(viewer) == 0
    viewer.dims.set_current_step(0, 1)
    assert review.view.currentIndex().row() == 1
    train.bridge.masks.brush_size = 10
    stroke(viewer, (30, 20), (30, 40))
    click_row(review, 1)
    QTest.keyClick(review.view, Qt.Key.Key_D)  # a key of the viewer, whoever has the focus
    let_run(0.2)
    assert states(review)[1] == "✓ verified"
    assert shown(viewer) == 1

    review.state_box.setCurrentIndex(review.state_box.findData(ImageState.UNLABELLED))
    assert column(review, review_table.NAME) == ["ax0.png", "ax2.png", "ax3.png"]
    assert not review.view.currentIndex().isValid()  # the image in view is not among them
    assert shown(viewer) == 1
    click_row(review, 1)
    assert shown(viewer) == 2


def test_a_click_on_a_head_sorts(viewer, both):
    train, review = both
    predict(train, [(24, 30, 4)], [(24, 30, 12)], [], [(24, 30, 8)])
    header = review.view.horizontalHeader()
    middle = header.sectionViewportPosition(review_table.DOUBT) + 10
    QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=header.rect().center().__class__(middle, 8))
    assert column(review, review_table.NAME) == ["ax1.png", "ax3.png", "ax0.png", "ax2.png"]
    assert review.order_box.currentText() == "Most doubtful"
    review.set_order("order")
    assert column(review, review_table.NAME) == [f"ax{number}.png" for number in range(4)]


def test_next_doubtful_goes_through_the_places_of_an_image_and_then_to_the_next_image(viewer, both, notifications):
    train, review = both
    press(viewer, Qt.Key.Key_N)
    assert "Nothing is predicted yet" in notifications[-1]
    notifications.clear()
    predict(train, [(2, 2, 6)], [(5, 5, 14), (50, 60, 8)], [(24, 30, 2)], [(20, 20, 10)])
    assert [review.project.review.doubt(plane) > 0 for plane in range(4)] == [True] * 4
    camera = viewer.scene.camera
    zoom = camera.zoom

    def goes_to(plane, row, col, within):
        press(viewer, Qt.Key.Key_N)
        assert shown(viewer) == plane
        assert np.hypot(camera.center[1] - row, camera.center[2] - col) < within

    review.skip()  # ax0: not wanted, on to the most doubtful one
    assert (shown(viewer), states(review)[0]) == (1, "skipped")
    assert np.hypot(camera.center[1] - 12, camera.center[2] - 12) < 7
    goes_to(1, 54, 64, 4)
    assert "ax1.png: place 2 of 2" in review.sentence.text()
    goes_to(3, 25, 25, 5)
    goes_to(2, 25, 31, 2)
    goes_to(1, 12, 12, 7)  # all seen: from the start
    press(viewer, Qt.Key.Key_A)
    goes_to(3, 25, 25, 5)  # dealt with
    assert camera.zoom == zoom
    viewer.dims.set_current_step(0, 2)
    goes_to(2, 25, 31, 2)  # from where the user is
    for plane in (2, 3):
        viewer.dims.set_current_step(0, plane)
        press(viewer, Qt.Key.Key_A)
    press(viewer, Qt.Key.Key_N)
    assert "Nothing is left to suggest" in notifications[-1]


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


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((300, 500), np.uint16), ((500, 20, 3), np.uint8), ((9, 9, 4), np.float32), ((40, 40, 2), np.int32)],
)
def test_a_small_picture_of_any_image(shape, dtype):
    pixels = np.random.default_rng(0).uniform(0, 900, shape).astype(dtype)
    if dtype == np.float32:
        pixels[0, 0] = np.nan
    small = thumbnail(pixels)
    assert small.dtype == np.uint8 and small.shape[2] == 3
    assert small.shape[0] <= SIZE[1] and small.shape[1] <= SIZE[0]
    assert small.std() > 0


def test_pictures_of_a_project_are_made_once(viewer, both, monkeypatch):
    train, review = both
    folder = train.bridge.project.keeper.home / "pictures"
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(4)), 10)
    assert len(list(folder.glob("ax*.png"))) == 4
    made = []
    monkeypatch.setattr("napari_semigda.widgets.thumbnails.thumbnail", made.append)
    review.table.show(train.bridge.project)
    review.view.viewport().repaint()
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(4)), 10)
    assert made == []


def test_an_image_that_cannot_be_read_does_not_stop_the_others(viewer, make_dock, make_review, tmp_path):
    folder = write_images(tmp_path / "study", 5)
    ProjectStore.create(folder).close()
    broken = folder / "ax2.png"
    broken.write_bytes(broken.read_bytes()[:100].ljust(broken.stat().st_size, b"\0"))  # found out when it is read
    train = make_dock()
    train.projects.open(folder)
    review = make_review(train)
    assert review.table.rowCount() == 5
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(5)), 10)


def test_a_thousand_images_are_looked_through_without_waiting(viewer, make_dock, make_review, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    image = discs(1)[0][0]
    for number in range(1000):
        Image.fromarray(np.roll(image, number, 0)).save(folder / f"ax{number}.png", compress_level=0)
    ProjectStore.create(folder).close()
    train = make_dock()
    train.projects.open(folder)
    review = make_review(train)
    rng = np.random.default_rng(0)
    for plane in range(1000):
        doubt = np.full(image.shape, rng.uniform(0.2, 1), np.float32)
        look = rng.normal(0, 1, 152).astype(np.float32)
        train.bridge.show_prediction(Prediction(plane, f"ax{plane}.png", image // 128, doubt, description=look))
    let_run(0.3)
    assert review.counts.text() == "1000 images   0 verified   0 in progress"

    def seconds(action, times):
        taken = []
        for at in range(times):
            began = time.perf_counter()
            action(at)
            review.view.viewport().repaint()
            QApplication.processEvents()
            taken.append(time.perf_counter() - began)
        return float(np.median(taken))

    bar = review.view.verticalScrollBar()
    figures = {
        "scroll": seconds(lambda at: bar.setValue(bar.maximum() * at // 20), 20),
        "key down": seconds(lambda at: QTest.keyClick(review.view, Qt.Key.Key_Down), 10),
        "slider": seconds(lambda at: viewer.dims.set_current_step(0, 90 * at), 10),
        "next doubtful": seconds(lambda at: review.next_doubtful(), 5),
        "sort": seconds(lambda at: review.set_order(("suggested", "doubt")[at % 2]), 4),
    }
    print(figures)  # noqa: T201 - pytest -s
    assert all(figure < 0.2 for figure in figures.values()), figures
    assert len(review.table.thumbnails._kept) <= 400


def test_what_was_done_long_ago_is_forgotten():
    """Each step holds what it replaced: in a day of painting that would be a mask for every Accept."""
    steps, taken_back = History(lambda _: None), []
    for number in range(MOST + 50):
        steps.add(lambda number=number: taken_back.append(number), lambda: None)
    for _ in range(2 * MOST):
        steps.undo()
    assert taken_back == list(range(MOST + 49, 49, -1))
