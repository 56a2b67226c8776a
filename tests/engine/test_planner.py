"""What a run takes on, from nothing but measured seconds."""

from dataclasses import asdict

import pytest

from napari_semigda.engine.planner import (
    BATCH,
    LEAST_STEPS,
    Pace,
    Plan,
    choose_size,
    chosen_time,
    make_plan,
    mended,
    tail_seconds,
    training_seconds,
    whole_seconds,
)
from napari_semigda.engine.types import EngineError, Settings

CROP = 192


def plan(step, minutes=5.0, measured=None, **more):
    """A plan on a machine where a step of `BATCH` crops takes `step` seconds."""

    def measure(batch):
        if measured is not None:
            measured.append(batch)
        return Pace(step * batch / BATCH, 1.0)

    settings = {name: more.pop(name) for name in ("crop", "batch", "max_steps") if name in more}
    seconds = 60 * minutes
    return make_plan(Settings(minutes=minutes, **settings), CROP, measure, lambda _: seconds, **more)


@pytest.mark.parametrize(
    ("step", "minutes", "crop", "batch"),
    [
        (0.3, 1, 192, 2),  # two ordinary cores, from Quick ...
        (0.65, 1, 192, 2),  # ... to the same shared with another program ...
        (0.3, 20, 192, 2),  # ... to Thorough
        (1.5, 1, 192, 1),  # slow
        (5.0, 1, 128, 1),  # very slow
        (5.0, 5, 192, 2),  # the same with time enough
        (0.01, 0.2, 192, 2),  # a graphics card for a correction: more steps first
        (0.01, 1, 192, 8),
        (0.01, 20, 192, 16),  # larger steps once there are more than enough of them
    ],
)
def test_the_size_suits_the_machine_and_the_time(step, minutes, crop, batch):
    assert choose_size(Pace(step, 1.0), 60 * minutes, 192, 2) == (crop, batch)


def test_what_is_fixed_stays():
    assert choose_size(Pace(5, 1), 60, 192, 2, crop_free=False) == (192, 1)
    assert choose_size(Pace(5, 1), 60, 192, 2, batch_free=False) == (128, 2)
    assert choose_size(Pace(0.001, 1), 600, 192, 2, batch_free=False) == (192, 2)
    assert choose_size(Pace(9, 1), 9, 96, 1) == (96, 1)  # small as can be
    fixed = plan(5.0, 1, crop=192, batch=2)
    assert (fixed.crop, fixed.batch) == (192, 2)


def test_a_graphics_card_is_not_filled_up():
    assert choose_size(Pace(0.01, 1, room=2.5), 1200, 192, 2) == (192, 4)
    assert choose_size(Pace(0.01, 1, room=0.5), 1200, 192, 2) == (192, 2)


def test_a_correction_makes_do_with_few_steps():
    assert choose_size(Pace(0.6, 1), 12, 192, 2) == (128, 1)
    assert choose_size(Pace(0.6, 1), 12, 192, 2, correction=True) == (192, 2)


def test_unlabelled_images_come_in_when_there_are_steps_enough():
    assert plan(0.5, 5).unlabelled
    assert not plan(1.0, 1).unlabelled
    assert plan(9.0, max_steps=LEAST_STEPS).unlabelled
    assert not plan(9.0, max_steps=LEAST_STEPS - 1).unlabelled


def test_halfway_the_steps_themselves_say_whether_there_are_enough():
    unlucky, lucky = plan(1.2, 2), plan(0.2, 2)  # 90 and 540 steps expected, and none measured right
    assert (unlucky.unlabelled, mended(unlucky, 0.2).unlabelled) == (False, True)
    assert (lucky.unlabelled, mended(lucky, 0.6).unlabelled) == (True, False)
    assert mended(unlucky, 0.2).steps == unlucky.steps  # the rate of learning has hung on them from the start
    corrected = plan(99.0, 0.4, correction=True, before=mended(unlucky, 0.2))
    assert corrected.steps == plan(0.2, 0.4).steps
    by_number = plan(1.0, max_steps=LEAST_STEPS)
    assert mended(by_number, 9.0) is by_number
    assert mended(unlucky, None) is unlucky


def test_the_expected_steps_are_those_of_the_chosen_size():
    slow = plan(1.8, 1)
    assert slow.crop == CROP * 2 / 3
    assert slow.step_seconds == pytest.approx(0.8)
    assert slow.steps == pytest.approx(60 / 0.8, rel=0.15)


def test_steps_given_by_number_need_no_measuring():
    measured = []
    assert plan(1.0, measured=measured, max_steps=7) == Plan(CROP, BATCH, 7)
    assert measured == []


def test_a_correction_on_the_same_machine_believes_the_model():
    measured, first = [], plan(0.02, 20)
    again = plan(99.0, 4, measured=measured, correction=True, before=first)
    assert measured == []
    assert (again.batch, again.crop, again.step_seconds) == (first.batch, first.crop, first.step_seconds)
    elsewhere = plan(1.0, 4, measured=measured, correction=True)
    assert measured == [BATCH]
    assert elsewhere.batch == BATCH


@pytest.mark.parametrize(
    ("chosen", "minutes", "until_best"),
    [
        ({"time": None}, 5, False),
        ({"time": "quick"}, 1, False),
        ({"time": "standard"}, 5, False),
        ({"time": "thorough"}, 20, False),
        ({"time": "best"}, 60, True),
        ({"time": None, "minutes": 3}, 3, False),
        ({"time": "best", "minutes": 30}, 30, True),
        ({"time": "quick", "correction": True}, 0.2, False),
        ({"time": None, "correction": True}, 1, False),
        ({"time": "best", "correction": True}, 12, True),
        ({"time": None, "minutes": 3, "correction": True}, 3, False),
    ],
)
def test_a_word_means_minutes_and_a_correction_costs_a_fifth(chosen, minutes, until_best):
    assert chosen_time(**chosen) == {"minutes": pytest.approx(minutes), "until_best": until_best}


def test_a_word_and_minutes_contradict_each_other():
    with pytest.raises(EngineError, match=r"as quick and as 3 minutes: choose one"):
        chosen_time("quick", 3.0)


def test_the_masks_are_part_of_the_time_but_never_most_of_it():
    few = tail_seconds(Pace(1.0, 2.0), checked=0.5, predicted=1.0)
    assert few == pytest.approx(0.5 + 1.0 + 0.5 + 2.0)
    assert whole_seconds(1.0, few) == 60
    assert training_seconds(1.0, few) == 60 - few
    assert training_seconds(1.0, 300.0) == 45
    assert whole_seconds(1.0, 300.0) == 345
    assert training_seconds(0.2, 1.0, started=2.0) == 11  # twelve seconds and one of them for the masks
    assert training_seconds(0.2, 1.0, started=40.0) == 46  # a machine that needs longer than that to get ready


def test_a_plan_survives_the_model_file_and_nonsense_is_refused():
    made = Plan(CROP, steps=2, fractions=(0.0, 0.5), checks=(1,))
    header = {"plan": asdict(made) | {"fractions": [0.0, 0.5], "checks": [1], "of a later version": 1}}
    assert Plan.of(header, "m.semigda") == made
    for bad in ({}, {"plan": 3}, {"plan": {"fractions": [0]}}, {"plan": asdict(made) | {"batch": 0}}):
        with pytest.raises(EngineError, match=r"m\.semigda does not say how"):
            Plan.of(bad, "m.semigda")
