"""Numbers and pictures of masks, checked against shapes whose measures are known by hand."""

import csv

import numpy as np
import pytest

from napari_semigda.colours import COUNT, class_colour
from napari_semigda.measurements import OBJECT_COLUMNS, TOTAL_COLUMNS, measure, total, write_table
from napari_semigda.overlays import OPACITY, overlay

CLASSES = {0: "background", 1: "cell", 2: "nucleus", 3: "debris"}


@pytest.fixture
def drawn():
    """A rectangle of class 1, a square of class 2 that touches it, and two pixels of class 2 joined by a corner."""
    mask = np.zeros((40, 50), np.uint8)
    mask[5:15, 5:25] = 1
    mask[15:20, 5:10] = 2
    mask[30, 30] = mask[31, 31] = 2
    image = np.zeros((40, 50), np.uint16)
    image[5:15, 5:25] = 100
    image[5, 5] = 900
    image[30, 30], image[31, 31] = 10, 20
    return mask, image


def test_objects_of_known_shape(drawn):
    mask, image = drawn
    rectangle, square, corner = measure(mask, image, CLASSES)
    assert [row["object"] for row in (rectangle, square, corner)] == [1, 2, 3]
    assert [row["class_name"] for row in (rectangle, square, corner)] == ["cell", "nucleus", "nucleus"]
    assert [row["area_px"] for row in (rectangle, square, corner)] == [200, 25, 2]
    assert rectangle["perimeter_px"] == pytest.approx(2 * (9 + 19))  # through the middles of its outermost pixels
    assert square["perimeter_px"] == pytest.approx(4 * 4)
    assert rectangle["equivalent_diameter_px"] == pytest.approx(np.sqrt(4 * 200 / np.pi))
    assert (rectangle["centroid_row_px"], rectangle["centroid_column_px"]) == (9.5, 14.5)
    assert rectangle["intensity_mean"] == pytest.approx((199 * 100 + 900) / 200)
    assert (rectangle["intensity_min"], rectangle["intensity_max"]) == (100, 900)
    assert (corner["intensity_mean"], corner["intensity_min"], corner["intensity_max"]) == (15, 10, 20)
    assert not [column for column in rectangle if column.endswith(("mm", "mm2"))]


def test_a_disc_is_measured_within_a_few_percent():
    rows, columns = np.mgrid[:120, :120]
    mask = ((rows - 60) ** 2 + (columns - 50) ** 2 < 40**2).astype(np.uint8)
    (disc,) = measure(mask, mask, CLASSES, (0.5, 0.5))
    assert disc["area_mm2"] == pytest.approx(np.pi * 20**2, rel=0.01)
    assert disc["equivalent_diameter_mm"] == pytest.approx(40, rel=0.01)
    assert disc["perimeter_mm"] == pytest.approx(2 * np.pi * 20, rel=0.05)  # an estimate
    assert (disc["centroid_row_mm"], disc["centroid_column_mm"]) == pytest.approx((30, 25))


def test_pixels_that_are_not_square(drawn):
    rectangle, *_ = measure(*drawn, CLASSES, (0.5, 2.0))
    assert rectangle["area_mm2"] == pytest.approx(200)
    assert (rectangle["centroid_row_mm"], rectangle["centroid_column_mm"]) == pytest.approx((4.75, 29))
    assert "perimeter_mm" not in rectangle and rectangle["perimeter_px"] == pytest.approx(56)


def test_micrometres_have_columns_of_their_own(drawn):
    rectangle, *_ = rows = measure(*drawn, CLASSES, (2.0, 2.0), "um")
    assert (rectangle["area_um2"], rectangle["perimeter_um"]) == (800, 112)
    cell, *_ = total([{"plane": 1} | row for row in rows], CLASSES, 2000, 1, (2.0, 2.0), "um")
    assert cell["area_um2"] == 800
    assert {*rectangle, *cell} <= {*OBJECT_COLUMNS, *TOTAL_COLUMNS}
    assert not [column for column in {*rectangle, *cell} if "mm" in column]


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_are_measured_one_by_one_and_transparency_is_not(drawn, channels):
    mask, _ = drawn
    image = np.zeros((*mask.shape, channels), np.uint8)
    image[..., :3][mask == 1] = (10, 20, 30)
    rectangle, *_ = measure(mask, image, CLASSES)
    assert [rectangle[f"intensity_mean_{colour}"] for colour in ("red", "green", "blue")] == [10, 20, 30]
    assert sum(column.startswith("intensity") for column in rectangle) == 9


@pytest.mark.parametrize(("channels", "measured"), [(2, 2), (5, 5), (11, 8)])
def test_channels_are_measured_one_by_one(drawn, channels, measured):
    mask, _ = drawn
    image = np.zeros((*mask.shape, channels), np.uint16)
    image[mask == 1] = np.arange(channels) * 100
    rectangle, *_ = rows = measure(mask, image, CLASSES)
    assert [rectangle[f"intensity_mean_channel_{number + 1}"] for number in range(measured)] == [
        100 * number for number in range(measured)
    ]
    cell, *_ = total([{"plane": 1} | row for row in rows], CLASSES, 2000, 1)
    assert {*rectangle, *cell} <= {*OBJECT_COLUMNS, *TOTAL_COLUMNS}
    assert sum(column.startswith("intensity") for column in rectangle) == 3 * measured


@pytest.mark.parametrize("dtype", [bool, np.int16, np.float32, np.float64])
def test_every_type_of_image_is_measured(drawn, dtype):
    mask, image = drawn
    rows = measure(mask, image.astype(dtype), CLASSES)
    assert rows[1]["intensity_max"] == 0 and rows[2]["intensity_min"] > 0


def test_totals_name_what_is_missing_too(drawn):
    rows = [{"plane": plane} | row for plane in (1, 2) for row in measure(*drawn, CLASSES, (0.5, 0.5))]
    cell, nucleus, debris = total(rows, CLASSES, 2 * 40 * 50, 5, (0.5, 0.5))
    assert (cell["area_px"], cell["area_mm2"], cell["area_percent"]) == (400, 100, 10)
    assert (cell["planes"], cell["planes_with_it"], cell["objects"]) == (5, 2, 2)
    assert nucleus["objects"] == 4
    assert nucleus["intensity_mean"] == pytest.approx(30 / 27)  # of pixels, not of objects
    assert (debris["class_name"], debris["objects"], debris["area_px"], debris["area_mm2"]) == ("debris", 0, 0, 0)
    assert "intensity_mean" not in debris


def test_empty_masks_have_no_objects(drawn):
    mask, image = drawn
    assert measure(mask * 0, image, CLASSES) == []


def test_a_table_has_the_columns_that_are_known(drawn, tmp_path):
    rows = [{"file": "ä, b.png", "plane": 1} | row for row in measure(*drawn, CLASSES)]
    write_table(tmp_path / "t.csv", OBJECT_COLUMNS, lambda: rows)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:5] == ["file", "plane", "object", "class", "class_name"]
    assert "area_mm2" not in table[0] and "intensity_mean_red" not in table[0]
    assert table[0]["file"] == "ä, b.png" and float(table[0]["area_px"]) == 200
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


# Overlays -------------------------------------------------------------------------------------------------------------


def test_an_overlay_shows_image_tint_and_outline(drawn):
    mask, _ = drawn
    image = np.full((*mask.shape, 3), 100, np.uint8)
    picture = overlay(image, mask)
    assert (picture.shape, picture.dtype) == ((40, 50, 3), np.uint8)
    assert (picture[mask == 0] == 100).all()  # nothing outside a mask is touched
    np.testing.assert_array_equal(picture[5, 5], class_colour(1))
    np.testing.assert_array_equal(picture[19, 7], class_colour(2))
    tinted = OPACITY * np.array(class_colour(1)) + (1 - OPACITY) * 100
    np.testing.assert_allclose(picture[9, 12], tinted, atol=1)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.float32])
def test_any_image_is_stretched_to_be_seen(dtype):
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    image = ramp > 0.5 if dtype is bool else (ramp * 200 - (50 if np.issubdtype(dtype, np.signedinteger) else 0))
    picture = overlay(image.astype(dtype), np.zeros((64, 64), np.uint8))
    assert picture[0, 0].tolist() == [0, 0, 0] and picture[-1, -1].tolist() == [255, 255, 255]


def test_a_blank_image_can_be_shown():
    assert overlay(np.full((20, 20), 7, np.float32), np.zeros((20, 20), np.uint8)).max() == 0


def test_class_colours_differ_and_begin_again():
    assert len({class_colour(number) for number in range(1, COUNT + 1)}) == COUNT
    assert class_colour(COUNT + 1) == class_colour(1) == (0xE6, 0x9F, 0x00)
