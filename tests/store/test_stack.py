"""The images of a project as one array: of any size and colour, read when they are looked at."""

import shutil
import time

import numpy as np
import tifffile
from PIL import Image

from napari_semigda.engine.types import Settings
from napari_semigda.store import ProjectStore

from .conftest import SIZE, pictures


def test_images_of_different_sizes_and_colours_share_a_stack_and_keep_their_own_size(tmp_path, opened):
    folder = pictures(tmp_path / "study", 1)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (64, 30, 3), np.uint8)).save(folder / "b.png")
    project = opened(folder, ProjectStore.create)
    data = project.stack.data
    assert (project.stack.shape, data.shape, data.mixed) == ((2, 64, 48), (2, 64, 48, 3), True)
    grey = np.asarray(Image.open(folder / "ax0.png"))
    np.testing.assert_array_equal(data[0][:40, :48], np.stack([grey] * 3, -1))
    assert not data[0][40:].any()
    project.update_masks(np.ones(project.stack.shape, np.uint8))  # beside the images too
    planes = project.snapshot(Settings()).request.planes
    assert [plane.image.shape for plane in planes] == [(40, 48), (64, 30, 3)]
    assert [plane.mask.shape for plane in planes] == [(40, 48), (64, 30)]
    assert [plane.name for plane in planes] == ["ax0.png", "b.png"]
    project.close()
    assert tifffile.imread(folder / "semigda" / "masks" / "b.tif").shape == (64, 30)


def test_the_stack_slices_like_an_array_and_keeps_few_planes(folder, opened, monkeypatch):
    from napari_semigda.store import stack as stacking

    data = opened(folder, ProjectStore.create).stack.data
    whole = np.stack([np.asarray(Image.open(folder / f"ax{n}.png")) for n in range(3)])
    monkeypatch.setattr(stacking, "KEPT_BYTES", 2 * whole[0].nbytes)
    for key in (1, -1, (1, 3), (slice(None), 4, slice(2, 9)), (slice(0, 3, 2),), (..., 5), ([2, 0], slice(3))):
        np.testing.assert_array_equal(data[key], whole[key])
    np.testing.assert_array_equal(np.asarray(data), whole)
    assert len(data._kept) <= 2


def test_a_thousand_images_open_in_three_seconds(tmp_path, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    tifffile.imwrite(folder / "i0.tif", np.zeros(SIZE, np.uint8))
    for number in range(1, 1000):
        shutil.copy(folder / "i0.tif", folder / f"i{number}.tif")
    project = opened(folder, ProjectStore.create)
    masks = np.zeros(project.stack.shape, np.uint8)
    masks[::5, :9, :9] = 1
    project.update_masks(masks)
    project.close()
    start = time.monotonic()
    assert len(opened(folder).painted) == 200
    assert time.monotonic() - start < 3
