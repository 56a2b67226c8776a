"""Masks of published sets: names with an ending of their own, black and white as JPEG."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_semigda.engine.types import EngineError
from napari_semigda.evaluation import evaluate_folders
from napari_semigda.foreign_masks import by_image
from napari_semigda.images import labelled_planes, read_mask


def disc(size=(60, 70), radius=18):
    rows, columns = np.indices(size)
    return (rows - 30) ** 2 + (columns - 33) ** 2 < radius**2


def files(*stems):
    return {stem: Path(f"{stem}.png") for stem in stems}


@pytest.mark.parametrize("ending", ["_mask", "_segmentation", " GT", "-labels", "_a.1"])
def test_an_ending_that_all_masks_share_is_no_part_of_the_name(ending):
    images = files("a", "b", "b_2")
    masks = files(f"a{ending}", f"b_2{ending}", f"stranger{ending}")
    found = by_image(images, masks)
    assert {stem: path.stem for stem, path in found.items() if stem in images} == {
        "a": f"a{ending}",
        "b_2": f"b_2{ending}",
    }


@pytest.mark.parametrize(
    "masks",
    [
        files("a", "b_mask"),  # names that fit come first
        files("a_mask", "b_mask_1"),  # which of two endings?
        files("ab", "ba"),  # no ending: another name
    ],
)
def test_else_masks_keep_their_names(masks):
    assert by_image(files("a", "b"), masks) == masks


def test_masks_of_a_published_set_teach_and_are_compared(tmp_path):
    for folder in ("images", "masks", "predicted"):
        (tmp_path / folder).mkdir()
    for stem in ("x1", "x2", "x3"):
        Image.fromarray(np.full((60, 70), 90, np.uint8)).save(tmp_path / "images" / f"{stem}.png")
        Image.fromarray(disc()).save(tmp_path / "predicted" / f"{stem}.png")
    for stem in ("x1", "x3"):
        white = np.repeat(disc()[..., None] * np.uint8(255), 3, 2)
        Image.fromarray(white).save(tmp_path / "masks" / f"{stem}_segmentation.jpg", quality=80)
    planes, strangers = labelled_planes(tmp_path / "images", tmp_path / "masks")
    assert [plane.mask is not None for plane in planes] == [True, False, True] and not strangers
    assert (planes[0].mask == disc() * 255).mean() > 0.995 and set(np.unique(planes[0].mask)) == {0, 255}
    Image.fromarray(disc() * np.uint8(255)).save(tmp_path / "predicted" / "x1.png")
    assert evaluate_folders(tmp_path / "predicted", tmp_path / "masks").images == 2


@pytest.mark.parametrize(
    ("values", "readable"),
    [
        (np.zeros((40, 50)), True),  # nothing there
        (disc() * 255, True),
        (disc() * 1, False),  # ids, perhaps
        (disc() * 255 + ~disc() * 128, False),
        (disc() * 255 + (disc(radius=9) ^ disc()) * -127, False),  # three greys
    ],
)
def test_a_jpeg_is_a_mask_when_it_is_black_and_white(tmp_path, values, readable):
    path = tmp_path / "m.jpg"
    Image.fromarray(values.astype(np.uint8)).save(path, quality=85)
    if readable:
        (mask,) = read_mask(path)
        assert (mask == values).mean() > 0.995
    else:
        with pytest.raises(EngineError, match=re.escape(f"{path} is a JPEG, which blurs class ids")):
            read_mask(path)


def test_colours_in_a_jpeg_are_no_mask(tmp_path):
    red = np.zeros((60, 70, 3), np.uint8)
    red[disc(), 0] = 255
    Image.fromarray(red).save(tmp_path / "red.jpg", quality=90)
    with pytest.raises(EngineError, match=re.escape("red.jpg is a JPEG")):
        read_mask(tmp_path / "red.jpg")
