"""Scores against figures worked out by hand, and the rules for classes that are missing."""

import math
import subprocess
import sys

import numpy as np
import pytest

from napari_semigda.engine.metrics import Score, average, dice, mean_foreground, score, summarise
from napari_semigda.engine.types import EngineError


def box(shape, top, left, height, width, class_id=1):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + height, left : left + width] = class_id
    return mask


def test_half_overlap_by_hand():
    truth = box((20, 20), 5, 5, 4, 8)
    prediction = box((20, 20), 5, 9, 4, 8)  # moved right by half its width
    got = score(prediction, truth, [1])[1]
    assert got.dice == pytest.approx(0.5)
    assert got.iou == pytest.approx(1 / 3)
    assert dice(prediction, truth, [1]) == {1: pytest.approx(0.5)}


def test_perfect_mask():
    truth = box((20, 20), 5, 5, 4, 8, class_id=255)
    assert score(truth, truth, [255]) == {255: Score(1.0, 1.0, 0.0)}


def test_hausdorff_is_in_pixels_or_in_the_spacing():
    truth = box((40, 40), 10, 10, 1, 10)
    prediction = box((40, 40), 13, 10, 1, 10)  # three rows below
    assert score(prediction, truth, [1])[1].hausdorff == pytest.approx(3)
    assert score(prediction, truth, [1], spacing=(0.5, 7))[1].hausdorff == pytest.approx(1.5)


def test_hausdorff_leaves_out_the_worst_twentieth():
    truth = np.zeros((200, 200), np.uint8)
    truth[100, 20:180] = 1
    prediction = truth.copy()
    prediction[3, 3] = 1  # one stray pixel, far away
    assert score(prediction, truth, [1])[1].hausdorff < 2


def test_missing_classes():
    truth = box((16, 16), 2, 2, 4, 4, class_id=1)
    prediction = box((16, 16), 9, 9, 4, 4, class_id=2)
    got = score(prediction, truth, [1, 2, 3])
    for class_id in (1, 2):
        assert (got[class_id].dice, got[class_id].iou) == (0, 0)
        assert math.isnan(got[class_id].hausdorff)
    assert all(math.isnan(value) for value in vars(got[3]).values())
    quick = dice(prediction, truth, [1, 2, 3])
    assert quick[1] == quick[2] == 0 and math.isnan(quick[3])


def test_ignored_pixels_count_for_nothing():
    truth = np.zeros((8, 8), np.uint8)  # 0: nobody looked here
    truth[:4], truth[4:6] = 1, 2
    prediction = np.where(truth == 0, 1, truth).astype(np.uint8)  # wrong only where nobody looked
    assert score(prediction, truth, [1, 2], ignore=0) == {1: Score(1, 1, 0), 2: Score(1, 1, 0)}
    assert score(prediction, truth, [1])[1].dice < 1
    assert dice(prediction, truth, [1], ignore=0) == {1: 1.0}


def test_shapes_must_agree():
    with pytest.raises(EngineError, match=r"\(4, 5\).*\(5, 4\)"):
        score(np.zeros((4, 5)), np.zeros((5, 4)), [1])


def test_average_counts_what_is_there():
    got = average([1.0, math.nan, 0.0])
    assert (got.mean, got.images) == (0.5, 2)
    assert got.sd == pytest.approx(math.sqrt(0.5))
    assert math.isnan(average([math.nan]).mean) and math.isnan(average([0.3]).sd)


def test_summary_a_class_and_overall():
    by_class, foreground = summarise(
        [{0: Score(0.1, 0.1, 9.0), 1: Score(0.8, 0.7, 2.0), 2: Score(0.4, 0.3, 4.0)}, {1: Score(0.6, 0.5), 2: Score()}]
    )
    assert by_class[1].dice.mean == pytest.approx(0.7) and by_class[1].dice.images == 2
    assert by_class[2].dice.mean == pytest.approx(0.4) and by_class[2].dice.images == 1
    assert by_class[1].hausdorff.images == 1
    # Background does not count; the first image weighs (0.8 + 0.4) / 2, the second 0.6.
    assert foreground.dice.mean == pytest.approx(0.6) and foreground.dice.images == 2
    assert math.isnan(mean_foreground({0: 1.0, 1: math.nan}))


def test_importing_it_loads_neither_torch_nor_monai():
    code = "import sys, napari_semigda.engine.metrics; assert not {'torch', 'monai'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
