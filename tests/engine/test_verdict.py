"""What the figures of rounds are taken to mean, on invented rounds."""

import math
from dataclasses import replace

import numpy as np
import pytest

from napari_semigda.engine.findings import Findings, Opinion, Opinions, Painted, think
from napari_semigda.engine.metrics import Score, as_good, interval, surely_worse
from napari_semigda.engine.suspects import suspects
from napari_semigda.engine.verdict import Change, Trained, course, judge, refused
from napari_semigda.engine.wording import sentences

NAMES = {1: "nucleus", 2: "vessel", 3: "gland"}
ENOUGH = {1: Painted(9000, 8), 2: Painted(8000, 8), 3: Painted(7000, 8)}


def scores(*images, border=2.0):
    """Scores of images "a", "b", ...: a Dice for each class."""
    return {chr(97 + i): {c: Score(d, d, border) for c, d in enumerate(dice, 1)} for i, dice in enumerate(images)}


def trained(number, *images, before=None, labelled=0, painted=None, opinions=None, kept_before=False):
    findings = Findings(
        scores(*images), scores(*before) if before else {}, ENOUGH if painted is None else painted, opinions or {}
    )
    return Trained(number, findings, labelled or 4 * number, number - 1 or None, kept_before)


def said(*rounds):
    return " ".join(sentences(judge(rounds), NAMES))


# -- how sure a figure is


def test_one_image_has_no_interval_and_that_is_said():
    verdict = judge([trained(1, (0.9, 0.9))])
    assert verdict.dice.mean == pytest.approx(0.9)
    assert verdict.dice.ends is None and verdict.dice.spread is None
    assert said(trained(1, (0.9, 0.9))) == (
        "Round 1: held-out Dice 0.90 on 1 image (one alone cannot say how sure that is)."
    )


def test_a_few_images_have_a_spread_and_five_an_interval():
    few = judge([trained(1, (0.7,), (0.9,), (0.8,))])
    assert (few.dice.ends, few.dice.spread) == (None, (0.7, 0.9))
    assert "on 3 images (0.70–0.90; too few" in said(trained(1, (0.7,), (0.9,), (0.8,)))
    enough = judge([trained(1, (0.7,), (0.9,), (0.8,), (0.85,), (0.75,))])
    low, high = enough.dice.ends
    assert 0.7 <= low < 0.76 and 0.84 < high <= 0.9
    assert "(95 % sure: 0.7" in said(trained(1, (0.7,), (0.9,), (0.8,), (0.85,), (0.75,)))


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says():
    drawn = np.random.default_rng(1).beta(18, 3, (150, 6))
    ends = [interval(figures) for figures in drawn]
    assert 0.86 < np.mean([low <= 18 / 21 <= high for low, high in ends]) <= 1


def test_classes_that_are_missing_count_for_nothing():
    nan = math.nan
    figures = np.array([[0.8, nan], [0.9, nan], [0.7, 0.6], [0.8, nan], [0.8, nan], [nan, nan]])
    low, high = interval(figures)  # of five images
    assert low < 0.7 + 0.05 and high > 0.75
    assert interval(figures[:, 1]) is None
    verdict = judge([trained(1, (0.8, nan), (0.6, nan))])
    assert [each.dice.images for each in verdict.classes] == [2, 0]
    assert "No image kept back shows “vessel”" in said(trained(1, (0.8, nan), (0.6, nan)))


# -- against the round before


def test_the_change_is_of_the_very_same_images():
    first = trained(1, (0.5,), (0.9,))
    second = Trained(2, Findings({"b": {1: Score(0.95)}, "z": {1: Score(0.2)}}, painted=ENOUGH), 8, 1)
    verdict = judge([first, second])
    assert verdict.difference.mean == pytest.approx(0.05)
    assert (verdict.change, verdict.before) == (Change.BETTER, pytest.approx(0.9))
    other = Trained(2, Findings({"z": {1: Score(0.2)}}, painted=ENOUGH), 8, 1)
    assert judge([first, other]).change is Change.UNKNOWN
    assert [point.goes_on for point in course([first, second, other])] == [False, True, True]
    assert not course([first, other])[1].goes_on


def test_what_the_starting_weights_make_of_the_masks_of_today_is_the_fairer_comparison():
    corrected = trained(2, (0.85,), before=[(0.7,)])  # the mask kept back was painted anew
    assert judge([trained(1, (0.9,)), corrected]).change is Change.BETTER


def test_a_gain_that_may_be_chance_is_no_gain():
    before = [(0.8,), (0.8,), (0.8,), (0.8,), (0.8,)]
    sure = trained(2, (0.84,), (0.85,), (0.83,), (0.86,), (0.84,), before=before)
    lucky = trained(2, (0.99,), (0.75,), (0.76,), (0.78,), (0.88,), before=before)
    assert judge([sure]).difference.mean > judge([lucky]).difference.mean > 0.005
    assert judge([sure]).change is Change.BETTER
    assert judge([lucky]).change is Change.SAME
    assert "better by 0.04 (95 % sure: 0.0" in said(sure)
    assert "no clear change from 0.80" in said(lucky)


def test_a_worse_round_says_which_one_stays():
    kept = trained(3, (0.67,), before=[(0.87,)], kept_before=True)
    assert refused(kept.findings)
    assert said(kept).startswith("This round is not better (Dice 0.67 after 0.87): keeping round 2. ")


def test_new_masks_are_not_refused_for_what_one_image_says():
    fell = trained(3, (0.81,), before=[(0.90,)])
    assert not refused(fell.findings) and refused(trained(3, *9 * [(0.81,)], before=9 * [(0.90,)]).findings)
    text = said(fell)
    assert text.startswith("This round is not better (Dice 0.81 after 0.90): used all the same, for it knows your ")
    assert "With 1 image kept back it may be chance." in text
    assert [surely_worse(images) for images in (0, 1, 4, 10_000)] == [0.15, 0.15, 0.075, 0.005]


def test_what_one_image_says_may_be_chance_and_what_many_say_is_believed():
    alone, many = (said(trained(3, *n * [(0.85,)], before=n * [(0.87,)])) for n in (1, 9))
    assert "no clear change from 0.87" in alone and "not better (Dice 0.85 after 0.87)" in many
    assert [as_good(images) for images in (0, 1, 4, 10_000)] == [0.03, 0.03, 0.015, 0.005]


# -- classes


def test_classes_that_stopped_improving_and_the_one_that_is_behind():
    rounds = [
        trained(1, (0.80, 0.70, 0.40), labelled=4),
        trained(2, (0.90, 0.88, 0.50), labelled=12),
        trained(3, (0.905, 0.88, 0.58), labelled=16),
        trained(4, (0.90, 0.885, 0.65), labelled=20),
    ]
    text = said(*rounds)
    assert "“nucleus” and “vessel” stopped improving after 12 images." in text
    assert "Label more of “gland”: it is behind (0.65)." in text
    assert "stopped" not in said(*rounds[:3])  # one round without a gain may be chance


@pytest.mark.parametrize(("first", "now", "outgrown"), [(4, 7, False), (4, 8, True), (1, 4, False), (0, 90, False)])
def test_weights_that_began_with_few_masks_are_outgrown(first, now, outgrown):
    begun = trained(1, (0.8,), labelled=now)
    assert "from the start" not in said(begun)
    corrected = trained(2, (0.85,), labelled=now)
    corrected = replace(corrected, findings=replace(corrected.findings, began_with=first))
    told = f"It began with {first} painted images and has {now} now: a longer training from the start may do better."
    assert said(begun, corrected).endswith(told) == outgrown
    assert ("from the start" in said(begun, corrected)) == outgrown


def test_nothing_stopped_where_no_more_was_labelled():
    assert "stopped" not in said(*(trained(n, (0.9, 0.9), labelled=4) for n in (1, 2, 3, 4)))


def test_a_class_that_more_labels_do_not_help():
    rounds = [trained(n, (0.5 + n / 10, 0.5)) for n in (1, 2, 3, 4)]
    assert "“vessel” is behind although more was labelled" in said(*rounds)


# -- why it is worse


@pytest.mark.parametrize(
    ("paint", "why"),
    [
        (Painted(120, 3), "only 120 pixels of it are painted, on 3 images"),
        (Painted(900, 8), "it is only 1.5% of what is painted"),
        (Painted(30000, 2), "it is painted on 2 images only"),
        (Painted(30000, 8), "Nothing in the masks explains it. With 1 image kept back it may be chance."),
    ],
)
def test_a_class_with_too_little_paint_is_named(paint, why):
    painted = {1: Painted(60000, 8), 2: paint}
    text = said(trained(2, (0.9, 0.6), before=[(0.9, 0.8)], painted=painted, kept_before=True))
    assert why in text
    assert ("“vessel” fell by 0.20" in text) is ("Nothing" not in why)


def opinions(**dice):
    """Images by name: (now, before), before None where it was known already."""
    return {
        name: Opinions(Opinion(now), None if before is None else Opinion(before))
        for name, (now, before) in dice.items()
    }


def test_masks_that_agree_with_no_model_are_named_after_a_worse_round_only():
    usual = opinions(p=(0.9, None), q=(0.92, None), r=(0.88, 0.8), hard=(0.85, 0.4), odd=(0.3, 0.35))
    found = suspects(Findings(opinions=usual), worse=True)
    assert [each.image for each in found] == ["odd"]
    assert suspects(Findings(opinions=usual), worse=False) == ()
    assert suspects(Findings(opinions=opinions(p=(0.9, None), odd=(0.3, 0.3))), worse=True) == ()  # what is usual?
    text = said(trained(2, (0.8,), before=[(0.9,)], opinions=usual, kept_before=True))
    assert "odd looks contradictory" in text and "Nothing in the masks" not in text


def test_swapped_classes_are_named_after_any_round():
    swap = Opinion(0.1, (1, 2), 0.7, 0.8)
    learnt_by_heart = Opinions(Opinion(0.9), swap)  # the earlier model never saw the image
    text = said(trained(2, (0.9,), before=[(0.8,)], opinions={"x": learnt_by_heart}))
    assert "x looks contradictory: “nucleus” and “vessel” seem swapped there." in text
    unsure = Opinions(Opinion(0.4, (1, 2), 0.1, 0.3))
    assert suspects(Findings(opinions={"x": unsure}), worse=True) == ()


def test_thinking_tells_swapped_from_bad():
    truth = np.zeros((20, 20), np.uint8)
    truth[2:9, 2:18], truth[11:18, 2:18] = 1, 2
    assert think(truth, truth, [0, 1, 2]) == Opinion(1.0)
    swapped = think(truth, np.array([0, 2, 1], np.uint8)[truth], [0, 1, 2])
    assert swapped == Opinion(0.0, (1, 2), 1.0, 1.0)
    inverted = think((truth == 1).astype(np.uint8), (truth != 1).astype(np.uint8), [0, 1])
    assert inverted == Opinion(0.0, (0, 1), 1.0, 1.0)
    bad = think(np.roll(truth, 4, 0), truth, [0, 1, 2])
    assert bad.dice < 0.6 and bad.gain < 0.25
    scribble = np.where(np.arange(20)[:, None] % 3, 0, truth + 1).astype(np.uint8)
    assert think(truth + 1, scribble, [1, 2, 3], ignore=0) == Opinion(1.0)


# -- kept


def test_findings_survive_json_and_strangers_are_refused():
    kept = Findings(
        {"a": {1: Score(0.9, 0.8, math.nan)}},
        {"a": {1: Score(0.7, 0.6, 3.5)}},
        {1: Painted(90, 2)},
        {"b": Opinions(Opinion(0.1, (0, 1), 0.5, 0.6), None), "c": Opinions(None, Opinion(0.5))},
        kept_start=True,
        began_with=4,
    )
    again = Findings.from_json(kept.to_json())
    assert replace(again, scores={}) == replace(kept, scores={})
    assert again.scores["a"][1].dice == 0.9 and math.isnan(again.scores["a"][1].hausdorff)
    assert Findings.from_json({}) == Findings()
    for wrong in (
        None,
        {"scores": 3},
        {"scores": {"a": {"1": [1, 2]}}},
        {"painted": {"x": [1, 2]}},
        {"opinions": [1]},
        {"began_with": "x"},
    ):
        with pytest.raises(ValueError, match="damaged"):
            Findings.from_json(wrong)
