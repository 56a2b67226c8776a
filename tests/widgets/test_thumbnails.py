"""Small pictures in the table of the Review dock: of any image, made once, and one that fails stops no other."""

import numpy as np
import pytest

from napari_semigda.store import ProjectStore
from napari_semigda.widgets.thumbnails import SIZE, thumbnail

from .conftest import wait_for, write_images


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((300, 500), np.uint16), ((500, 20, 3), np.uint8), ((9, 9, 4), np.float32), ((40, 40, 2), np.int32)],
)
def test_a_small_picture_of_any_image(shape, dtype):
    pixels = np.random.default_rng(0).uniform(0, 900, shape).astype(dtype)
    if dtype == np.float32:
        pixels[0, 0] = np.nan
    small = thumbnail(pixels)
    assert small.dtype == np.uint8 and small.shape[2] == 3
    assert small.shape[0] <= SIZE[1] and small.shape[1] <= SIZE[0]
    assert small.std() > 0


def test_pictures_of_a_project_are_made_once(viewer, both, monkeypatch):
    train, review = both
    folder = train.bridge.project.keeper.home / "pictures"
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(4)), 10)
    assert len(list(folder.glob("ax*.png"))) == 4
    made = []
    monkeypatch.setattr("napari_semigda.widgets.thumbnails.thumbnail", made.append)
    review.table.show(train.bridge.project)
    review.view.viewport().repaint()
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(4)), 10)
    assert made == []


def test_an_image_that_cannot_be_read_does_not_stop_the_others(viewer, make_dock, make_review, tmp_path):
    folder = write_images(tmp_path / "study", 5)
    ProjectStore.create(folder).close()
    broken = folder / "ax2.png"
    broken.write_bytes(broken.read_bytes()[:100].ljust(broken.stat().st_size, b"\0"))  # found out when it is read
    train = make_dock()
    train.projects.open(folder)
    review = make_review(train)
    assert review.table.rowCount() == 5
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(5)), 10)
