"""What a person does, with a real mouse and real keys: paint, train, stop, correct, accept, undo."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_semigda.widgets.runner import COMMAND
from napari_semigda.widgets.words import State

from .conftest import discs, let_run, press, stroke, wait_for

DONE = (State.DONE, State.WORSE)


def paint_two_planes(viewer, dock):
    """New masks, then one thick stroke on each of two images."""
    dock.new_masks_button.click()
    dock.bridge.masks.brush_size = 20
    for plane in (0, 2):
        viewer.dims.set_current_step(0, plane)
        stroke(viewer, (24 + 4 * plane, 24 + 3 * plane), (24 + 4 * plane, 36 + 3 * plane))
    assert dock.bridge.project.painted == (0, 2)


def test_the_whole_loop_with_the_real_engine(viewer, make_dock, notifications):
    viewer.add_image(discs()[0], name="discs", scale=(3, 1, 1), translate=(0, 5, 5))
    dock = make_dock(COMMAND, max_steps=3)
    assert dock.state is State.NO_MASKS
    dock.new_masks_button.click()
    masks = dock.bridge.masks
    masks.brush_size = 20
    for plane in (0, 2):
        viewer.dims.set_current_step(0, plane)
        stroke(viewer, (29 + 4 * plane, 29 + 3 * plane), (29 + 4 * plane, 41 + 3 * plane))
    assert dock.counts.text() == "2 of 4 painted"
    assert dock.state is State.READY
    painted = masks.data.copy()

    press(viewer, Qt.Key.Key_T)
    assert dock.state is State.STARTING
    wait_for(lambda: dock.bridge.ours("predicted") is not None)
    assert dock.state in (State.TRAINING, State.PREDICTING, State.DONE)
    wait_for(lambda: dock.state in (*DONE, State.ERROR))
    assert dock.state is State.DONE, dock.run.sentence.text()
    assert "Held-out Dice" in dock.run.dice.text()
    assert "on 1 image" in dock.run.dice.text()
    assert "discs, slice" in dock.run.dice.toolTip()
    assert len(dock.run.curve.value()[0]) > 0
    np.testing.assert_array_equal(masks.data, painted)  # the user's masks are the user's

    predicted = dock.bridge.ours("predicted")
    np.testing.assert_array_equal(predicted.scale, viewer.layers["discs"].scale)
    np.testing.assert_array_equal(predicted.translate, viewer.layers["discs"].translate)
    assert predicted.data.shape == discs()[0].shape
    assert not predicted.editable

    review = dock.bridge.project.review
    assert sorted(review.suggestions()) == [1, 3] and set(review.dice) < {0, 2}
    assert all(look.description is not None for look in review._looks.values())

    first = dock.bridge.project.rounds.in_use
    viewer.layers.selection.active = masks
    stroke(viewer, (60, 15), (60, 25))  # a correction
    press(viewer, Qt.Key.Key_T)
    job = dock.bridge.project._running[2]
    assert job.request.init == first.model  # it goes on from where it was
    wait_for(lambda: dock.state in (*DONE, State.ERROR))
    assert dock.state in DONE, dock.run.sentence.text()
    assert len(dock.bridge.project.rounds) == 2
    assert notifications == []


def test_accept_is_one_step_that_undo_takes_back_and_touches_no_other_slice(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock()
    paint_two_planes(viewer, dock)
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    masks, predicted = dock.bridge.masks, dock.bridge.ours("predicted")
    viewer.dims.set_current_step(0, 1)
    viewer.layers.selection.active = masks
    stroke(viewer, (5, 5), (5, 20))
    before = masks.data.copy()
    assert not np.array_equal(before[1], predicted.data[1])

    press(viewer, Qt.Key.Key_A)
    np.testing.assert_array_equal(masks.data[1], predicted.data[1])
    np.testing.assert_array_equal(masks.data[[0, 2, 3]], before[[0, 2, 3]])
    let_run(0.3)
    assert dock.counts.text() == "3 of 4 painted"

    press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(masks.data, before)
    press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)  # the stroke before it
    assert not masks.data[1].any()
    np.testing.assert_array_equal(masks.data[[0, 2, 3]], before[[0, 2, 3]])
    press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(masks.data, before)


def test_undoing_a_stroke_takes_the_plane_out_of_the_painted_ones(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock()
    dock.new_masks_button.click()
    assert dock.state is State.NOTHING_PAINTED
    stroke(viewer, (30, 20), (30, 40))
    assert (dock.counts.text(), dock.state) == ("1 of 4 painted", State.READY)
    press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    let_run(0.3)
    assert (dock.counts.text(), dock.state) == ("0 of 4 painted", State.NOTHING_PAINTED)


def test_painting_goes_on_while_training_and_the_preview_follows_the_slice(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock(max_steps=100)
    paint_two_planes(viewer, dock)
    dock.train_button.click()
    wait_for(lambda: dock.state is State.TRAINING)
    seen = []
    dock.runner.predicted.connect(lambda prediction: seen.append(prediction.index))
    viewer.dims.set_current_step(0, 3)
    wait_for(lambda: seen and seen[-1] == 3)
    assert dock.bridge.ours("predicted").data[3].any()
    viewer.layers.selection.active = dock.bridge.masks
    stroke(viewer, (10, 10), (10, 30))
    assert dock.bridge.masks.data[3].any()
    assert dock.state is State.TRAINING
    press(viewer, Qt.Key.Key_T, Qt.KeyboardModifier.ShiftModifier)
    assert dock.state in (State.STOPPING, State.PREDICTING, State.DONE)
    wait_for(lambda: dock.state is State.DONE)
    assert dock.run.sentence.text().startswith("Stopped after")
    assert dock.bridge.project.rounds.in_use.model.exists()
    assert all(dock.bridge.ours("predicted").data[plane].any() for plane in range(4))


def test_the_second_round_goes_on_from_the_first_unless_told_otherwise(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock()
    paint_two_planes(viewer, dock)
    for expected in (None, "round-1.semigda", None):
        if expected is None and dock.bridge.project.rounds:
            dock.advanced.afresh.value = True
        dock.train_button.click()
        init = dock.bridge.project._running[dock.bridge.project.generation].request.init
        assert (init.name if init else None) == expected
        wait_for(lambda: dock.state is State.DONE)


def test_a_worse_round_is_refused_in_words_and_can_be_used_all_the_same(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock()
    paint_two_planes(viewer, dock)
    dock.bridge.project.name_classes({1: "worse"})
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    assert not dock.anyway_button.isVisible()
    dock.train_button.click()
    wait_for(lambda: dock.state is State.WORSE)
    assert "not better (Dice 0.50 after 0.90): keeping round 1" in dock.run.sentence.text()
    assert dock.bridge.project.rounds.in_use.number == dock.round_choice.value() == 1
    dock.anyway_button.click()
    wait_for(lambda: dock.state is State.READY)
    assert dock.bridge.project.rounds.in_use.number == dock.round_choice.value() == 2
    assert "masks of all images" in dock.run.sentence.text()
    QTest.keyClick(dock.round_choice.box, Qt.Key.Key_Down)  # back to the round that is better
    wait_for(lambda: dock.state is State.READY and not dock.bridge.project._running)
    assert dock.bridge.project.rounds.in_use.number == dock.round_choice.value() == 1


def test_train_pressed_while_the_images_are_marked_starts_the_next_round(viewer, make_dock):
    viewer.add_image(discs(12)[0], name="discs")
    dock = make_dock(max_steps=1)
    paint_two_planes(viewer, dock)
    dock.bridge.project.name_classes({1: "slow"})
    dock.train_button.click()
    wait_for(lambda: dock.state is State.PREDICTING)
    assert dock.train_button.isEnabled()
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    assert len(dock.bridge.project.rounds) == 2


@pytest.mark.parametrize("kind", ["grey", "rgb", "stack of rgb", "five axes"])
def test_every_kind_of_image_is_painted_and_predicted(viewer, make_dock, kind):
    images, _ = discs()
    rgb = kind.endswith("rgb")
    data = {
        "grey": images[0],
        "rgb": np.stack([images[0]] * 3, -1),
        "stack of rgb": np.stack([images] * 3, -1),
        "five axes": images.reshape(2, 1, 2, 64, 72),
    }[kind]
    viewer.add_image(data, name="pictures", rgb=rgb)
    dock = make_dock()
    masks = dock.new_masks()
    assert masks.data.shape == (data.shape[:-1] if rgb else data.shape)
    masks.brush_size = 15
    stroke(viewer, (24, 24), (24, 36))
    assert dock.state is State.READY, dock.run.sentence.text()
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    predicted = np.asarray(dock.bridge.ours("predicted").data)
    assert predicted.shape == masks.data.shape
    assert all(plane.any() for plane in predicted.reshape(-1, 64, 72))


def test_keys_of_the_dock_leave_those_of_napari_alone(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock()
    paint_two_planes(viewer, dock)
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    masks, predicted = dock.bridge.masks, dock.bridge.ours("predicted")
    viewer.layers.selection.active = masks
    press(viewer, Qt.Key.Key_H)
    assert not predicted.visible
    press(viewer, Qt.Key.Key_H)
    assert predicted.visible
    masks.mode = "pan_zoom"
    press(viewer, Qt.Key.Key_P)  # napari's own: the brush
    assert str(masks.mode) == "paint"
    press(viewer, Qt.Key.Key_E)
    assert str(masks.mode) == "erase"
    viewer.window.remove_dock_widget(dock)
    let_run(0.1)
    press(viewer, Qt.Key.Key_H)
    assert predicted.visible
