"""The bridge between layers and the project, without a window."""

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_semigda.colours import OKABE_ITO, class_colour
from napari_semigda.engine.types import EngineError, Prediction, Settings
from napari_semigda.widgets.colours import class_colormap
from napari_semigda.widgets.layers import LayerBridge


@pytest.fixture
def viewer(qapp):
    return ViewerModel()


@pytest.fixture
def bridge(viewer):
    made = LayerBridge(viewer)
    yield made
    made.close()


def predicted(index, shape=(8, 9), value=1):
    return Prediction(index, "x", np.full(shape, value, np.uint8), np.full(shape, 0.5, np.float32))


def test_new_masks_lie_exactly_on_the_images(viewer, bridge):
    image = viewer.add_image(
        np.zeros((3, 8, 9)),
        name="scan",
        scale=(5, 0.5, 0.5),
        translate=(1, 2, 3),
        rotate=(0, 0, 30),
        shear=(0, 0.1, 0),
        axis_labels=("z", "y", "x"),
        units=("mm", "mm", "mm"),
    )
    bridge.choose_image(image)
    bridge.new_masks()
    bridge.show_prediction(predicted(1))
    for layer in (bridge.masks, bridge.ours("predicted"), bridge.ours("doubt")):
        assert layer.data.dtype == np.uint8
        assert layer.data.shape == (3, 8, 9)
        for name in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_allclose(getattr(layer, name), getattr(image, name))
        assert layer.axis_labels == image.axis_labels
        assert layer.units == image.units
    assert (str(bridge.masks.mode), bridge.masks.selected_label) == ("paint", 1)
    assert viewer.layers.selection.active is bridge.masks
    assert [x.name for x in viewer.layers] == ["scan", "scan predicted", "scan doubt", "scan masks"]


def test_the_prediction_layer_is_made_once_and_written_in_place(viewer, bridge):
    bridge.choose_image(viewer.add_image(np.zeros((3, 8, 9)), name="scan"))
    bridge.new_masks()
    assert bridge.masks.contour == 0
    bridge.show_prediction(predicted(0))
    assert bridge.masks.contour == 1  # an outline, so that the prediction is seen
    bridge.toggle_prediction()
    assert bridge.masks.contour == 0
    bridge.toggle_prediction()
    layer, data = bridge.ours("predicted"), bridge.ours("predicted").data
    layer.name = "renamed by the user"
    bridge.show_prediction(predicted(2, value=2))
    assert bridge.ours("predicted") is layer
    assert layer.data is data
    np.testing.assert_array_equal(layer.data[:, 0, 0], [1, 0, 2])
    np.testing.assert_array_equal(bridge.ours("doubt").data[:, 0, 0], [128, 0, 128])
    assert not bridge.masks.data.any()
    viewer.layers.remove(layer)
    bridge.show_prediction(predicted(1))
    np.testing.assert_array_equal(bridge.ours("predicted").data[:, 0, 0], [0, 1, 0])


def test_a_prediction_of_another_shape_is_dropped(viewer, bridge):
    bridge.choose_image(viewer.add_image(np.zeros((3, 8, 9)), name="scan"))
    bridge.show_prediction(predicted(0, shape=(4, 4)))
    assert bridge.ours("predicted") is None


def test_the_plane_in_view_follows_sliders_in_world_units(viewer, bridge):
    bridge.choose_image(viewer.add_image(np.zeros((2, 3, 8, 9)), scale=(1, 7, 1, 1), translate=(0, 14, 0, 0)))
    seen = []
    bridge.plane_changed.connect(seen.append)
    for axis, step in ((0, 1), (1, 2), (0, 0)):
        viewer.dims.set_current_step(axis, step)
    assert seen[-1] == bridge.plane_in_view() == 2
    assert 5 in seen


def test_a_single_image_in_a_viewer_with_more_axes_is_plane_0(viewer, bridge):
    viewer.add_image(np.zeros((4, 8, 9)))
    bridge.choose_image(viewer.add_image(np.zeros((8, 9)), name="flat"))
    viewer.dims.set_current_step(0, 3)
    assert bridge.plane_in_view() == 0


def test_only_the_plane_that_was_painted_is_copied(viewer, bridge):
    bridge.choose_image(viewer.add_image(np.zeros((50, 8, 9))))
    masks = bridge.new_masks()
    looked = []
    real = bridge.project.update_masks
    bridge.project.update_masks = lambda data, planes=None: looked.append(planes) or real(data, planes)
    viewer.dims.set_current_step(0, 7)
    masks.paint((7, 4, 4), 1)
    bridge.read_masks()
    assert looked[-1] is not None
    assert 7 in looked[-1]
    assert len(looked[-1]) < 4
    assert bridge.project.painted == (7,)


@pytest.mark.parametrize("how", ["three dimensions", "other data", "other axes"])
def test_paint_that_may_be_anywhere_is_looked_for_everywhere(viewer, bridge, how):
    bridge.choose_image(viewer.add_image(np.zeros((20, 30, 31))))
    masks = bridge.new_masks()
    if how == "three dimensions":
        masks.n_edit_dimensions = 3
        masks.brush_size = 7
        masks.paint((10, 10, 10), 1)
    elif how == "other data":
        data = np.zeros((20, 30, 31), np.uint8)
        data[8:13] = 1
        masks.data = data
    else:
        viewer.dims.order = (1, 0, 2)
        masks.brush_size = 5
        masks.paint((10, 10, 10), 1)
    bridge.read_masks()
    assert len(bridge.project.painted) >= 5


def test_layers_may_be_renamed_and_moved(viewer, bridge):
    image = viewer.add_image(np.zeros((3, 8, 9)), name="scan")
    bridge.choose_image(image)
    masks = bridge.new_masks()
    changes = []
    bridge.layers_changed.connect(lambda: changes.append(1))
    image.name = "other"
    viewer.layers.move(0, 2)
    assert len(changes) >= 2
    assert (bridge.image, bridge.masks) == (image, masks)
    assert bridge.project.stack.plane_name(1) == "scan, slice 1"  # names of the first round stay comparable


def test_a_layer_chosen_again_finds_its_project_again(viewer, bridge):
    one, two = viewer.add_image(np.zeros((3, 8, 9))), viewer.add_image(np.zeros((8, 9)))
    bridge.choose_image(one)
    project = bridge.project
    bridge.choose_image(two)
    assert bridge.project is not project
    bridge.choose_image(one)
    assert bridge.project is project
    one.data = np.ones((5, 8, 9))
    bridge.choose_image(two)
    bridge.choose_image(one)
    assert bridge.project is not project


def test_an_image_layer_without_height_and_width_is_refused(viewer, bridge):
    layer = viewer.add_image(np.zeros((4, 5, 3)), rgb=True)
    layer2 = viewer.add_image(np.zeros((4, 5)))
    bridge.choose_image(layer)
    assert len(bridge.project.stack) == 1
    bridge.choose_image(layer2)
    assert bridge.project.stack.shape == (4, 5)


def test_lazy_images_are_not_computed_by_looking(viewer, bridge):
    computed = []

    def block(block_info=None):
        computed.append(block_info[None]["array-location"][0])
        return np.zeros((1, 18, 19), np.float32)

    lazy = da.map_blocks(
        block, chunks=((1,) * 30, (18,), (19,)), dtype=np.float32, meta=np.zeros((0, 0, 0), np.float32)
    )
    layer = viewer.add_image(lazy, contrast_limits=(0, 1))
    computed.clear()
    bridge.choose_image(layer)
    masks = bridge.new_masks()
    masks.paint((15, 4, 4), 1)
    bridge.read_all_masks()  # as Train does: the paint is on a slice that is not in view
    job = bridge.project.snapshot(Settings())
    assert len(job.request.planes) == 30
    assert len(computed) <= 1
    assert np.asarray(job.request.planes[3].image).shape == (18, 19)


def test_accept_writes_what_differs_and_nothing_twice(viewer, bridge):
    bridge.choose_image(viewer.add_image(np.zeros((3, 8, 9))))
    masks = bridge.new_masks()
    with pytest.raises(EngineError, match="no prediction"):
        bridge.accept()
    bridge.show_prediction(predicted(bridge.plane_in_view()))
    masks.data[:, 0, :] = 1
    assert bridge.accept() == 7 * 9
    assert bridge.accept() == 0
    assert masks.data[1].all()
    assert masks.data[[0, 2]].sum() == 18
    masks.undo()
    assert masks.data.sum() == 27


def test_masks_the_user_made_with_other_numbers_keep_their_type(viewer, bridge):
    bridge.choose_image(viewer.add_image(np.zeros((3, 8, 9))))
    labels = viewer.add_labels(np.zeros((3, 8, 9), np.int64))
    bridge.choose_masks(labels)
    bridge.show_prediction(predicted(bridge.plane_in_view()))
    bridge.accept()
    assert labels.data.dtype == np.int64
    assert labels.data[bridge.plane_in_view()].all()


def test_class_names_come_with_the_layer_and_from_what_is_painted(viewer, bridge):
    bridge.choose_image(viewer.add_image(np.zeros((3, 8, 9))))
    data = np.zeros((3, 8, 9), np.uint8)
    data[0, :2], data[1, :2] = 1, 4
    bridge.choose_masks(Labels(data, metadata={"semigda": {"classes": {1: "nucleus"}}}))
    assert bridge.project.classes == {1: "nucleus", 4: "class 4"}


def test_our_own_layers_are_never_offered_as_input(viewer, bridge):
    image = viewer.add_image(np.zeros((3, 8, 9)))
    bridge.choose_image(image)
    masks = bridge.new_masks()
    bridge.show_prediction(predicted(0))
    assert bridge.image_layers() == [image]
    assert bridge.mask_layers() == [masks]


def test_class_colours_are_those_shown_on_the_layers():
    colormap = class_colormap()
    shown = [tuple(np.round(colormap.map(np.uint8(n))[:3] * 255).astype(int)) for n in range(1, 33)]
    assert shown == [class_colour(number) for number in range(1, 33)]
    assert len(set(shown)) == 32
    assert "#{:02X}{:02X}{:02X}".format(*shown[0]) == OKABE_ITO[0]
    assert colormap.map(np.uint8(0))[3] == 0


def test_the_last_stroke_is_kept_although_the_dock_that_would_show_it_is_gone(viewer):
    def show():
        raise RuntimeError("wrapped C/C++ object of type TrainDock has been deleted")

    bridge = LayerBridge(viewer)
    bridge.choose_image(viewer.add_image(np.zeros((8, 9))))
    bridge.new_masks().paint((4, 4), 1)
    project = bridge.project
    project.masks_changed.connect(show)
    bridge.close()
    assert project.painted == (0,)
    assert not project.folder.exists()  # closed in spite of it
