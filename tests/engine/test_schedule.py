"""The clock of a run on a clock that tests can turn, and the end of a run that has none."""

import pytest

from napari_semigda.engine import schedule
from napari_semigda.engine.schedule import HOLD, Clock, OpenEnd
from napari_semigda.engine.types import Settings


class Hands:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def hands(monkeypatch):
    hands = Hands()
    monkeypatch.setitem(schedule.READ, "wall", hands)
    return hands


def run(clock, hands, figures, step=2.0):
    """Steps of two seconds; checks say what `figures` make of the time. Returns fractions and seconds."""
    while (fraction := clock.fraction()) < 1:
        if clock.ask_whether_it_improves():
            clock.note(figures(clock.elapsed))
        clock.begin_step(fraction)
        hands.now += step
    return clock.passed, clock.elapsed


def test_minutes_are_counted_from_the_start(hands):
    clock = Clock(Settings(minutes=1))
    hands.now += 15
    assert (clock.fraction(), clock.remaining(), clock.at_most) == (0.25, 45, False)
    clock.seconds = 30
    assert (clock.fraction(), clock.remaining()) == (0.5, 15)
    assert not clock.ask_whether_it_improves()


def test_an_open_end_comes_soon_when_nothing_improves(hands):
    clock = Clock(Settings(minutes=60, until_best=True))
    fractions, seconds = run(clock, hands, lambda _: 0.8)
    assert seconds == pytest.approx(OpenEnd.least * 3600, rel=0.05)
    assert fractions == sorted(fractions)
    assert fractions.count(HOLD) > 50
    assert len(clock.checked) == 5


def test_an_open_end_waits_as_long_as_it_pays(hands):
    clock = Clock(Settings(minutes=60, until_best=True))
    _, seconds = run(clock, hands, lambda elapsed: min(elapsed, 1200) / 2000)
    assert 1200 < seconds < 1200 * 1.125**5 * 1.25 + 4


def test_gains_too_small_to_see_do_not_count(hands):
    _, seconds = run(Clock(Settings(minutes=60, until_best=True)), hands, lambda elapsed: 0.8 + elapsed / 1e6)
    assert seconds < 420


def test_an_open_end_is_no_later_than_the_most(hands):
    clock = Clock(Settings(minutes=10, until_best=True))
    assert (clock.remaining(), clock.at_most) == (600, True)
    fractions, seconds = run(clock, hands, lambda elapsed: elapsed)
    assert seconds == pytest.approx(600, abs=2)
    assert fractions[-1] > 0.98  # cooled down nevertheless
    assert not clock.at_most


def test_once_it_cools_down_the_end_is_known(hands):
    clock = Clock(Settings(minutes=60, until_best=True))
    said = []
    while (fraction := clock.fraction()) < 1:
        if clock.ask_whether_it_improves():
            clock.note(0.5)
        if not clock.at_most:
            said.append(clock.elapsed + clock.remaining())
        clock.begin_step(fraction)
        hands.now += 2
    assert said == pytest.approx([clock.elapsed] * len(said), abs=2)
    assert len(said) > 20


def test_a_replay_goes_the_same_way_whatever_the_clock_says(hands):
    first = Clock(Settings(minutes=5, until_best=True))
    fractions, _ = run(first, hands, lambda _: 0.8)
    again = Clock(Settings(minutes=1))
    again.replay(fractions, first.checked)
    noted = []
    assert run(again, hands, noted.append, step=77.0)[0] == fractions
    assert again.checked == first.checked
    assert len(noted) == len(first.checked)


def test_an_open_end_can_be_counted_in_steps():
    clock = Clock(Settings(max_steps=1000, until_best=True))
    fractions, _ = run(clock, Hands(), lambda _: 0.8)
    assert len(fractions) == pytest.approx(1000 * OpenEnd.least, abs=15)
