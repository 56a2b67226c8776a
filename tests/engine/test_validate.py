"""Which weights of a run are kept, by the Dice on images held out."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.sampling import ClassTable
from napari_semigda.engine.validate import Examiner, _Examination, hold_out
from napari_semigda.engine.view import PlaneReader, View
from tests.engine.conftest import drawn_planes


def test_an_empty_image_is_never_held_out_and_does_not_take_a_painted_one_away():
    planes = drawn_planes(3, 1)
    empty = tuple(replace(plane, mask=np.zeros_like(plane.mask)) for plane in planes[1:3])
    assert hold_out((planes[0], *empty)) == ()
    assert hold_out((*empty, *planes[:2])) in ((2,), (3,))


@pytest.fixture
def keep(monkeypatch):
    """Takes the Dice of one examination after the other; returns the number of the one whose weights are kept."""

    def kept(*figures: float) -> tuple[int | None, float | None]:
        planes = drawn_planes(2, 0)
        examiner = Examiner(planes, [1], PlaneReader(planes), View(1.0, 64), ClassTable.of(planes, sparse=False))
        nothing = torch.full((2, *planes[1].size), 0.5)
        monkeypatch.setattr(examiner, "_look", lambda *_: [Belief(nothing, nothing, 0.5)])
        for number, figure in enumerate(figures):
            monkeypatch.setattr(examiner, "_score", lambda *_, figure=figure: _Examination((), ({1: figure},), 0.5))
            examiner.examine(SimpleNamespace(v_share=0.5), SimpleNamespace(snapshot=lambda number=number: number))
        return examiner.best, examiner.dice

    return kept


def test_the_best_weights_are_kept(keep):
    assert keep(0.5, 0.8, 0.7) == (1, 0.8)


def test_of_weights_that_are_as_good_the_later_ones_are_kept_with_their_own_figure(keep):
    assert keep(0.8, 0.797) == (1, 0.797)


def test_little_by_little_is_no_way_down(keep):
    assert keep(0.8, 0.797, 0.794, 0.791) == (1, 0.797)


def test_an_image_that_cannot_be_judged_keeps_nothing(keep):
    assert keep(math.nan) == (None, None)
