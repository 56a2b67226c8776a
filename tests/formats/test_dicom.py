"""DICOM files and series: values, order and place, checked with SimpleITK; and nothing of the patient anywhere."""

import warnings

import numpy as np
import pytest
import SimpleITK as sitk

from napari_semigda.formats import is_image, open_source, output_name, stem_of, write_masks
from napari_semigda.images import find_images, images_in, labelled_planes, planes_of, read_mask
from napari_semigda.store import ProjectStore
from tests.formats.conftest import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    PATIENT,
    dicom_file,
    dicom_series,
    ids_for,
    noise,
    refused,
)


def by_itk(folder):
    """The same series, put together by somebody else."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "dtype", "expected"),
    [
        ({}, np.int16, lambda x: x),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, np.int32, lambda x: x - 1024),
        ({"RescaleSlope": 0.5, "RescaleIntercept": 3}, np.float32, lambda x: x * 0.5 + 3),
        ({"BitsStored": 12, "HighBit": 11, "RescaleIntercept": -1024, "RescaleSlope": 1}, np.int16, lambda x: x - 1024),
        ({"PhotometricInterpretation": "MONOCHROME1"}, np.int16, lambda x: -1 - x),
    ],
)
def test_stored_numbers_become_values(tmp_path, tags, dtype, expected):
    stored = noise((20, 30), np.int16, 2000)
    (plane,) = planes_of(open_source(dicom_file(tmp_path / "a.dcm", stored, **tags)))
    assert (plane.name, plane.group, plane.image.shape) == ("a.dcm", "", (20, 30))
    assert plane.image.dtype == np.asarray(plane.image).dtype == dtype
    np.testing.assert_allclose(np.asarray(plane.image), expected(stored.astype(float)))


def test_inverted_bytes_stay_bytes(tmp_path):
    stored = noise((20, 30))
    source = open_source(dicom_file(tmp_path / "xray.dcm", stored, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(np.asarray(source.planes[0]), 255 - stored)
    assert source.planes[0].dtype == np.uint8


@pytest.mark.parametrize("planar", [0, 1])
def test_colours(tmp_path, planar):
    pixels = noise((20, 30, 3))
    path = dicom_file(tmp_path / "a.dcm", pixels)
    if planar:
        data = pixels.transpose(2, 0, 1).copy().tobytes()
        path = dicom_file(tmp_path / "a.dcm", pixels, PlanarConfiguration=1, PixelData=data)
    np.testing.assert_array_equal(np.asarray(open_source(path).planes[0]), pixels)


def test_palette_becomes_its_colours(tmp_path):
    table = noise((256, 3), np.uint16, 256) * 257
    descriptor = [256, 0, 16]
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for i, colour in enumerate(("Red", "Green", "Blue")):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = descriptor
        tags[f"{colour}PaletteColorLookupTableData"] = table[:, i].tobytes()
    stored = noise((20, 30))
    image = open_source(dicom_file(tmp_path / "a.dcm", stored, **tags)).planes[0]
    assert (image.shape, image.dtype) == ((20, 30, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(image), (table >> 8)[stored])


def test_window_is_told_and_cuts_nothing_off(tmp_path):
    stored = noise((20, 30), np.int16, 2000)
    source = open_source(dicom_file(tmp_path / "a.dcm", stored, WindowCenter=[40, 500], WindowWidth=[400, 1500]))
    assert source.window == (-160, 240)
    assert np.asarray(source.planes[0]).max() == stored.max()
    for tags in (
        {"WindowCenter": 40, "WindowWidth": 0},
        {"WindowCenter": 40, "WindowWidth": 9, "VOILUTFunction": "SIGMOID"},
    ):
        assert open_source(dicom_file(tmp_path / "b.dcm", stored, **tags)).window is None


def test_run_length_compression_is_unpacked(tmp_path):
    import pydicom
    from pydicom.uid import RLELossless

    stored = noise((20, 30), np.int16, 2000)
    file = pydicom.dcmread(dicom_file(tmp_path / "a.dcm", stored))
    file.compress(RLELossless)
    file.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(np.asarray(open_source(tmp_path / "a.dcm").planes[0]), stored)


@pytest.mark.parametrize("coding", ["JPEG", "JPEG2000"])
def test_compressed_colours_are_red_green_and_blue(tmp_path, coding):
    from io import BytesIO

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :, 0], pixels[16:, :, 2] = 200, 120
    packed = BytesIO()
    Image.fromarray(pixels).save(packed, coding, **({"quality": 95} if coding == "JPEG" else {"no_jp2": True}))
    meaning = {"PhotometricInterpretation": "YBR_FULL_422" if coding == "JPEG" else "YBR_RCT"}
    syntax = JPEGBaseline8Bit if coding == "JPEG" else JPEG2000Lossless
    path = tmp_path / "a.dcm"
    dicom_file(path, pixels, syntax=syntax, PixelData=encapsulate([packed.getvalue()]), **meaning)
    read = np.asarray(open_source(path).planes[0]).astype(int)
    inside = [*range(14), *range(18, 32)]  # JPEG smears colours at edges
    np.testing.assert_allclose(read[inside], pixels[inside], atol=12)


def test_compression_without_a_decoder_is_named(tmp_path, monkeypatch):
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import Decoder
    from pydicom.uid import JPEGLosslessSV1

    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    data = encapsulate([b"\xff\xd8 not unpacked here"])
    path = dicom_file(tmp_path / "a.dcm", noise((20, 30)), syntax=JPEGLosslessSV1, PixelData=data)
    sentence = refused(open_source, path)
    assert "a.dcm" in sentence and "JPEG Lossless" in sentence and "python-gdcm" in sentence


def test_frames_are_planes_of_one_stack(tmp_path):
    pixels = noise((4, 20, 30))
    source = open_source(dicom_file(tmp_path / "cine.dcm", pixels, syntax="1.2.840.10008.1.2"))
    planes = planes_of(source)
    assert [plane.name for plane in planes] == [f"cine.dcm, slice {i}" for i in range(1, 5)]
    assert {plane.group for plane in planes} == {"cine.dcm"}
    np.testing.assert_array_equal([np.asarray(plane.image) for plane in planes], pixels)
    path = write_masks(source, tmp_path / "out", ids_for(source))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), ids_for(source))
    np.testing.assert_array_equal(read_mask(path, source), ids_for(source))


def test_enhanced_frames_lie_where_each_says(tmp_path):
    from pydicom.dataset import Dataset

    def within(sequence, **tags):
        inner, outer = Dataset(), Dataset()
        for name, value in tags.items():
            setattr(inner, name, value)
        setattr(outer, sequence, [inner])
        return outer

    pixels = noise((3, 20, 30), np.int16, 2000)
    heights = [9.0, 3.0, 6.0]
    each = [within("PlanePositionSequence", ImagePositionPatient=[0, 0, z]) for z in heights]
    for group, slope in zip(each, (1, 2, 3), strict=True):
        told = within("PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=0)
        group.PixelValueTransformationSequence = told.PixelValueTransformationSequence
    shared = within("PixelMeasuresSequence", PixelSpacing=[0.7, 0.5], SliceThickness=3)
    shared.PlaneOrientationSequence = within("PlaneOrientationSequence", ImageOrientationPatient=AXIAL)[
        "PlaneOrientationSequence"
    ].value
    tags = {"PerFrameFunctionalGroupsSequence": each, "SharedFunctionalGroupsSequence": [shared]}
    source = open_source(dicom_file(tmp_path / "a.dcm", pixels, **tags))
    assert (source.spacing, source.depth) == ((0.7, 0.5), 3)
    expected = [pixels[1] * 2, pixels[2] * 3, pixels[0]]
    np.testing.assert_array_equal([np.asarray(plane) for plane in source.planes], np.array(expected, float))


# Series ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE])
def test_slices_are_in_the_order_of_their_places(tmp_path, orientation):
    volume = dicom_series(tmp_path / "ct", orientation=orientation, RescaleSlope=1, RescaleIntercept=-1000)
    source = open_source(tmp_path / "ct")
    assert [plane.name for plane in source.planes] == [f"ct, slice {i}" for i in range(1, 6)]
    assert (source.spacing, source.depth) == ((0.7, 0.5), pytest.approx(2.5))
    pixels = np.stack([np.asarray(plane) for plane in source.planes])
    np.testing.assert_array_equal(pixels, volume - 1000)
    np.testing.assert_array_equal(pixels, sitk.GetArrayFromImage(by_itk(tmp_path / "ct")))


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE])
def test_masks_lie_on_the_series_for_other_programs(tmp_path, orientation):
    dicom_series(tmp_path / "ct", orientation=orientation)
    source = open_source(tmp_path / "ct")
    path = write_masks(source, tmp_path / "out", ids_for(source))
    assert path.name == "ct.nii.gz"
    image, mask = by_itk(tmp_path / "ct"), sitk.ReadImage(path)
    assert mask.GetSize() == image.GetSize()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, name)(), getattr(image, name)(), atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), ids_for(source))
    np.testing.assert_array_equal(read_mask(path, source), ids_for(source))


@pytest.mark.parametrize("orientation", [CORONAL, OBLIQUE])
def test_masks_stored_another_way_round_are_turned(tmp_path, orientation):
    dicom_series(tmp_path / "ct", orientation=orientation, shape=(24, 24))
    source = open_source(tmp_path / "ct")
    mask = sitk.ReadImage(write_masks(source, tmp_path / "out", ids_for(source)))
    turned = sitk.Flip(sitk.PermuteAxes(mask, [2, 0, 1]), [True, False, True])
    sitk.WriteImage(turned, tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "turned.nii.gz", source), ids_for(source))
    turned.SetOrigin([x + 1 for x in turned.GetOrigin()])
    sitk.WriteImage(turned, tmp_path / "moved.nii.gz")
    sentence = refused(read_mask, tmp_path / "moved.nii.gz", source)
    assert "moved.nii.gz" in sentence and "ct" in sentence
    bare = sitk.GetImageFromArray(np.stack(ids_for(source)))
    sitk.WriteImage(bare, tmp_path / "bare.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "bare.nii.gz", source), ids_for(source))


@pytest.mark.parametrize("name", ["a.dcm", "IM0001", "1.2.840.113"])
def test_masks_of_a_single_file_lie_on_it(tmp_path, name):
    tags = {"ImageOrientationPatient": CORONAL, "ImagePositionPatient": [5, -7, 30], "PixelSpacing": [0.7, 0.5]}
    source = open_source(dicom_file(tmp_path / name, noise((20, 30)), SliceThickness=4, **tags))
    path = write_masks(source, tmp_path / "out", ids_for(source))
    assert path.name == stem_of(tmp_path / name) + ".nii.gz" == output_name(tmp_path / name)
    image, mask = sitk.ReadImage(tmp_path / name), sitk.ReadImage(path)
    for what in ("GetSize", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, what)(), getattr(image, what)(), atol=1e-4)
    assert mask.GetSpacing() == pytest.approx((0.5, 0.7, 4))
    np.testing.assert_array_equal(read_mask(path, source), ids_for(source))


def test_the_folder_is_one_image_wherever_it_is_given(tmp_path):
    dicom_series(tmp_path / "study" / "ct")
    dicom_file(tmp_path / "study" / "xray.dcm", noise((20, 30)), SeriesInstanceUID="9")
    (tmp_path / "study" / "notes").mkdir()
    (tmp_path / "study" / "notes" / "a.txt").write_text("x")
    study, ct = tmp_path / "study", tmp_path / "study" / "ct"
    assert images_in(study) == [ct, study / "xray.dcm"]
    assert images_in(ct) == find_images([ct]) == [ct]
    assert is_image(ct) and not is_image(study / "notes")
    source = open_source(ct)
    write_masks(source, tmp_path / "masks", [mask * (i == 2) for i, mask in enumerate(ids_for(source))])
    planes, _ = labelled_planes(study, tmp_path / "masks")
    assert [plane.mask is not None for plane in planes] == [False, False, True, False, False, False]
    np.testing.assert_array_equal(planes[2].mask, ids_for(source)[2])


def test_a_project_keeps_masks_of_a_series(tmp_path):
    dicom_series(tmp_path / "ct", shape=(32, 48))
    assert "folder it lies in" in refused(ProjectStore.create, tmp_path / "ct")
    store = ProjectStore.create(tmp_path)
    mask = np.zeros((32, 48), np.uint8)
    mask[3:9, 5:30] = 2
    store.save_masks([3], {3: mask})
    assert store.close()
    store = ProjectStore.open(tmp_path)
    assert store.problems == [] and store.images.shape == (5, 32, 48)
    ((number, kept),) = store.read_masks()
    assert number == 3
    np.testing.assert_array_equal(kept, mask)
    store.close()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "semigda/masks/ct.nii.gz"))[3], mask)


def test_a_changed_slice_is_noticed(tmp_path):
    dicom_series(tmp_path)
    before = np.asarray(open_source(tmp_path).planes[0])
    path = next(iter(sorted(tmp_path.iterdir())))
    place = {"ImagePositionPatient": [-12.5, 40.25, 7.0], "ImageOrientationPatient": AXIAL, "PixelSpacing": [0.7, 0.5]}
    assert path.name == "IM0003.dcm"  # the first place
    dicom_file(path, before.astype(np.int16) + 1, RescaleSlope=1, RescaleIntercept=5, **place)
    np.testing.assert_array_equal(np.asarray(open_source(tmp_path).planes[0]), before + 6)


# What is no volume ----------------------------------------------------------------------------------------------------


def test_missing_slices(tmp_path):
    dicom_series(tmp_path / "ct", count=8, skip=(3, 4))
    sentence = refused(open_source, tmp_path / "ct")
    assert "2 slices are missing between IM0017.dcm and IM0038.dcm" in sentence and "7.5 mm" in sentence


def test_several_series(tmp_path):
    dicom_series(tmp_path / "ct", count=3)
    for path in list((tmp_path / "ct").iterdir()):
        path.rename(path.with_name("a" + path.name))
    dicom_series(tmp_path / "ct", count=4, SeriesInstanceUID="1.2.4")
    sentence = refused(open_source, tmp_path / "ct")
    assert "2 series" in sentence and "IM0003.dcm and 3 more" in sentence and "folder of its own" in sentence
    assert "every series" in refused(images_in, tmp_path / "ct")


def other_size(folder):
    dicom_file(folder / "odd.dcm", noise((9, 30), np.int16), ImagePositionPatient=[0, 0, 99])


def other_direction(folder):
    place = {"ImageOrientationPatient": CORONAL, "ImagePositionPatient": [0, 0, 99], "PixelSpacing": [0.7, 0.5]}
    dicom_file(folder / "odd.dcm", noise((20, 30), np.int16), **place)


def same_place(folder):
    place = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [-12.5, 40.25, 7], "PixelSpacing": [0.7, 0.5]}
    dicom_file(folder / "odd.dcm", noise((20, 30), np.int16), **place)


def no_place(folder):
    dicom_file(folder / "odd.dcm", noise((20, 30), np.int16), PixelSpacing=[0.7, 0.5])


def other_spacing(folder):
    place = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [-12.5, 40.25, 99], "PixelSpacing": [0.9, 0.5]}
    dicom_file(folder / "odd.dcm", noise((20, 30), np.int16), **place)


def many_frames(folder):
    dicom_file(folder / "odd.dcm", noise((3, 20, 30), np.int16))


def damaged(folder):
    (folder / "odd.dcm").write_bytes(b"\0" * 128 + b"DICM" + PATIENT[0].encode() * 9)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_size, "9 x 30"),
        (other_direction, "different directions"),
        (same_place, "same place"),
        (no_place, "does not tell where it lies"),
        (other_spacing, "size of pixels"),
        (many_frames, "many frames"),
        (damaged, "damaged"),
    ],
)
def test_slices_that_do_not_belong_are_named(tmp_path, spoil, words):
    dicom_series(tmp_path / "ct", count=3)
    spoil(tmp_path / "ct")
    sentence = refused(open_source, tmp_path / "ct")
    assert "odd.dcm" in sentence and words in sentence


def test_files_without_a_picture(tmp_path):
    path = dicom_file(tmp_path / "report.dcm", noise((2, 2)), Rows=None, Columns=None, PixelData=None)
    assert "report.dcm holds no picture" in refused(open_source, path)
    (tmp_path / "cut.dcm").write_bytes(dicom_file(tmp_path / "a.dcm", noise((200, 300))).read_bytes()[:9000])
    assert "cut.dcm" in refused(open_source, tmp_path / "cut.dcm")
    (tmp_path / "junk.dcm").write_text("this is no picture at all " * 40)
    assert "junk.dcm" in refused(open_source, tmp_path / "junk.dcm")
    assert not is_image(tmp_path / "DICOMDIR")
    (tmp_path / "none").mkdir()
    assert "no slices" in refused(open_source, tmp_path / "none")


# Who was scanned ------------------------------------------------------------------------------------------------------


def test_nothing_of_the_patient_leaves_the_file(tmp_path, caplog, capfd):
    import gzip

    dicom_series(tmp_path / "ct", WindowCenter="40", RescaleSlope=1, RescaleIntercept=0)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        source = open_source(tmp_path / "ct")
        told = [repr(plane) for plane in source.planes] + [repr(source)]
        np.asarray(source.planes[0])
        path = write_masks(source, tmp_path / "out", ids_for(source))
    store = ProjectStore.create(tmp_path)
    store.close()
    told += [str(each.message) for each in heard] + [record.getMessage() for record in caplog.records]
    told += [(tmp_path / "semigda" / "project.json").read_text(), *capfd.readouterr()]
    told += [gzip.decompress(path.read_bytes()).decode("latin1")]
    assert [word for word in PATIENT if word in "".join(told)] == []
