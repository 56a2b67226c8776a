"""Which images teach, judge, rest, or are learnt from unlabelled."""

import numpy as np
import pytest

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.lessons import Lessons
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, View
from tests.engine.conftest import drawn_planes, stacked

VIEW = View(1.0, 64)


def lessons_of(planes, **earlier):
    table = ClassTable.of(planes, sparse=False)
    return Lessons(planes, PlaneReader(planes), table, np.random.default_rng(0), **earlier)


def test_every_painted_image_has_one_part_and_the_rest_is_unlabelled():
    lessons = lessons_of(stacked(0, 1, 2, 7, 8, count=9))
    parts = [*lessons.teaching, *lessons.resting, *lessons.held_out, *lessons.unlabelled]
    assert sorted(parts) == list(range(9))
    assert lessons.unlabelled == [3, 4, 5, 6]
    assert lessons.held_out and lessons.resting and not lessons.refitted


def test_a_flat_image_is_not_learnt_from_unless_it_is_painted():
    flat = Plane("flat", np.full((64, 64), 7, np.uint8), None)
    planes = [*drawn_planes(2, 1), flat]
    assert lessons_of(planes).unlabelled == [2]
    assert lessons_of(planes, use_unlabelled=False).unlabelled == []


def test_in_the_end_all_that_is_painted_teaches_but_the_figures_stay_honest():
    lessons = lessons_of(stacked(0, 1, 2, 7, 8, count=9))
    taught = [f"brain {i}" for i in lessons.teaching]
    lessons.let_held_out_help()
    assert lessons.refitted and lessons.teaching == [0, 1, 2, 7, 8]
    assert lessons.painted_crops(VIEW).chosen == lessons.teaching
    assert lessons.trained_on == taught


def test_a_later_round_keeps_the_same_images_back_and_knows_which_are_new():
    planes = drawn_planes(6, 0)
    before = lessons_of(planes[:4])
    kept_back = [planes[i].name for i in before.held_out]
    later = lessons_of(planes, held_out=kept_back, trained_on=before.trained_on)
    assert [planes[i].name for i in later.held_out] == kept_back
    assert later.new == [4, 5]
    assert later.trained_on == sorted(plane.name for plane in planes if plane.name not in kept_back)


@pytest.mark.parametrize("spread", [False, True])
def test_crops_come_from_strokes_that_were_spread_once_they_are(spread):
    planes = drawn_planes(3, 0)
    lessons = lessons_of(planes)
    if spread:
        lessons.use_spread(tuple(Plane(p.name, p.image, np.zeros_like(p.mask)) for p in planes))
    assert bool(lessons.painted_crops(VIEW).draw(20).target.any()) != spread
    assert (lessons.spread_from is not None) == spread
