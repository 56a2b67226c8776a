"""NIfTI in any orientation and of two to four dimensions, checked with nibabel and SimpleITK."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from napari_semigda.formats import open_source, write_masks
from napari_semigda.images import read_mask
from tests.formats.conftest import PATIENT, ids_for, noise, refused

CODES = ["RAS", "LPS", "LAS", "PIR", "SRA", "AIL"]
ZOOMS = (0.7, 0.5, 2.5)


def affine_of(codes, shape, tilt=0.2):
    """A tilted grid, whose axes point where `codes` say."""
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(ZOOMS)
    affine[:3, 3] = (-20, 31, 7)
    return affine @ inv_ornt_aff(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes)), shape[:3])


def save(path, pixels, codes="RAS", kind=nibabel.Nifti1Image, form="both"):
    affine = affine_of(codes, (*pixels.shape, 1, 1)[:3])
    image = kind(pixels, affine)
    image.set_sform(affine, code="scanner" if form in ("both", "sform") else 0)
    image.set_qform(affine, code="scanner" if form in ("both", "qform") else 0)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 4), (20, 30, 4, 3)])
@pytest.mark.parametrize("codes", CODES)
def test_masks_lie_where_the_image_lies(tmp_path, codes, shape):
    pixels = noise(shape, np.int16, 2000)
    image_path = save(tmp_path / "a.nii.gz", pixels, codes)
    source = open_source(image_path)
    path = write_masks(source, tmp_path / "out", ids_for(source))

    image, mask = nibabel.load(image_path), nibabel.load(path)
    assert nibabel.aff2axcodes(mask.affine) == nibabel.aff2axcodes(image.affine)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)
    np.testing.assert_array_equal(mask.header.get_zooms(), image.header.get_zooms())
    expected = (
        np.stack(ids_for(source), -1).reshape(20, 30, *reversed(shape[2:])).transpose(0, 1, *range(len(shape))[:1:-1])
    )
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)

    if len(shape) == 2 and codes[2] not in "SI":
        return  # SimpleITK reads no plane that stands upright, neither the image nor the mask
    image, mask = sitk.ReadImage(image_path), sitk.ReadImage(path)
    assert mask.GetSize() == image.GetSize()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, name)(), getattr(image, name)(), atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask).T, expected)
    for plane, mask_plane in zip(source.planes, read_mask(path, source), strict=True):
        assert plane.shape == mask_plane.shape
    np.testing.assert_array_equal(read_mask(path, source), ids_for(source))


@pytest.mark.parametrize("name", ["fmri.nii", "fmri.nii.gz"])
def test_volumes_follow_each_other_slice_by_slice(tmp_path, name):
    pixels = noise((20, 30, 4, 3), np.int16, 2000)
    source = open_source(save(tmp_path / name, pixels))
    assert (len(source.planes), source.volumes, source.spacing) == (12, 3, pytest.approx((0.7, 0.5)))
    assert source.depth == pytest.approx(2.5)
    assert source.planes[6].name == f"{name}, slice 7"
    np.testing.assert_array_equal(np.asarray(source.planes[6]), pixels[:, :, 2, 1])


@pytest.mark.parametrize("stored", CODES[1:])
def test_masks_stored_in_another_orientation_are_turned(tmp_path, stored):
    shape = (16, 16, 16, 2)  # a cube: nothing but the affine tells the axes apart
    source = open_source(save(tmp_path / "a.nii.gz", noise(shape, np.int16), "RAS"))
    path = write_masks(source, tmp_path / "out", ids_for(source))
    mask = nibabel.load(path)
    turned = mask.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored)))
    assert nibabel.aff2axcodes(turned.affine) == tuple(stored)
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "turned.nii.gz", source), ids_for(source))


def test_masks_that_lie_elsewhere_are_refused_and_those_that_tell_no_place_are_taken(tmp_path):
    source = open_source(save(tmp_path / "a.nii.gz", noise((20, 30, 4))))
    mask = nibabel.load(write_masks(source, tmp_path / "out", ids_for(source)))
    for change in (np.diag([1, 1, 2.0, 1]), np.array([[1, 0, 0, 0], [0, 1, 0, 3], [0, 0, 1, 0], [0, 0, 0, 1.0]])):
        nibabel.save(nibabel.Nifti1Image(mask.dataobj, mask.affine @ change), tmp_path / "moved.nii.gz")
        assert "moved.nii.gz does not lie" in refused(read_mask, tmp_path / "moved.nii.gz", source)
    for affine in (np.eye(4), np.diag([-0.7, -0.5, 2.5, 1])):
        nibabel.save(nibabel.Nifti1Image(mask.dataobj, affine), tmp_path / "bare.nii.gz")
        np.testing.assert_array_equal(read_mask(tmp_path / "bare.nii.gz", source), ids_for(source))


@pytest.mark.parametrize("form", ["sform", "qform", "none"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_either_way_of_telling_the_place_is_kept(tmp_path, kind, form):
    image_path = save(tmp_path / "a.nii.gz", noise((20, 30, 4)), "LPS", kind, form)
    source = open_source(image_path)
    mask, image = nibabel.load(write_masks(source, tmp_path / "out", ids_for(source))), nibabel.load(image_path)
    assert type(mask) is type(image) is kind
    for code in ("sform_code", "qform_code"):
        assert mask.header[code] == image.header[code]
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-6)


@pytest.mark.parametrize(("unit", "told"), [("micron", ("um", 0.7)), ("meter", ("mm", 700)), ("unknown", ("mm", 0.7))])
def test_units(tmp_path, unit, told):
    image = nibabel.load(save(tmp_path / "a.nii", noise((20, 30, 4))))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "b.nii")
    source = open_source(tmp_path / "b.nii")
    assert (source.unit, source.spacing[0]) == (told[0], pytest.approx(told[1]))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_colours(tmp_path, name):
    pixels = noise((20, 30, 4, 3))
    stored = pixels.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    source = open_source(save(tmp_path / name, stored))
    np.testing.assert_array_equal([np.asarray(plane) for plane in source.planes], pixels.transpose(2, 0, 1, 3))
    mask = nibabel.load(write_masks(source, tmp_path / "out", ids_for(source)))
    assert (mask.shape, mask.get_data_dtype()) == ((20, 30, 4), np.uint8)


def test_nobody_is_named_in_masks(tmp_path):
    import gzip

    image = nibabel.load(save(tmp_path / "a.nii", noise((20, 30, 4))))
    for field, word in zip(("descrip", "db_name", "aux_file", "intent_name"), (*PATIENT, PATIENT[1]), strict=False):
        image.header[field] = word.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", PATIENT[0].encode()))
    nibabel.save(image, tmp_path / "b.nii")
    assert PATIENT[0].encode() in (tmp_path / "b.nii").read_bytes()
    source = open_source(tmp_path / "b.nii")
    written = gzip.decompress(write_masks(source, tmp_path / "out", ids_for(source)).read_bytes())
    assert [word for word in PATIENT if word.encode() in written] == []


def test_what_has_no_pixels_or_no_real_numbers(tmp_path):
    nibabel.save(nibabel.Nifti1Image(noise((20, 30, 4)).astype(np.complex64), np.eye(4)), tmp_path / "c.nii")
    sentence = refused(open_source, tmp_path / "c.nii")
    assert "c.nii" in sentence and "complex64" in sentence
    image = nibabel.Nifti1Image(np.zeros((20, 0, 4), np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "z.nii")
    sentence = refused(open_source, tmp_path / "z.nii")
    assert "z.nii" in sentence and "no pixels" in sentence
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 30, 0), np.uint8), np.eye(4)), tmp_path / "y.nii")
    assert "y.nii holds no images" in refused(open_source, tmp_path / "y.nii")


def test_a_place_that_makes_no_sense_does_not_lose_masks(tmp_path):
    image = nibabel.load(save(tmp_path / "a.nii", noise((20, 30, 4))))
    for value in (0, np.nan):
        header = image.header.copy()
        for name in ("srow_x", "srow_y", "srow_z"):
            header[name] = value
        with (tmp_path / "b.nii").open("wb") as file:
            file.write(header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F"))
        if value == 0:
            source = open_source(tmp_path / "b.nii")
            path = write_masks(source, tmp_path / "out", ids_for(source))
            np.testing.assert_array_equal(read_mask(path, source), ids_for(source))
            sound = write_masks(open_source(tmp_path / "a.nii"), tmp_path / "out", ids_for(source))
            assert "a.nii.gz does not lie" in refused(read_mask, sound, source)
        else:
            assert "b.nii cannot be read" in refused(open_source, tmp_path / "b.nii")


def test_a_slight_turn_that_adds_up_is_refused(tmp_path):
    source = open_source(save(tmp_path / "a.nii.gz", noise((20, 300, 4))))
    mask = nibabel.load(write_masks(source, tmp_path / "out", ids_for(source)))
    for more, fits in ((0.0005, True), (0.01, False)):
        stretched = mask.affine @ np.diag([1, 1 + more, 1, 1])
        nibabel.save(nibabel.Nifti1Image(mask.dataobj, stretched), tmp_path / "b.nii.gz")
        if fits:
            np.testing.assert_array_equal(read_mask(tmp_path / "b.nii.gz", source), ids_for(source))
        else:
            assert "b.nii.gz" in refused(read_mask, tmp_path / "b.nii.gz", source)
