"""Volumes in the viewer: masks are one layer that lies on the image, smoothed between slices where that is wanted."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from skimage.io import imsave

from napari_semigda.formats import open_source, write_masks
from napari_semigda.stacks import ImageStack
from napari_semigda.widgets import opening, place
from napari_semigda.widgets.batch import BatchDock
from napari_semigda.widgets.predict import PredictDock
from napari_semigda.widgets.runner import Runner
from tests import fake_engine
from tests.formats.conftest import CORONAL, dicom_series, ids_for, noise
from tests.formats.test_omezarr import save

from .conftest import let_run, wait_for


def balls(odd=9, count=16, size=(40, 48)):
    """(Z, H, W) int16: a bright ball, but for one slice whose brightness is upside down."""
    z, rows, columns = np.mgrid[:count, : size[0], : size[1]]
    inside = (2.5 * (z - 8)) ** 2 + (rows - 18) ** 2 + (columns - 26) ** 2 < 15**2
    volume = np.where(inside, 900, 20).astype(np.int16)
    volume[odd] = 920 - volume[odd]
    return volume, inside


def scan(folder, volume, depth=2.5):
    """Save as NIfTI, 0.8 x 0.6 mm and so deep."""
    image = nibabel.Nifti1Image(volume.transpose(1, 2, 0), np.diag([0.8, 0.6, depth, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def corners(layer):
    """Where the first and the last voxel of a layer lie."""
    return [layer.data_to_world(at) for at in ((0,) * layer.ndim, np.array(layer.data.shape) - 1)]


def in_place(masks, image):
    """Whether masks are one 3D layer that lies on the image, voxel on voxel."""
    assert isinstance(masks, Labels) and masks.ndim == image.ndim == 3
    assert masks.data.shape == image.data.shape and masks.units == image.units
    np.testing.assert_allclose(corners(masks), corners(image))
    return True


@pytest.fixture
def dock(viewer, tmp_path):
    (tmp_path / "m.semigda").write_text(json.dumps({"wish": ""}))
    made = PredictDock(viewer, runner=Runner(fake_engine.COMMAND))
    viewer.window.add_dock_widget(made, name="SemiGDA: Predict", area="right")
    made.model.value = tmp_path / "m.semigda"
    yield made
    made.close_session()


def test_a_predicted_volume_is_one_layer_in_3d_and_steady(viewer, dock, tmp_path):
    viewer.window._qt_window.resize(800, 500)  # volumes are drawn by the processor
    volume, inside = balls()
    assert not dock.smooth.isVisible()
    (image,) = viewer.open(scan(tmp_path, volume), plugin="napari-semigda")
    let_run(0.1)
    assert dock.smooth.isVisible() and dock.smooth.width_box.suffix() == " mm"
    assert dock.smooth.value() == 0 and not dock.smooth.width_box.isEnabled()

    def predicted():
        QTest.mouseClick(dock.predict_button, Qt.MouseButton.LeftButton)
        wait_for(lambda: not dock.running)
        return dock.result

    plain = predicted()
    assert in_place(plain, image)
    assert (plain.data[9] != inside[9]).all()
    dock.smooth.box.setFocus()
    QTest.keyClick(dock.smooth.box, Qt.Key.Key_Space)
    dock.smooth.width_box.setFocus()
    dock.smooth.width_box.selectAll()
    QTest.keyClicks(dock.smooth.width_box, "2.5")
    smooth = predicted()
    assert in_place(smooth, image) and smooth.data.any(axis=(1, 2)).sum() > 8
    middle = inside[8:11].all(0)  # its border has moved on from slice to slice
    assert smooth.data[9][middle].all() and not smooth.data[9][~inside[7:12].any(0)].any()

    plain.visible = image.visible = False
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (10, 35, 60)
    shot = viewer.screenshot(canvas_only=False, flash=False)
    if "SEMIGDA_SHOTS" in os.environ:
        imsave(Path(os.environ["SEMIGDA_SHOTS"]) / "volume.png", shot)
    red, _, blue = np.moveaxis(shot[..., :3].astype(int), -1, 0)
    assert (red > blue + 60).mean() > 0.02  # the class colour, shaded


def test_a_batch_is_smoothed_where_that_is_wanted(qtbot, tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    scan(tmp_path / "scans", balls()[0])
    (tmp_path / "m.semigda").write_text("{}")
    dock, asked = BatchDock(), []
    qtbot.addWidget(dock)
    monkeypatch.setattr(dock.runner, "submit", lambda job, folder: asked.append(job.request.smooth))
    dock.model.value, dock.images.value = tmp_path / "m.semigda", tmp_path / "scans"
    for width in (0.0, 2.5, 0.0):
        dock.smooth.setValue(width)
        assert dock.start() and not dock.smooth.isEnabled()
        dock._ended("")
    assert asked == [0.0, 2.5, 0.0] and dock.smooth.isEnabled()
    assert dock.smooth.width_box.value() == 2.5  # for the next time
    dock.close_session()


def test_written_masks_open_beside_their_image(viewer, tmp_path):
    """Of a series the masks are NIfTI, which counts its axes in another order."""
    dicom_series(tmp_path / "ct", 4, orientation=CORONAL)
    mask = write_masks(source := open_source(tmp_path / "ct"), tmp_path / "out", ids_for(source))
    files = [str(path) for path in sorted((tmp_path / "ct").iterdir())]
    (image,) = viewer.open(files, plugin="napari-semigda", stack=True)
    np.testing.assert_allclose(image.scale, (2.5, 0.7, 0.5))
    (masks,) = viewer.open(mask, plugin="napari-semigda")
    assert in_place(masks, image)
    np.testing.assert_array_equal(masks.data, ids_for(source))
    assert masks.editable and masks.name == "ct masks"


@pytest.mark.parametrize("kind", ["nifti", "zarr"])
def test_written_masks_are_labels_with_the_scale_of_the_image(tmp_path, kind):
    pixels = noise((4, 20, 30), np.uint16, 900)
    path = scan(tmp_path, pixels) if kind == "nifti" else save(tmp_path / "scan.zarr", pixels, "zyx")
    source = open_source(path)
    mask = write_masks(source, tmp_path / "out", ids_for(source))
    viewer = ViewerModel()
    for each in (path, mask):
        ((data, options, name),) = opening.image_reader(str(each))(str(each))
        getattr(viewer, f"add_{name}")(data, **options)
    assert in_place(viewer.layers[1], viewer.layers[0])
    np.testing.assert_array_equal(viewer.layers[1].data, ids_for(source))


def test_slices_from_here_and_there_are_images_of_their_own(tmp_path):
    dicom_series(tmp_path / "ct", 5)
    files = [str(path) for path in sorted((tmp_path / "ct").iterdir())]
    ((data, options, _),) = opening.image_reader([files[i] for i in (0, 1, 3)])(None)
    assert data.shape == (3, 20, 30) and options["scale"] == (1.0, 0.7, 0.5)


@pytest.mark.parametrize(
    ("unit", "told"), [("mm", (5.0, "mm")), ("m", (5000.0, "mm")), ("nm", (0.005, "µm")), ("pixel", (None, ""))]
)
def test_how_far_slices_lie_apart(unit, told):
    image = ViewerModel().add_image(noise((4, 20, 30)), scale=(5, 1, 1), units=(unit,) * 3)
    depth, word = place.slice_distance(image)
    assert (depth and round(depth, 9), word) == told
    assert place.slice_distance(ViewerModel().add_image(noise((20, 30)))) == (None, "")


def test_which_planes_of_a_layer_are_neighbours(tmp_path):
    def volumes(stack):
        return [stack.plane(i).volume for i in range(len(stack))]

    array = ImageStack("a", noise((2, 3, 20, 30)), axis="z", depth=2.0)
    assert volumes(array) == ["a (0,)"] * 3 + ["a (1,)"] * 3 and array.plane(4).depth == 2.0 and array.is_volume
    for other in (ImageStack("a", noise((3, 20, 30)), axis="time"), ImageStack("a", noise((20, 30)))):
        assert not any(volumes(other)) and not other.is_volume
    assert array.plane(1, kind="images").volume == array.plane(1, kind="times").volume == ""
    path = scan(tmp_path, noise((3, 20, 30), np.int16))
    ((data, *_),) = opening.image_reader(str(path))(None)
    stack = ImageStack("scan", data, depth=2.5)
    assert volumes(stack) == ["scan.nii.gz 0"] * 3 and stack.is_volume
    assert stack.plane(1, kind="images").volume == ""
