"""Working scale, and pixels read through it."""

import numpy as np
import pytest

from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, choose_view, read_reflected, thinnest_width


def _view_of(plane):
    return choose_view([plane], PlaneReader([plane]))[0]


def test_width_of_a_strip_and_scale():
    strip = np.zeros((200, 200), dtype=np.uint8)
    strip[90:100] = 1
    assert thinnest_width([strip]) == pytest.approx(10, rel=0.25)
    blob = np.zeros((800, 800), dtype=np.uint8)
    blob[200:600, 200:600] = 1
    picture = np.zeros((800, 800), dtype=np.uint8)
    coarse = _view_of(Plane("b", picture, blob))
    assert coarse.scale < 0.4
    lines = np.zeros((800, 800), dtype=np.uint8)
    lines[::40] = lines[1::40] = lines[2::40] = lines[3::40] = 1
    fine = _view_of(Plane("l", picture, lines))
    assert fine.scale == 1
    assert fine.crop % 32 == coarse.crop % 32 == 0


def test_windows_beyond_the_border_are_reflections():
    pixels = np.arange(12).reshape(3, 4)
    assert np.array_equal(read_reflected(pixels, -2, -1, 7, 6), np.pad(pixels, ((2, 2), (1, 1)), mode="reflect"))
