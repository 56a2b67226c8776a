"""Files of every kind in: planes, their names, values and types, checked with the libraries other tools use."""

import nibabel
import numpy as np
import pytest
import tifffile
import tifffile._imagecodecs
from PIL import Image

from napari_semigda.formats import open_source
from napari_semigda.images import planes_of
from tests.formats.conftest import AFFINE, noise, refused, save_nifti


@pytest.mark.parametrize(
    ("pixels", "name"),
    [
        (noise((20, 30)), "a.png"),
        (noise((20, 30, 3)), "a.png"),
        (noise((20, 30, 4)), "a.PNG"),
        (noise((20, 30), np.uint16, 60000), "a.png"),
        (noise((20, 30)) > 100, "a.png"),
        (noise((20, 30)), "a.tif"),
        (noise((20, 30, 3)), "a.tiff"),
        (noise((20, 30), np.uint16, 60000), "a.tif"),
        (noise((20, 30)).astype(np.float32) / 7, "a.tif"),
        (noise((20, 30), np.int16), "a.nii"),
        (noise((20, 30), np.float32), "a.nii.gz"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}-{value.ndim}",
)
def test_a_flat_file_is_read_as_it_is(tmp_path, pixels, name):
    path = tmp_path / name
    if "nii" in name:
        save_nifti(path, pixels)
    elif "tif" in name:
        tifffile.imwrite(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    else:
        Image.fromarray(pixels).save(path)
    (plane,) = planes_of(open_source(path))
    assert (plane.name, plane.group, plane.size) == (name, "", (20, 30))
    assert (plane.image.shape, plane.image.dtype) == (pixels.shape, pixels.dtype)
    np.testing.assert_array_equal(np.asarray(plane.image), pixels)
    np.testing.assert_array_equal(plane.image[3:7, ::2], pixels[3:7, ::2])


@pytest.mark.parametrize(("mode", "shape"), [("P", (20, 30, 3)), ("LA", (20, 30)), ("CMYK", (20, 30, 3))])
def test_other_picture_modes_become_grey_or_rgb(tmp_path, mode, shape):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(noise((20, 30, 3))).convert(mode).save(path)
    (plane,) = planes_of(open_source(path))
    assert plane.image.shape == np.asarray(plane.image).shape == shape
    assert plane.image.dtype == np.uint8


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("shape", [(5, 20, 30), (5, 20, 30, 3)])
def test_tiff_pages_are_separate_planes(tmp_path, shape, compression):
    pixels = noise(shape)
    tifffile.imwrite(
        tmp_path / "stack.tif",
        pixels,
        compression=compression,
        photometric="rgb" if len(shape) == 4 else "minisblack",
    )
    planes = planes_of(open_source(tmp_path / "stack.tif"))
    assert [plane.name for plane in planes] == [f"stack.tif, page {i}" for i in range(1, 6)]
    assert {plane.group for plane in planes} == {"stack.tif"}
    np.testing.assert_array_equal([np.asarray(plane.image) for plane in planes], pixels)


def test_tiff_pages_of_different_size(tmp_path):
    pages = [noise((20, 30)), noise((20, 30)), noise((44, 31))]
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as writer:
        for page in pages:
            writer.write(page, metadata=None)
    planes = planes_of(open_source(tmp_path / "mixed.tif"))
    assert [plane.size for plane in planes] == [page.shape for page in pages]
    for plane, page in zip(planes, pages, strict=True):
        np.testing.assert_array_equal(np.asarray(plane.image), page)


def test_imagej_channels_become_colours(tmp_path):
    pixels = noise((4, 3, 20, 30))  # z, channel, y, x
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "ZCYX"})
    planes = planes_of(open_source(tmp_path / "a.tif"))
    np.testing.assert_array_equal([np.asarray(plane.image) for plane in planes], pixels.transpose(0, 2, 3, 1))


def test_planar_rgb_tiff(tmp_path):
    pixels = noise((3, 20, 30))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig="separate")
    (plane,) = planes_of(open_source(tmp_path / "a.tif"))
    np.testing.assert_array_equal(np.asarray(plane.image), pixels.transpose(1, 2, 0))


def test_lzw_compressed_tiff(tmp_path, monkeypatch):
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", tifffile._imagecodecs)  # as where the package is not there
    pages = [Image.fromarray(noise((20, 30)) + i) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    planes = planes_of(open_source(tmp_path / "a.tif"))
    np.testing.assert_array_equal([np.asarray(plane.image) for plane in planes], [np.asarray(page) for page in pages])


def test_big_endian_becomes_native(tmp_path):
    pixels = noise((20, 30, 4), ">i2")
    tifffile.imwrite(tmp_path / "a.tif", pixels[..., 0], byteorder=">")
    save_nifti(tmp_path / "b.nii", pixels)
    for name in ("a.tif", "b.nii"):
        image = open_source(tmp_path / name).planes[0]
        assert image.dtype.isnative and np.asarray(image).dtype.isnative
        np.testing.assert_array_equal(np.asarray(image), pixels[..., 0])


@pytest.mark.parametrize("name", ["brain.nii", "brain.nii.gz"])
def test_nifti_slices_along_the_last_axis(tmp_path, name):
    volume = noise((20, 30, 4), np.int16)
    source = open_source(save_nifti(tmp_path / name, volume))
    planes = planes_of(source)
    assert [plane.name for plane in planes] == [f"{name}, slice {i}" for i in range(1, 5)]
    assert {plane.group for plane in planes} == {name}
    assert source.spacing == pytest.approx((1.5, np.hypot(0.7, 0.1)))
    np.testing.assert_array_equal(np.stack([np.asarray(plane.image) for plane in planes], -1), volume)


@pytest.mark.parametrize("name", ["scaled.nii", "scaled.nii.gz"])
def test_nifti_slope_and_trailing_axes(tmp_path, name):
    image = nibabel.Nifti1Image(noise((20, 30, 3, 1), np.int16), AFFINE)
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / name)
    expected = nibabel.load(tmp_path / name).get_fdata()[..., 0]
    planes = planes_of(open_source(tmp_path / name))
    assert {plane.image.dtype for plane in planes} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.stack([np.asarray(plane.image) for plane in planes], -1), expected, rtol=1e-6)


def test_a_changed_file_is_read_anew(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", noise((20, 30, 3)))
    first = np.asarray(open_source(path).planes[0])
    save_nifti(path, noise((20, 30, 3)) + 1)
    np.testing.assert_array_equal(np.asarray(open_source(path).planes[0]), first + 1)


def test_five_dimensions_are_refused(tmp_path):
    path = save_nifti(tmp_path / "warp.nii.gz", noise((20, 30, 4, 2, 3)))
    assert "warp.nii.gz has 5 dimensions" in refused(open_source, path)
