"""Strokes go on in the picture as far as that is sure, and are believed where the network agrees."""

import numpy as np
import pytest

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.spreading import agree, spread_strokes, walk
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader

from .conftest import draw_discs


def scene(objects: int, noise: float = 0.005) -> tuple[np.ndarray, np.ndarray]:
    """(60, 80, 3) with bright squares on a dark ground, and (60, 80) 1 where they are."""
    truth = np.zeros((60, 80), int)
    for number in range(objects):
        truth[20:40, 8 + 25 * number : 22 + 25 * number] = 1
    picture = 0.3 + 0.4 * truth[..., None] + np.random.default_rng(0).normal(0, noise, (60, 80, 3))
    return picture.clip(0, 1).astype(np.float32), truth


def strokes_on(objects: int) -> np.ndarray:
    """A stroke in each of the first squares, and one on the ground beside them."""
    strokes = np.full((60, 80), -1)
    strokes[50:52, 5:75] = 0
    for number in range(objects):
        strokes[29:31, 12 + 25 * number : 18 + 25 * number] = 1
    return strokes


def test_they_go_on_to_the_edges():
    (picture, truth), strokes = scene(2), strokes_on(2)
    spread = walk(picture, strokes)
    assert (spread[strokes >= 0] == strokes[strokes >= 0]).all()
    assert (spread == truth)[spread >= 0].mean() > 0.99
    assert (spread[truth == 1] == 1).mean() > 0.9
    assert (spread[40:] == 0).mean() > 0.9


def test_noise_makes_nothing_sure():
    picture = np.random.default_rng(0).random((60, 80, 3)).astype(np.float32)
    strokes = strokes_on(2)
    assert (walk(picture, strokes) >= 0).mean() < 2 * (strokes >= 0).mean()


@pytest.mark.parametrize("strokes", [np.full((60, 80), 1), np.where(strokes_on(0) >= 0, 0, -1)])
def test_where_there_is_nothing_to_tell_apart_they_stay(strokes):
    np.testing.assert_array_equal(walk(scene(2)[0], strokes), strokes)


def test_a_flat_picture_is_no_trouble():
    assert set(np.unique(walk(np.full((60, 80, 3), 0.5, np.float32), strokes_on(2)))) <= {-1, 0, 1}


def test_planes_keep_what_was_painted():
    planes = []
    for seed in range(3):
        picture, truth = draw_discs(seed, (200, 280))
        strokes = np.zeros_like(truth)
        strokes[np.arange(200) % 40 < 3] = 2 - truth[np.arange(200) % 40 < 3]  # background is class 2
        planes.append(Plane(f"{seed}", picture, strokes if seed else None))
    spread = spread_strokes(planes, PlaneReader(planes), ClassTable.of(planes, sparse=True))
    assert spread[0] is planes[0]
    for before, after in zip(planes[1:], spread[1:], strict=True):
        assert after.mask.dtype == before.mask.dtype and after.image is before.image
        np.testing.assert_array_equal(after.mask[before.mask > 0], before.mask[before.mask > 0])
        _, truth = draw_discs(int(after.name), (200, 280))
        known = after.mask > 0
        assert known.mean() > 2 * (before.mask > 0).mean()
        assert (after.mask == 2 - truth)[known].mean() > 0.97


def test_they_are_believed_where_the_network_finds_the_same():
    painted, truth = np.zeros((40, 40), np.uint8), np.ones((40, 40), np.uint8)
    truth[:20] = 2
    painted[5], painted[35] = 2, 1
    swallowed = truth.copy()
    swallowed[8:20] = 1  # most of class 2
    assert agree([(painted, truth, truth)], (1, 2))
    assert not agree([(painted, swallowed, truth)], (1, 2))
    assert not agree([(painted, painted, truth)], (1, 2))  # nothing was spread
