"""Every refusal is one sentence, in the dock and as a notification, and the user's masks stay as they are."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_semigda.widgets.words import State

from .conftest import discs, let_run, press, wait_for


@pytest.fixture
def images(viewer):
    return viewer.add_image(discs()[0], name="discs")


def test_pressing_train_too_early_says_what_comes_first(viewer, make_dock, notifications):
    dock = make_dock()
    assert dock.state is State.NO_IMAGES
    press(viewer, Qt.Key.Key_T)
    assert notifications[-1].startswith("Open images first: drag files")
    viewer.add_image(discs()[0], name="discs")
    press(viewer, Qt.Key.Key_T)
    assert notifications[-1] == "Press New masks to start masks for these images."
    dock.new_masks()
    press(viewer, Qt.Key.Key_T)
    assert notifications[-1].startswith("Paint at least one whole image.")
    assert not dock.train_button.isEnabled()
    assert not dock.runner.busy


def test_masks_of_another_shape_are_refused_by_name(viewer, make_dock, images, notifications):
    dock = make_dock()
    painted = np.ones((4, 10, 10), np.uint8)
    viewer.add_labels(painted, name="other study")
    assert dock.masks.value() is None  # not taken by itself
    dock.masks.setValue(viewer.layers["other study"])
    assert notifications[-1].startswith("The layer other study is 4 x 10 x 10 pixels but discs is 4 x 64 x 72")
    assert dock.run.sentence.text() == notifications[-1]
    assert dock.masks.value() is None
    assert dock.state is State.NO_MASKS
    assert painted.all()


def test_masks_replaced_by_data_of_another_shape_are_let_go(viewer, make_dock, images):
    dock = make_dock()
    dock.new_masks().data = np.ones((3, 5, 5), np.uint8)
    let_run(0.4)
    assert dock.bridge.masks is None
    assert dock.state is State.NO_MASKS


def test_decimal_masks_never_become_a_labels_layer(viewer, make_dock, images):
    make_dock()
    with pytest.raises(TypeError):
        viewer.add_labels(np.zeros((4, 64, 72), np.float32))


@pytest.mark.parametrize(
    ("paint", "said"),
    [
        (300, "label 300, but class ids end at 255"),
        (-3, "negative label -3"),
    ],
)
def test_numbers_that_are_no_classes_are_refused_at_once(viewer, make_dock, images, notifications, paint, said):
    masks = np.zeros((4, 64, 72), np.int32)
    masks[0, :9, :9] = paint
    viewer.add_labels(masks.copy(), name="objects")
    dock = make_dock()
    dock.train_button.click()
    assert said in notifications[-1]
    assert "discs, slice 0" in notifications[-1]
    assert not dock.runner.busy
    np.testing.assert_array_equal(viewer.layers["objects"].data, masks)


def test_forty_classes_are_refused_by_the_engine(viewer, make_dock, images, notifications):
    from napari_semigda.widgets.runner import COMMAND

    masks = np.zeros((4, 64, 72), np.uint8)
    masks[0].flat[: 40 * 50] = np.repeat(np.arange(1, 41), 50)
    viewer.add_labels(masks.copy(), name="objects")
    dock = make_dock(COMMAND)
    dock.train_button.click()
    wait_for(lambda: dock.state is State.ERROR)
    assert "40 classes, but 32 is the most" in notifications[-1]
    np.testing.assert_array_equal(viewer.layers["objects"].data, masks)


def test_nan_images_are_refused_by_the_engine(viewer, make_dock, notifications):
    from napari_semigda.widgets.runner import COMMAND

    data = discs()[0].astype(np.float32)
    data[3, 5, 6] = np.nan
    viewer.add_image(data, name="discs", contrast_limits=(0, 255))
    viewer.add_labels(discs()[1] * (np.arange(4) < 2)[:, None, None].astype(np.uint8), name="masks")
    dock = make_dock(COMMAND)
    dock.train_button.click()
    wait_for(lambda: dock.state is State.ERROR)
    assert "discs, slice 3 has 1 NaN" in notifications[-1]


def test_accepting_before_there_is_a_prediction_says_so(viewer, make_dock, images, notifications):
    dock = make_dock()
    dock.new_masks()
    press(viewer, Qt.Key.Key_A)
    assert "no prediction to accept yet" in notifications[-1]
    assert not dock.bridge.masks.data.any()


@pytest.mark.filterwarnings("ignore:Contours are not displayed")
def test_accepting_in_3d_is_refused(viewer, make_dock, images, notifications):
    viewer.add_labels(discs()[1], name="masks")
    dock = make_dock(max_steps=1)
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)
    before = dock.bridge.masks.data.copy()
    viewer.dims.ndisplay = 3
    dock.accept()
    assert "switch the viewer to 2D" in notifications[-1]
    np.testing.assert_array_equal(dock.bridge.masks.data, before)


def test_a_line_of_numbers_is_not_an_image(viewer, make_dock, notifications):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock()
    viewer.add_image(np.zeros((5, 6, 3), np.uint8), name="flat", rgb=True)
    assert dock.images.value() == viewer.layers["discs"]  # what was chosen stays chosen


def test_multiscale_images_are_used_at_full_size_and_multiscale_masks_refused(viewer, make_dock, notifications):
    data = discs()[0]
    viewer.add_image([data, data[:, ::2, ::2]], name="pyramid", multiscale=True)
    dock = make_dock()
    layer = viewer.add_labels([np.zeros(data.shape, np.uint8), np.zeros(data[:, ::2, ::2].shape, np.uint8)], name="low")
    dock.masks.setValue(layer)
    assert "low is multiscale" in notifications[-1]
    assert dock.new_masks().data.shape == data.shape


def test_a_disk_that_is_full_is_an_error_in_words(viewer, make_dock, images, notifications, monkeypatch):
    from types import SimpleNamespace

    from napari_semigda.engine import handover

    viewer.add_labels(discs()[1], name="masks")
    dock = make_dock()
    monkeypatch.setattr(handover.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    dock.train_button.click()
    wait_for(lambda: dock.state is State.ERROR)
    assert "make room there" in notifications[-1]
