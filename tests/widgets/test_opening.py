"""Files that napari opens through us, and layers whose channels lie along a slider."""

import nibabel
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers._source import layer_source

from napari_semigda.engine.types import Settings
from napari_semigda.formats import open_source
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore
from napari_semigda.store.stack import FileStack, StackPlane
from napari_semigda.widgets import opening
from napari_semigda.widgets.choices import Advanced
from napari_semigda.widgets.layers import LayerBridge
from tests.formats.conftest import dicom_file, noise
from tests.formats.test_omezarr import save


def opened(path):
    """The layer of a file, as a viewer makes it."""
    ((data, options, kind),) = opening.image_reader(str(path))(str(path))
    viewer = ViewerModel()
    return getattr(viewer, f"add_{kind}")(data, **options)


def test_a_volume_has_its_size_and_is_read_slice_by_slice(tmp_path):
    pixels = noise((20, 30, 4), np.float32)
    image = nibabel.Nifti1Image(pixels, np.diag([0.7, 0.5, 2.5, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "scan.nii.gz")
    layer = opened(tmp_path / "scan.nii.gz")
    assert (layer.name, layer.data.shape, layer.axis_labels) == ("scan", (4, 20, 30), ("z", "y", "x"))
    np.testing.assert_allclose(layer.scale, (2.5, 0.7, 0.5))
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    np.testing.assert_array_equal(layer.data[2], pixels[:, :, 2])
    assert layer.data.planes[2].name == "scan.nii.gz, slice 3"


def test_dicom_is_shown_in_its_window(tmp_path):
    path = dicom_file(tmp_path / "a.dcm", noise((20, 30), np.int16, 2000), WindowCenter=40, WindowWidth=400)
    assert opened(path).contrast_limits == [-160, 240]
    assert opened(dicom_file(tmp_path / "rgb.dcm", noise((20, 30, 3)))).rgb


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, -1e300])
def test_strange_values_do_not_blind_the_rest(tmp_path, value):
    pixels = noise((20, 30, 2)).astype(np.float64)
    pixels[3, 4] = value
    nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), tmp_path / "a.nii")
    low, high = opened(tmp_path / "a.nii").contrast_limits
    assert 0 <= low < high <= 250


def test_what_is_none_of_ours_and_what_is_damaged(tmp_path, monkeypatch):
    from napari.utils import notifications

    said = []
    monkeypatch.setattr(notifications, "show_warning", said.append)
    assert opening.image_reader(str(tmp_path / "notes.txt")) is None
    (tmp_path / "a.dcm").write_text("this is no picture at all " * 40)
    assert opening.image_reader([str(tmp_path / "a.dcm")])(None) == [(None,)]
    assert "a.dcm cannot be read" in said[0]
    for name in ("a.dcm", "b.dcm"):
        dicom_file(tmp_path / name, noise((20, 30)), PixelSpacing=[0.7, 0.5])
    ((data, options, _),) = opening.image_reader([str(tmp_path / name) for name in ("a.dcm", "b.dcm")])(None)
    assert data.shape == (2, 20, 30) and options["scale"] == (1.0, 0.7, 0.5)
    assert open_source(tmp_path / "b.dcm").spacing == (0.7, 0.5)


def test_a_zarr_has_its_scale_and_shows_its_channels(tmp_path):
    pixels = noise((5, 4, 40, 50), np.uint16, 4000)
    layer = opened(save(tmp_path / "a.zarr", pixels, "czyx"))
    assert layer.rgb and layer.data.shape == (4, 40, 50, 3) and layer.data.dtype == np.uint8
    np.testing.assert_allclose(layer.scale, (2.0, 0.5, 0.25))
    shown = np.asarray(layer.data[2])
    for channel in range(3):
        np.testing.assert_allclose(
            np.corrcoef(shown[..., channel].ravel(), pixels[channel, 2].ravel())[0, 1], 1, atol=0.01
        )
    stack = ImageStack(layer.name, layer.data, layer.rgb, axis=layer.axis_labels[0])
    assert (stack.channels, stack.kind, stack.shape) == (5, "slices", (4, 40, 50))
    np.testing.assert_array_equal(np.asarray(stack.plane(2).image), np.moveaxis(pixels[:, 2], 0, -1))


def as_napari_opens(viewer, path):
    """A TIFF as napari reads it by itself: every axis before rows and columns is a slider."""
    with layer_source(path=str(path), reader_plugin="napari"):
        return viewer.add_image(tifffile.imread(path), name=path.stem)


def test_channels_along_a_slider_are_put_together_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_info", said.append)
    pixels, viewer = noise((4, 2, 20, 30), np.uint16, 4000), ViewerModel()
    tifffile.imwrite(tmp_path / "cells.tif", pixels, imagej=True, metadata={"axes": "ZCYX"})
    plain = as_napari_opens(viewer, tmp_path / "cells.tif")
    assert plain.ndim == 4  # napari took channels for images
    made = opening.channels_together(viewer, plain)
    assert made in viewer.layers and made.rgb and made.data.shape == (4, 20, 30, 3) and not plain.visible
    assert made.axis_labels[0] == "z"
    np.testing.assert_array_equal(np.asarray(made.data.planes[3].image), np.moveaxis(pixels[3], 0, -1))
    assert "cells has channels along a slider" in said[0]
    assert opening.channels_together(viewer, plain) is plain  # chosen again it is taken as it is
    assert opening.channels_together(viewer, made) is made


def test_channels_are_known_by_the_name_of_their_axis():
    viewer, pixels = ViewerModel(), noise((3, 4, 20, 30), np.uint16)
    named = viewer.add_image(pixels, axis_labels=("z", "channel", "y", "x"), scale=(5, 1, 0.5, 0.5), name="n")
    made = opening.channels_together(viewer, named)
    assert made.data.shape == (3, 20, 30, 3) and made.axis_labels == ("z", "y", "x")
    np.testing.assert_array_equal(made.scale, (5, 0.5, 0.5))
    np.testing.assert_array_equal(np.asarray(made.data.planes[1].image), np.moveaxis(pixels[1], 0, -1))
    assert {plane.group for plane in made.data.planes} == {"n"}
    for labels in (("z", "t", "y", "x"), ("z", "y", "x")):
        layer = viewer.add_image(noise((2,) * (len(labels) - 2) + (20, 30)), axis_labels=labels)
        assert opening.channels_together(viewer, layer) is layer


def test_pages_of_a_file_stay_images(tmp_path):
    tifffile.imwrite(tmp_path / "pages.tif", noise((4, 20, 30)), photometric="minisblack")
    viewer = ViewerModel()
    layer = as_napari_opens(viewer, tmp_path / "pages.tif")
    assert opening.channels_together(viewer, layer) is layer and len(viewer.layers) == 1


@pytest.mark.parametrize(("kind", "group"), [(None, "scan.tif"), ("times", "scan.tif"), ("images", "")])
def test_what_the_slider_goes_through_can_be_said(tmp_path, kind, group):
    tifffile.imwrite(tmp_path / "scan.tif", noise((4, 20, 30)), photometric="minisblack")
    layer = opened(tmp_path / "scan.tif")
    assert ImageStack("s", layer.data).plane(1, kind=kind).group == group
    array = ImageStack("s", noise((4, 20, 30)))
    assert array.plane(1, kind=kind).group == ("" if kind == "images" else "s")
    assert (array.kind, ImageStack("s", array.data, axis="time").kind) == ("slices", "times")


def test_a_project_shows_dicom_in_its_window(tmp_path):
    for name, centre in (("a.dcm", 40), ("b.dcm", 60)):
        dicom_file(tmp_path / name, noise((20, 30), np.int16, 2000), WindowCenter=centre, WindowWidth=400)
    for _ in range(2):  # made, and opened again
        store = ProjectStore.open(tmp_path) if (tmp_path / "semigda").exists() else ProjectStore.create(tmp_path)
        assert store.images.limits() == (-160, 260)
        assert store.images.dtype == np.int16
        store.close()


def test_only_what_there_is_to_choose_is_offered(qtbot):
    advanced = Advanced()
    qtbot.addWidget(advanced)
    advanced.expand()
    advanced.show()

    def offered():
        return advanced.channels.visible, advanced.stack.visible

    assert offered() == (False, False)
    advanced.show_stack(ImageStack("grey", noise((20, 30))))
    assert offered() == (False, False)
    advanced.show_stack(ImageStack("scan", noise((4, 20, 30))))
    assert offered() == (False, True) and advanced.stack.native.currentText() == "Automatic (one volume)"
    five = StackPlane("five", "", noise((20, 30, 5), np.uint16))
    advanced.show_stack(ImageStack("five", FileStack([five]), rgb=True))
    assert offered() == (True, False) and advanced.value().settings("quick", False).channels == ()
    advanced.channels.value = [2, 5]
    advanced.contrast.value = "dataset"
    settings = advanced.value().settings("quick", False)
    assert (settings.channels, settings.contrast) == ((2, 5), "dataset")
    advanced.show_stack(ImageStack("scan", noise((4, 20, 30))))
    advanced.stack.value = "images"
    assert (advanced.value().channels, advanced.value().kind) == ((), "images")
    rgb = StackPlane("rgb", "", noise((20, 30, 3)))
    advanced.show_stack(ImageStack("rgb", FileStack([rgb, rgb]), rgb=True))
    assert offered() == (False, True) and advanced.value().kind is None
    assert advanced.stack.native.currentText() == "Automatic (separate images)"


def test_choosing_a_layer_with_channels_along_a_slider_works_on_all_of_them(qtbot, tmp_path):
    pixels, viewer = noise((4, 5, 20, 30), np.uint16, 4000), ViewerModel()
    tifffile.imwrite(tmp_path / "cells.tif", pixels, imagej=True, metadata={"axes": "ZCYX"})
    bridge = LayerBridge(viewer)
    bridge.choose_image(as_napari_opens(viewer, tmp_path / "cells.tif"))
    stack = bridge.project.stack
    assert bridge.image.name == "cells channels"
    assert (stack.channels, stack.axis, stack.kind, stack.shape) == (5, "z", "slices", (4, 20, 30))
    masks = bridge.new_masks()
    masks.data[2, 3:9, 3:9] = 1
    bridge.read_all_masks()
    job = bridge.project.snapshot(Settings(channels=(4, 1)), kind="images")
    assert job.request.planes[2].image.shape == (20, 30, 5)
    assert {plane.group for plane in job.request.planes} == {""}
    bridge.close()
