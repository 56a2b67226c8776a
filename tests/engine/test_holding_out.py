"""Which painted images are kept back, and which slices rest beside them."""

from dataclasses import replace

import numpy as np
import pytest

from napari_semigda.engine.holding_out import hold_out, neighbours_of
from napari_semigda.engine.types import Plane
from tests.engine.conftest import drawn_planes, stacked


def test_one_of_eight_is_held_out_and_at_least_one_of_two():
    assert [len(hold_out(drawn_planes(n, 3))) for n in (1, 2, 3, 8, 16)] == [0, 1, 1, 1, 2]


def test_held_out_images_stay_held_out_and_seen_ones_never_become_so():
    planes = drawn_planes(4, 1)
    assert hold_out(planes, earlier=["disc2"]) == (2,)
    chosen = hold_out(planes, seen=["disc0", "disc1", "disc3"])
    assert chosen == (2,)
    assert hold_out(planes, seen=["disc0", "disc1", "disc2", "disc3"]) == ()


def test_a_neighbouring_slice_is_not_the_first_choice():
    planes = drawn_planes(3, 20)
    same = [Plane(f"s{i}", p.image, planes[0].mask if i in (4, 5, 15) else None, "brain") for i, p in enumerate(planes)]
    assert hold_out(same) == (15,)


def test_the_only_image_with_a_class_is_not_held_out():
    planes = list(drawn_planes(4, 1))
    mask = planes[2].mask.copy()
    mask[:5, :5] = 2
    planes[2] = Plane("both classes", planes[2].image, mask)  # the richest, so the first choice otherwise
    assert hold_out(planes) != (2,)
    assert hold_out([Plane(p.name, p.image, np.full_like(mask, i)) for i, p in enumerate(planes[:3])]) != ()


def test_an_empty_image_is_never_held_out_and_does_not_take_a_painted_one_away():
    planes = drawn_planes(3, 1)
    empty = tuple(replace(plane, mask=np.zeros_like(plane.mask)) for plane in planes[1:3])
    assert hold_out((planes[0], *empty)) == ()
    assert hold_out((*empty, *planes[:2])) in ((2,), (3,))


@pytest.mark.parametrize("painted", [range(4, 16), range(24), (3, 4, 5, 6), (2, 9, 16, 23), (5, 6)])
def test_in_one_volume_a_block_is_kept_back_and_half_of_it_teaches(painted):
    planes = stacked(*painted)
    held_out = hold_out(planes)
    resting = neighbours_of(planes, held_out)
    teaching = set(painted) - {*held_out, *resting}
    assert held_out and len(held_out) == max(1, len(painted) // 8)
    assert len(teaching) >= len(painted) / 2
    judged = sorted(held_out)
    assert judged == list(range(judged[0], judged[-1] + 1))
    assert not (teaching & {judged[0] - 1} and teaching & {judged[-1] + 1})  # never between two that teach
    if len(painted) >= 12:
        assert min(abs(i - j) for i in judged for j in teaching) > 3


def test_neighbours_are_never_on_both_sides_where_there_are_other_volumes():
    planes = stacked(*range(10)) + stacked(*range(10), group="other")
    held_out = hold_out(planes)
    teaching = {i for i, plane in enumerate(planes) if plane.mask is not None}
    teaching -= {*held_out, *neighbours_of(planes, held_out)}
    assert len(held_out) == 2 and len(teaching) >= 14
    for i in held_out:
        assert not [j for j in teaching if planes[j].group == planes[i].group and abs(i - j) <= 3]
    alone = [*stacked(*range(6)), *(replace(plane, group="") for plane in stacked(30, 31, first=30, count=2))]
    assert hold_out(alone) == (24,)  # a separate image costs no slice
    assert neighbours_of(alone, (24,)) == ()


def test_the_only_slice_with_a_class_teaches_although_it_is_near():
    planes = stacked(*range(12))
    both = planes[5].mask.copy()
    both[:4, :4] = 2
    planes[5] = replace(planes[5], mask=both)
    assert 5 not in hold_out(planes)
    assert 5 not in neighbours_of(planes, (4,)) and 3 in neighbours_of(planes, (4,))


def test_separate_images_have_no_neighbours():
    planes = [replace(plane, group="") for plane in stacked(*range(12))]
    assert neighbours_of(planes, hold_out(planes)) == ()
