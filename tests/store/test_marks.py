"""Images that are verified, skipped or verified as empty are so again when the project opens."""

import json
import shutil

import numpy as np
import tifffile

from napari_semigda.engine.types import Settings
from napari_semigda.images import labelled_planes
from napari_semigda.store import ProjectStore

from .conftest import SIZE, paint


def test_verified_and_skipped_are_kept_by_image_whatever_comes_before_it(painted, opened):
    store = opened(painted).keeper
    store.mark("verified", 1)
    store.mark("skipped", 2)
    store.close()
    shutil.copy(painted / "ax0.png", painted / "ab.png")  # sorts first
    store = opened(painted).keeper
    assert (store.marked("verified"), store.marked("skipped")) == ({2}, {3})


def test_an_image_verified_as_empty_is_so_again_and_for_the_command_line_until_it_is_not(painted, opened):
    project = opened(painted)
    mask = painted / "semigda" / "masks" / "ax2.tif"
    project.review.mark("empty", 2)
    project.close()
    assert not tifffile.imread(mask).any()
    planes, _ = labelled_planes(painted, mask.parent)
    assert [plane.mask is not None for plane in planes] == [False, True, True]
    project = opened(painted)
    assert (project.painted, project.review.empty()) == ((1,), {2})
    assert [plane.mask is not None for plane in project.snapshot(Settings()).request.planes] == [False, True, True]

    masks = paint(project, 2)
    assert project.keeper.flush()
    assert tifffile.imread(mask).any()
    masks[2] = 0
    project.update_masks(masks)
    assert project.keeper.flush()
    assert mask.exists() and not tifffile.imread(mask).any()  # as it was verified
    project.review.mark("empty", 2, False)
    project.close()
    assert not mask.exists()
    assert tifffile.imread(mask.with_name("ax2.tif.previous")).any()  # the paint, should it be missed
    project = opened(painted)
    assert project.review.empty() == set()
    assert project.snapshot(Settings()).request.planes[2].mask is None


def test_an_empty_slice_of_a_stack_is_known_by_the_list_and_its_paint_is_never_removed(tmp_path, opened):
    folder = tmp_path / "study"
    folder.mkdir()
    stack = np.random.default_rng(0).integers(0, 255, (3, *SIZE), np.uint8)
    tifffile.imwrite(folder / "z.tif", stack, photometric="minisblack")
    project = opened(folder, ProjectStore.create)
    project.review.mark("empty", 0)
    assert project.keeper.flush()
    assert not (folder / "semigda" / "masks" / "z.tif").exists()  # untouched slices say nothing
    paint(project, 1)
    project.review.mark("empty", 2)
    project.review.mark("empty", 2, False)
    project.close()
    project = opened(folder)
    assert (project.painted, project.review.empty()) == ((1,), {0})


def test_a_project_of_a_version_that_knew_no_empty_images_opens(painted, opened):
    path = painted / "semigda" / "project.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["empty"]
    path.write_text(json.dumps(content))
    assert opened(painted).keeper.problems == []
