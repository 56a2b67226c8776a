"""Masks out, of the kind of their image: where it lies, with its pages and sizes, and never half a file."""

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.formats import float_pages, open_source, write_masks
from tests.formats.conftest import AFFINE, noise, refused


def ids_for(source):
    return [np.full(plane.shape[:2], i % 3, np.uint8) for i, plane in enumerate(source.planes, 1)]


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_pictures_get_png_masks(tmp_path, name):
    Image.fromarray(noise((21, 33, 3))).save(tmp_path / name)
    source = open_source(tmp_path / name)
    path = write_masks(source, tmp_path / "out", ids_for(source))
    assert path == tmp_path / "out" / "a.png"
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("L", (33, 21))
        np.testing.assert_array_equal(np.asarray(image), ids_for(source)[0])


@pytest.mark.parametrize("unit", ["CENTIMETER", "INCH", "NONE"])
def test_tiff_masks_keep_pages_and_resolution(tmp_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tiff",
        noise((5, 20, 30, 3), np.uint16),
        photometric="rgb",
        resolution=(1234.5, 567.25),
        resolutionunit=unit,
    )
    source = open_source(tmp_path / "a.tiff")
    path = write_masks(source, tmp_path / "out", ids_for(source))
    assert path.name == "a.tif"
    with tifffile.TiffFile(path) as tif:
        np.testing.assert_array_equal(tif.asarray(), ids_for(source))
        assert tif.asarray().dtype == np.uint8 and len(tif.pages) == 5
        assert all(page.resolution == (1234.5, 567.25) for page in tif.pages)
        assert tif.pages[0].resolutionunit.name == unit


def test_tiff_masks_of_pages_of_different_size(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(noise((20, 30)), metadata=None)
        writer.write(noise((44, 31)), metadata=None)
    source = open_source(tmp_path / "a.tif")
    path = write_masks(source, tmp_path / "out", ids_for(source))
    with tifffile.TiffFile(path) as tif:
        assert [page.shape for page in tif.pages] == [(20, 30), (44, 31)]


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 4), (20, 30, 4, 1)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_masks_lie_where_the_image_lies(tmp_path, name, shape):
    image = nibabel.Nifti1Image(noise(shape, np.int16), AFFINE)
    image.header.set_slope_inter(2.5, 10)
    image.header.set_sform(AFFINE, code="mni")
    image.header["cal_max"] = 90
    nibabel.save(image, tmp_path / name)
    source = open_source(tmp_path / name)
    path = write_masks(source, tmp_path / "out", ids_for(source))
    assert path.name == "a.nii.gz"
    mask = nibabel.load(path)
    assert mask.shape == shape and mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-6)
    np.testing.assert_array_equal(mask.header.get_zooms(), nibabel.load(tmp_path / name).header.get_zooms())
    assert int(mask.header["sform_code"]) == 4 and mask.header["cal_max"] == 0
    values = np.asarray(mask.dataobj)
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values.reshape(20, 30, -1), np.stack(ids_for(source), -1))


def test_float_pages_are_read_back_in_the_order_written(tmp_path):
    path = tmp_path / "deep" / "p.tif"
    with float_pages(path) as add:
        for i in range(4):
            add(np.full((3, 20, 30), i / 4))
    maps = tifffile.imread(path)
    assert (maps.shape, maps.dtype) == ((4, 3, 20, 30), np.float32)
    assert maps[:, 0, 0, 0].tolist() == [0, 0.25, 0.5, 0.75]


def test_nothing_half_written(tmp_path):
    Image.fromarray(noise((20, 30))).save(tmp_path / "a.png")
    source, out = open_source(tmp_path / "a.png"), tmp_path / "out"
    refused(write_masks, source, out, [np.zeros((20, 31), np.uint8)])
    refused(write_masks, source, out, [np.zeros((20, 30), np.int64)])
    write_masks(source, out, ids_for(source))
    before = (out / "a.png").read_bytes()
    with pytest.raises(ZeroDivisionError), float_pages(out / "a.png") as add:
        add(np.zeros((20, 30)))
        raise ZeroDivisionError
    assert [path.name for path in out.iterdir()] == ["a.png"] and (out / "a.png").read_bytes() == before
    assert "cannot be written" in refused(write_masks, source, tmp_path / "a.png", ids_for(source))
