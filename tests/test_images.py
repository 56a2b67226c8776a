"""Files of every kind in, masks of the same kind out, checked with the libraries other tools use; and bad files."""

import logging

import nibabel
import numpy as np
import pytest
import tifffile
import tifffile._imagecodecs
from PIL import Image

from napari_semigda.engine.types import EngineError
from napari_semigda.formats import float_pages, is_image, open_source, output_name, stem_of, write_masks
from napari_semigda.images import find_images, images_in, labelled_planes, planes_of, read_mask

AFFINE = np.array([[-1.5, 0, 0, 90], [0, 0.7, 0.1, -12], [0, -0.1, 3, 7], [0, 0, 0, 1.0]])


def noise(shape, dtype=np.uint8, top=250):
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def save_nifti(path, volume, affine=AFFINE):
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def save_mask(path, mask):
    Image.fromarray(mask).save(path)
    return path


def refused(function, *args):
    with pytest.raises(EngineError) as caught:
        function(*args)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


# Reading --------------------------------------------------------------------------------------------------------------


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


# Bad files ------------------------------------------------------------------------------------------------------------


def pictures(folder):
    """One file of each kind, incompressible, so that a cut always takes pixels away."""
    Image.fromarray(noise((60, 70))).save(folder / "a.png")
    Image.fromarray(noise((60, 70, 3))).save(folder / "a.jpg")
    tifffile.imwrite(folder / "a.tif", noise((5, 60, 70)))
    tifffile.imwrite(folder / "z.tif", noise((5, 60, 70)), compression="zlib")
    save_nifti(folder / "a.nii", noise((5, 60, 70)))
    save_nifti(folder / "a.nii.gz", noise((5, 60, 70)))


KINDS = ["a.png", "a.jpg", "a.tif", "z.tif", "a.nii", "a.nii.gz"]


def read_all(path):
    return [np.asarray(plane) for plane in open_source(path).planes]


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", KINDS)
def test_truncated_files_are_named(tmp_path, name, kept, caplog, capfd):
    pictures(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert name in refused(read_all, path)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records or all(record.levelno < logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("name", KINDS)
def test_empty_junk_and_missing_files_are_named(tmp_path, name):
    path = tmp_path / name
    sentence = refused(open_source, path)
    assert name in sentence and "not there" in sentence
    path.write_bytes(b"")
    sentence = refused(open_source, path)
    assert name in sentence and "zero bytes" in sentence
    path.write_text("this is no picture at all " * 40)
    assert name in refused(read_all, path)


def test_other_kinds_of_file(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt" in refused(open_source, tmp_path / "notes.txt")


# Folders --------------------------------------------------------------------------------------------------------------


def test_natural_order_and_what_is_passed_over(tmp_path):
    for name in ("im10.png", "im2.png", "im1.jpg", ".hidden.png", "notes.txt", "im3.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images_in(tmp_path)] == ["im1.jpg", "im2.png", "im3.nii.gz", "im10.png"]
    assert [path.name for path in find_images([tmp_path / "im10.png"])] == ["im10.png"]


def test_names():
    from pathlib import Path

    assert [stem_of(Path(name)) for name in ("x.nii.gz", "x.nii", "a.b.PNG", "x.tiff")] == ["x", "x", "a.b", "x"]
    assert is_image(Path("x.NII.GZ")) and not is_image(Path("x.gz")) and not is_image(Path(".x.png"))
    outputs = {"a.jpeg": "a.png", "a.png": "a.png", "a.tiff": "a.tif", "a.nii": "a.nii.gz", "A.NII.GZ": "A.nii.gz"}
    assert {name: output_name(Path(name)) for name in outputs} == outputs


def test_empty_missing_and_ambiguous_folders(tmp_path):
    assert str(tmp_path) in refused(images_in, tmp_path)
    assert "not there" in refused(images_in, tmp_path / "nowhere")
    (tmp_path / "a.png").touch()
    assert "a file" in refused(images_in, tmp_path / "a.png")
    (tmp_path / "a.nii.gz").touch()
    sentence = refused(find_images, [tmp_path])
    assert "a.png" in sentence and "a.nii.gz" in sentence


# Masks ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for i in range(1, 4):
        Image.fromarray(noise((20, 30))).save(images / f"{i}.png")
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 6:20] = 255
    save_mask(masks / "2.png", mask)
    return images, masks


def test_images_with_a_mask_of_their_stem_are_labelled(folders):
    images, masks = folders
    save_mask(masks / "3.tif", np.zeros((20, 30), np.uint8))
    planes, warnings = labelled_planes(images, masks)
    assert [plane.name for plane in planes] == ["1.png", "2.png", "3.png"]
    assert planes[0].mask is None and warnings == ()
    assert np.unique(planes[1].mask).tolist() == [0, 255]
    assert not planes[2].mask.any()  # an empty mask file says that there is nothing


def test_only_painted_pages_of_a_stack_are_labelled(folders):
    images, masks = folders
    tifffile.imwrite(images / "stack.tif", noise((4, 20, 30)), photometric="minisblack")
    mask = np.zeros((20, 30, 4), np.int16)
    mask[3:9, 3:9, 2] = 7
    save_nifti(masks / "stack.nii.gz", mask)
    planes, _ = labelled_planes(images, masks)
    stack = [plane for plane in planes if plane.group]
    assert [plane.mask is None for plane in stack] == [True, True, False, True]
    assert stack[2].mask.dtype == np.uint8 and stack[2].mask.max() == 7


def test_masks_without_an_image(folders):
    images, masks = folders
    save_mask(masks / "9.png", np.zeros((20, 30), np.uint8))
    _, (warning,) = labelled_planes(images, masks)
    assert "9.png" in warning
    (masks / "2.png").unlink()
    sentence = refused(labelled_planes, images, masks)
    assert "1.png" in sentence and str(masks) in sentence
    assert "both in" in refused(labelled_planes, images, images)


def test_wrong_number_of_pages(folders):
    images, masks = folders
    tifffile.imwrite(masks / "3.tif", noise((4, 20, 30)), photometric="minisblack")
    sentence = refused(labelled_planes, images, masks)
    assert "3.png has 1 plane" in sentence and "3.tif has 4" in sentence


def test_palette_masks_are_indices(tmp_path):
    ids = (np.arange(600).reshape(20, 30) % 5).astype(np.uint8)
    picture = Image.fromarray(ids).convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 8, 8, 8])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), [ids])


def test_grey_masks_saved_as_rgb_and_coloured_ones(tmp_path):
    ids = (np.arange(600).reshape(20, 30) % 5).astype(np.uint8)
    grey = np.repeat(ids[..., None], 3, 2)
    np.testing.assert_array_equal(read_mask(save_mask(tmp_path / "grey.png", grey)), [ids])
    opaque = np.dstack([grey, np.full((20, 30), 255, np.uint8)])
    np.testing.assert_array_equal(read_mask(save_mask(tmp_path / "opaque.png", opaque)), [ids])
    grey[3, 4, 1] += 1
    assert "colours.png holds colours" in refused(read_mask, save_mask(tmp_path / "colours.png", grey))
    assert "m.jpg" in refused(read_mask, save_mask(tmp_path / "m.jpg", ids))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_masks_that_are_no_class_ids_keep_their_type_for_the_check(tmp_path, dtype):
    mask = np.zeros((20, 30), dtype)
    mask[3] = -1
    tifffile.imwrite(tmp_path / "m.tif", mask)
    assert read_mask(tmp_path / "m.tif")[0].dtype == dtype


# Writing --------------------------------------------------------------------------------------------------------------


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


# Physical size of TIFF pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "spacing"),
    [
        ("um", (0.5, 0.25)),
        ("micron", (0.5, 0.25)),
        ("\\u00B5m", (0.5, 0.25)),
        ("nm", (0.0005, 0.00025)),
        ("mm", (0.5, 0.25)),
        ("cm", (5, 2.5)),
        ("pixel", None),
        ("furlong", None),
    ],
)
def test_imagej_tells_the_size_of_pixels(tmp_path, unit, spacing):
    path = tmp_path / "a.tif"
    stack = np.zeros((3, 20, 30), np.uint8)
    tifffile.imwrite(path, stack, imagej=True, resolution=(4, 2), metadata={"unit": unit, "axes": "ZYX"})
    source = open_source(path)
    assert source.spacing == (pytest.approx(spacing) if spacing else None)
    assert source.unit == ("um" if unit not in ("mm", "cm") and spacing else "mm")


@pytest.mark.parametrize(("x", "spacing"), [(0.25, (0.5, 0.25)), (0, None), ("wide", None)])
def test_ome_tells_the_size_of_pixels(tmp_path, x, spacing):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": x, "PhysicalSizeXUnit": "\N{MICRO SIGN}m", "PhysicalSizeY": 500}
    metadata["PhysicalSizeYUnit"] = "nm"
    tifffile.imwrite(path, np.zeros((3, 20, 30), np.uint8), metadata=metadata)
    assert open_source(path).spacing == spacing


def test_printing_resolution_is_no_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), np.uint8), resolution=(300, 300), resolutionunit="INCH")
    assert open_source(tmp_path / "a.tif").spacing is None
