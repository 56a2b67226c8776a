"""Which weights of a run are kept, by the Dice on images held out."""

import math
from types import SimpleNamespace

import pytest
import torch

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.examiner import Examiner, _Examination
from napari_semigda.engine.header import read_header
from napari_semigda.engine.round import Round
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Settings, TrainRequest
from napari_semigda.engine.view import PlaneReader, View
from tests.engine.conftest import drawn_planes, stacked


def test_what_rests_beside_a_held_out_slice_teaches_after_the_last_check(tmp_path):
    planes = tuple(stacked(0, 1, 2, 7, 8, count=9))
    out = tmp_path / "m.semigda"
    seen = []

    class Watched(Round):
        def let_held_out_help(self):
            seen.append(list(self.lessons.teaching))
            super().let_held_out_help()
            seen.append(list(self.lessons.teaching))

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
        return examiner.kept_weights, examiner.dice

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
