"""NIfTI and DICOM opened by napari itself."""

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_semigda.formats import open_source
from napari_semigda.widgets import opening
from tests.formats.conftest import dicom_file, noise


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
