"""Which weights of a run are kept, by the Dice on images held out."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.header import read_header
from napari_semigda.engine.round import Round
from napari_semigda.engine.sampling import ClassTable
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Plane, Settings, TrainRequest
from napari_semigda.engine.validate import Examiner, _Examination, hold_out, neighbours_of
from napari_semigda.engine.view import PlaneReader, View
from tests.engine.conftest import draw_discs, drawn_planes


def test_an_empty_image_is_never_held_out_and_does_not_take_a_painted_one_away():
    planes = drawn_planes(3, 1)
    empty = tuple(replace(plane, mask=np.zeros_like(plane.mask)) for plane in planes[1:3])
    assert hold_out((planes[0], *empty)) == ()
    assert hold_out((*empty, *planes[:2])) in ((2,), (3,))


def stacked(*painted, group="brain", first=0, count=24):
    """Slices of one volume, painted alike on some."""
    picture, mask = draw_discs(0)
    return [Plane(f"{group} {i}", picture, mask if i in painted else None, group) for i in range(first, first + count)]


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


def test_what_rests_beside_a_held_out_slice_teaches_after_the_last_check(tmp_path):
    planes = tuple(stacked(0, 1, 2, 7, 8, count=9))
    out = tmp_path / "m.semigda"
    seen = []

    class Watched(Round):
        def let_held_out_help(self):
            seen.append(list(self.teaching))
            super().let_held_out_help()
            seen.append(list(self.teaching))

    trainer = Trainer()
    trainer.rounds = Watched
    list(trainer.fit(TrainRequest(planes, out, Settings(max_steps=6, crop=64))))
    training = read_header(out)["training"]
    held_out, before, after = training["held_out"], *seen
    assert after == [0, 1, 2, 7, 8] and 0 < len(before) < 4
    assert training["trained_on"] == [f"brain {i}" for i in before] and not {*held_out} & {*training["trained_on"]}


@pytest.fixture
def keep(monkeypatch):
    """Takes the Dice of one examination after the other; returns the number of the one whose weights are kept."""

    def kept(*figures: float, from_start: bool = False) -> tuple[int | None, float | None]:
        planes = drawn_planes(2, 0)
        examiner = Examiner(planes, [1], PlaneReader(planes), View(1.0, 64), ClassTable.of(planes, sparse=False))
        nothing = torch.full((2, *planes[1].size), 0.5)
        monkeypatch.setattr(examiner, "_look", lambda *_: [Belief(nothing, nothing, 0.5)])
        for number, figure in enumerate(figures):
            monkeypatch.setattr(examiner, "_score", lambda *_, figure=figure: _Examination((), ({1: figure},), 0.5))
            weights = SimpleNamespace(v_share=0.5), SimpleNamespace(snapshot=lambda number=number: number)
            if from_start and number == 0:
                monkeypatch.setattr(examiner, "_opinions", lambda *_: {})
                examiner.begin(*weights, [], lambda: True)
            else:
                examiner.examine(*weights)
        return examiner.best, examiner.dice

    return kept


@pytest.mark.parametrize("from_start", [False, True])
def test_weights_that_are_surely_better_are_kept(keep, from_start):
    assert keep(0.9, 0.74, 0.7, from_start=from_start) == (0, 0.9)


@pytest.mark.parametrize("from_start", [False, True])
def test_of_weights_that_may_be_as_good_the_later_ones_are_kept_with_their_own_figure(keep, from_start):
    assert keep(0.9, 0.8, 0.82, from_start=from_start) == (2, 0.82)  # of one image, that is chance


def test_little_by_little_is_no_way_down(keep):
    assert keep(0.8, 0.7, 0.6, 0.5) == (1, 0.7)


def test_an_image_that_cannot_be_judged_keeps_nothing(keep):
    assert keep(math.nan) == (None, None)
