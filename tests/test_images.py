"""Folders of images and the masks that belong to them: in which order, by which names, and what is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.formats import is_image, output_name, stem_of
from napari_semigda.images import find_images, images_in, labelled_planes, read_mask
from tests.formats.conftest import noise, refused, save_nifti

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


def save_mask(path, mask):
    Image.fromarray(mask).save(path)
    return path


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
