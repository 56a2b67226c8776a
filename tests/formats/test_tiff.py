"""TIFF with the axes and sizes of ImageJ and OME, channels on either end, and odd ones; checked with tifffile."""

import numpy as np
import pytest
import tifffile

from napari_semigda.formats import open_source, write_masks
from napari_semigda.images import read_mask
from tests.formats.conftest import PATIENT, ids_for, noise, refused

MICRO = "\N{MICRO SIGN}m"
OME = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": MICRO, "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": MICRO}
OME |= {"PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": MICRO, "TimeIncrement": 3.0, "TimeIncrementUnit": "s"}
IMAGEJ = {"unit": "um", "spacing": 2.0, "finterval": 3.0}
TYPES = [np.uint8, np.uint16, np.float32]


def planes_of(path):
    return np.stack([np.asarray(plane) for plane in open_source(path).planes])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (20, 30)), ("ZYX", (4, 20, 30)), ("TYX", (2, 20, 30)), ("TZYX", (2, 4, 20, 30))]
)
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_masks_keep_axes_and_sizes(tmp_path, kind, axes, shape, dtype):
    pixels, path = noise(shape, dtype), tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    told = {"axes": axes} | (OME if kind == "ome" else IMAGEJ)
    tifffile.imwrite(path, pixels, **{kind: True}, resolution=(4, 2), metadata=told)
    source = open_source(path)
    assert (source.spacing, source.unit, source.depth) == ((0.5, 0.25), "um", 2.0 if "Z" in axes else None)
    np.testing.assert_array_equal(planes_of(path), pixels.reshape(-1, 20, 30))
    written = write_masks(source, tmp_path / "out", ids_for(source))
    with tifffile.TiffFile(written) as tif:
        (series,) = tif.series
        assert (series.kind, series.axes, series.shape) == (kind, axes, shape)
        np.testing.assert_array_equal(series.asarray().reshape(-1, 20, 30), ids_for(source))
        assert all(page.resolution == (4, 2) for page in tif.pages)
        if kind == "imagej":
            expected = {key: value for key, value in IMAGEJ.items() if key == "unit" or axes[0] in "TZ"}
            assert expected.items() <= tif.imagej_metadata.items()
        else:
            pixels_told = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
            assert OME.items() <= pixels_told.items()
    again = open_source(written)
    assert (again.spacing, again.unit, again.depth) == (source.spacing, source.unit, source.depth)
    np.testing.assert_array_equal(read_mask(written, source), ids_for(source))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("kind", "axes", "shape"),
    [
        ("imagej", "CYX", (3, 20, 30)),
        ("imagej", "TZCYX", (2, 4, 3, 20, 30)),
        ("ome", "CYX", (3, 20, 30)),
        ("ome", "ZCYX", (4, 3, 20, 30)),
        ("ome", "CZYX", (3, 4, 20, 30)),
        ("ome", "ZYXS", (4, 20, 30, 3)),
        ("plain", "YXC", (20, 30, 3)),
        ("plain", "CYX", (3, 20, 30)),
        ("plain", "ZYXC", (4, 20, 30, 3)),
    ],
)
def test_channels_come_last_wherever_they_are_stored(tmp_path, kind, axes, shape, dtype):
    pixels, path = noise(shape, dtype), tmp_path / "a.tif"
    how = {} if kind == "plain" else {kind: True}
    tifffile.imwrite(path, pixels, photometric="rgb" if "S" in axes else "minisblack", metadata={"axes": axes}, **how)
    channels = axes.replace("S", "C").index("C")
    expected = np.moveaxis(pixels, channels, -1).reshape(-1, 20, 30, 3)
    np.testing.assert_array_equal(planes_of(path), expected)
    source = open_source(path)
    assert source.planes[0].dtype == dtype
    written = write_masks(source, tmp_path / "out", ids_for(source))
    masks = tifffile.imread(written)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks.reshape(-1, 20, 30), ids_for(source))
    np.testing.assert_array_equal(read_mask(written, source), ids_for(source))


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("CYX", (2, 20, 30)), ("ZCYX", (4, 5, 20, 30)), ("CZYX", (2, 4, 20, 30)), ("TZCYX", (2, 3, 7, 20, 30))],
)
def test_any_number_of_channels(tmp_path, kind, axes, shape):
    if kind == "imagej" and axes == "CZYX":
        pytest.skip("ImageJ knows one order")
    pixels, path = noise(shape, np.uint16), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": axes}, photometric="minisblack", **{kind: True})
    channels = axes.index("C")
    expected = np.moveaxis(pixels, channels, -1).reshape(-1, 20, 30, shape[channels])
    np.testing.assert_array_equal(planes_of(path), expected)
    assert open_source(path).axis == ("z" if "Z" in axes else "")


def test_a_plane_with_channels_is_read_without_the_others(tmp_path, monkeypatch):
    pixels = noise((4, 5, 20, 30))
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "ZCYX"})
    source = open_source(tmp_path / "a.tif")
    monkeypatch.setattr("napari_semigda.formats.tiff._load_series", None)
    np.testing.assert_array_equal(np.asarray(source.planes[1]), np.moveaxis(pixels[1], 0, -1))


@pytest.mark.parametrize(("axes", "order"), [("ZXY", (0, 2, 1)), ("YZX", (1, 0, 2)), ("XYZ", (2, 1, 0))])
def test_axes_in_another_order_are_sorted(tmp_path, axes, order):
    pixels = noise((20, 20, 20))  # a cube: nothing but the names tells them apart
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata={"axes": axes})
    np.testing.assert_array_equal(planes_of(tmp_path / "a.tif"), pixels.transpose(order))


def test_channels_of_colours_are_pages(tmp_path):
    pixels = noise((4, 2, 20, 30, 3))
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, photometric="rgb", ome=True, metadata={"axes": "ZCYXS"})
    np.testing.assert_array_equal(planes_of(tmp_path / "a.ome.tif"), pixels.reshape(-1, 20, 30, 3))
    source = open_source(tmp_path / "a.ome.tif")
    written = write_masks(source, tmp_path / "out", ids_for(source))
    np.testing.assert_array_equal(read_mask(written, source), ids_for(source))


def test_odd_axes_are_refused(tmp_path):
    for number, axes in enumerate(("ZQX", "ZTC")):
        path = tmp_path / f"odd{number}.tif"
        tifffile.imwrite(path, noise((4, 20, 30)), photometric="minisblack", metadata={"axes": axes})
        sentence = refused(open_source, path)
        assert path.name in sentence and axes in sentence and "plain pages" in sentence


def test_numbers_that_are_not_real_and_sides_without_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", noise((20, 30)).astype(np.complex64))
    sentence = refused(open_source, tmp_path / "c.tif")
    assert "c.tif" in sentence and "complex64" in sentence
    with pytest.warns(UserWarning, match="zero-size"):
        tifffile.imwrite(tmp_path / "z.tif", np.zeros((3, 0, 30), np.uint8))
    assert "z.tif" in refused(open_source, tmp_path / "z.tif")


def test_a_part_of_an_ome_tiff_in_several_files_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((4, 20, 30)), metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        told = tif.ome_metadata
    halves = "".join(
        f'<TiffData FirstZ="{z}" FirstC="0" FirstT="0" IFD="{z % 2}" PlaneCount="1">'
        f'<UUID FileName="{"a" if z < 2 else "b"}.ome.tif">urn:uuid:{z // 2}</UUID></TiffData>'
        for z in range(4)
    )
    start, end = told.index("<TiffData"), told.index("/>", told.index("<TiffData")) + 2
    told = told[:start] + halves + told[end:]
    told = told.replace(told[told.index('UUID="') : told.index('"', told.index('UUID="') + 6) + 1], 'UUID="urn:uuid:0"')
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((2, 20, 30)), description=told, metadata=None)
    sentence = refused(open_source, tmp_path / "a.ome.tif")
    assert "a.ome.tif speaks of 2 planes" in sentence


def test_labels_of_slices_stay_out_of_masks(tmp_path):
    told = {"axes": "ZYX", "Labels": [PATIENT[0]] * 4, "Info": PATIENT[1], **IMAGEJ}
    tifffile.imwrite(tmp_path / "a.tif", noise((4, 20, 30)), imagej=True, resolution=(4, 2), metadata=told)
    assert PATIENT[1].encode("utf-16-le") in (tmp_path / "a.tif").read_bytes()
    source = open_source(tmp_path / "a.tif")
    written = write_masks(source, tmp_path / "out", ids_for(source)).read_bytes()
    assert [word for word in PATIENT if word.encode() in written or word.encode("utf-16-le") in written] == []


def test_a_plane_is_read_without_the_others(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((6, 20, 30)), imagej=True, metadata={"axes": "ZYX"})
    source = open_source(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    del data[-3 * 600 :]  # the last three planes
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal(np.asarray(source.planes[0]), noise((6, 20, 30))[0])
    refused(np.asarray, source.planes[5])


def test_a_file_that_is_another_now_is_parsed_again(tmp_path):
    path = tmp_path / "a.tif"
    for shape in ((20, 30), (30, 20), (16, 16)):
        tifffile.imwrite(path, noise(shape))
        np.testing.assert_array_equal(planes_of(path)[0], noise(shape))
        np.testing.assert_array_equal(planes_of(path)[0], noise(shape))


def test_a_file_of_one_page_is_parsed_once(tmp_path, monkeypatch):
    parsed, parse = [], tifffile.TiffFile
    tifffile.imwrite(tmp_path / "a.tif", noise((20, 30)))
    monkeypatch.setattr(tifffile, "TiffFile", lambda path: parsed.append(path) or parse(path))
    for _ in range(3):
        np.testing.assert_array_equal(planes_of(tmp_path / "a.tif")[0], noise((20, 30)))
    assert len(parsed) == 1


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
