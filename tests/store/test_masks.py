"""Masks on disk: in files that other programs read, the version before kept, and none written over that is not ours."""

import nibabel
import numpy as np
import pytest
import tifffile

from napari_semigda.images import labelled_planes, read_mask
from napari_semigda.store import ProjectStore

from .conftest import paint, pictures


def test_masks_are_tiff_and_nifti_where_the_image_is_and_other_programs_find_them(tmp_path, opened):
    folder = pictures(tmp_path / "study", 1)
    affine = np.diag([0.5, 0.5, 2, 1])
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(40, 48, 3)), affine), folder / "scan.nii.gz")
    project = opened(folder, ProjectStore.create)
    paint(project, 0)
    masks = paint(project, 3, value=2)
    project.close()
    kept = folder / "semigda" / "masks"
    assert sorted(path.name for path in kept.iterdir()) == ["ax0.tif", "scan.nii.gz"]
    assert tifffile.imread(kept / "ax0.tif").dtype == np.uint8
    np.testing.assert_array_equal(tifffile.imread(kept / "ax0.tif"), masks[0])
    scan = nibabel.load(kept / "scan.nii.gz")
    np.testing.assert_array_equal(scan.affine, affine)
    np.testing.assert_array_equal(np.asarray(scan.dataobj)[..., 2], masks[3])
    planes, strangers = labelled_planes(folder, kept)  # what the command line reads
    assert [plane.mask is not None for plane in planes] == [True, False, False, True]
    assert strangers == ()


def test_the_version_before_is_kept_of_every_mask_and_an_emptied_mask_too(folder, opened):
    project = opened(folder, ProjectStore.create)
    path = folder / "semigda" / "masks" / "ax1.tif"
    for value in (1, 2):
        paint(project, 1, value)
        assert project.keeper.flush()
    before = path.with_name("ax1.tif.previous")
    assert (tifffile.imread(path).max(), tifffile.imread(before).max()) == (2, 1)
    project.update_masks(np.zeros(project.stack.shape, np.uint8))
    assert project.keeper.flush()
    assert not path.exists()
    assert tifffile.imread(before).max() == 2


def test_forgetting_masks_in_the_session_leaves_those_on_disk(painted, opened):
    project = opened(painted)
    project.forget_masks()
    assert project.painted == (1,)
    project.close()
    assert (painted / "semigda" / "masks" / "ax1.tif").exists()


@pytest.mark.parametrize("what", ["damaged", "other size"])
def test_a_mask_that_cannot_be_used_is_kept_when_painted_over(painted, opened, what):
    path = painted / "semigda" / "masks" / "ax1.tif"
    if what == "damaged":
        path.write_bytes(b"II*\x00nonsense")
    else:
        tifffile.imwrite(path, np.ones((5, 5), np.uint8))
    before = path.read_bytes()
    project = opened(painted)
    assert project.painted == ()
    assert "ax1.tif" in project.keeper.problems[0]
    paint(project, 1)
    project.close()
    assert path.with_name("ax1.tif.damaged").read_bytes() == before
    assert read_mask(path)[0].any()
