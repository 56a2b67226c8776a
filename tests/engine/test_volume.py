"""Slices of one volume are averaged with their neighbours, and nothing else is; memory is bounded by the width."""

import numpy as np
import pytest

from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.types import EngineError, Plane
from napari_semigda.engine.volume import MOST_BYTES, smoothed, weights
from tests.fake_engine import FakePredictor


class Fake(FakePredictor):
    """Thresholds; remembers which planes it saw."""

    def __init__(self):
        self.classes, self.seen = {0: "background", 1: "bright"}, []

    def see(self, plane):
        self.seen.append(plane.name)
        if "broken" in plane.name:
            raise EngineError(f"{plane.name} is broken: copy it again.")
        return super().see(plane)

    def predict(self, plane, index=0, probabilities=False):
        return self.decide(self.see(plane), plane, index, probabilities)


def picture(bright, size=(8, 10)):
    """Bright on the left or on the right."""
    pixels = np.full(size, 10, np.uint8)
    pixels[:, : size[1] // 2] = 200
    return pixels if bright == "left" else pixels[:, ::-1]


def volume(*sides, **told):
    told = {"volume": "scan", "depth": 1.0} | told
    return [Plane(f"slice {i}", picture(side), group="scan", **told) for i, side in enumerate(sides)]


def masks_of(planes, width, order=None):
    predictor = smoothed(Fake(), planes, width)
    return {i: predictor.predict(planes[i], i).mask for i in order or range(len(planes))}


STEADY = ("left",) * 3
FLICKER = (*STEADY, "right", *STEADY)


def test_a_slice_counts_most_and_neighbours_the_less_the_further_they_are():
    for sigma in (0.3, 0.5, 1.0, 1.5, 4.0):
        share = weights(sigma)
        middle = len(share) // 2
        assert share.sum() == pytest.approx(1) and middle == round(2 * sigma)
        np.testing.assert_allclose(share, share[::-1])
        assert (np.diff(share[: middle + 1]) > 0).all()
        assert share[middle - 1] / share[middle] == pytest.approx(np.exp(-0.5 / sigma**2))
    assert weights(0.24).tolist() == [1.0]


def test_a_slice_that_jumps_is_brought_into_line():
    planes = volume(*FLICKER)
    left = picture("left") > 100
    assert (masks_of(planes, 0)[3] != left).all()
    for i, mask in masks_of(planes, 1.0).items():
        np.testing.assert_array_equal(mask, left, err_msg=f"slice {i}")


@pytest.mark.parametrize(
    ("width", "depth", "steadied"),
    [(1.0, None, True), (1.0, 0.5, True), (1.0, 5.0, False), (5.0, 5.0, True), (0.5, 1.0, False), (0.2, 1.0, False)],
)
def test_the_width_is_a_length(width, depth, steadied):
    """In slices where their distance is not known; slices that are further apart are left alone."""
    planes = volume(*FLICKER, depth=depth)
    assert (masks_of(planes, width)[3] == (picture("left") > 100)).all() == steadied


@pytest.mark.parametrize("width", [0.0, 0.2])
def test_where_nothing_is_smoothed_the_model_predicts_by_itself(width):
    fake = Fake()
    assert smoothed(fake, volume(*FLICKER), width) is fake
    assert smoothed(fake, volume(*FLICKER, volume=""), 2.0) is fake
    assert smoothed(fake, volume("left"), 2.0) is fake


def test_only_slices_of_the_same_volume_and_size_are_neighbours():
    first, second = volume(*["left"] * 3, volume="a"), volume(*["right"] * 3, volume="b")
    alone = [Plane("a photograph", picture("right")), Plane("small", picture("right", (4, 6)), volume="a")]
    planes = [*first, *alone, *second]
    for i, mask in masks_of(planes, 1.5).items():
        np.testing.assert_array_equal(mask, planes[i].image > 100, err_msg=planes[i].name)


def test_a_slice_that_cannot_be_read_is_told_and_the_others_do_without_it():
    planes = volume(*["left"] * 6)
    planes[2] = Plane("broken", picture("right"), volume="scan", depth=1.0)
    predictor = smoothed(Fake(), planes, 1.0)
    by_itself = Fake().predict(planes[0], probabilities=True).probabilities
    for i in (0, 1, 3, 4, 5):
        found = predictor.predict(planes[i], i, probabilities=True)
        np.testing.assert_allclose(found.probabilities, by_itself, atol=1e-6)
    with pytest.raises(EngineError, match="broken"):
        predictor.predict(planes[2], 2)


@pytest.mark.parametrize("order", ["ascending", "outwards", "from the end"])
def test_every_slice_is_seen_once_and_few_are_kept(order):
    planes, fake, reach = volume(*["left"] * 40), Fake(), 3
    view = {"ascending": 0, "outwards": 17, "from the end": 39}[order]
    predictor, most = smoothed(fake, planes, 1.5), 0
    for i in sorted(range(40), key=lambda i: (abs(i - view), i)):
        predictor.predict(planes[i], i)
        most = max(most, len(predictor._seen))
    assert sorted(fake.seen) == sorted(plane.name for plane in planes)
    assert most <= 2 * (2 * reach + 1)


def test_a_jump_of_the_view_costs_time_and_no_more():
    planes = volume(*["left"] * 30)
    order = [3, 4, 20, 19, 21, 5, 2, 29, 0]
    for i, mask in masks_of(planes, 1.5, order).items():
        np.testing.assert_array_equal(mask, picture("left") > 100, err_msg=f"slice {i}")


def test_mask_probabilities_and_doubt_are_of_the_same_smoothed_beliefs(tiny_run):
    predictor = Predictor(tiny_run[2], "cpu")
    images = [plane.image for plane in tiny_run[0].planes[:4]]  # discs in other places: neighbours that disagree
    planes = [Plane(f"slice {i}", image, volume="scan", depth=2.0) for i, image in enumerate(images)]
    found = smoothed(predictor, planes, 2.0).predict(planes[1], 1, probabilities=True)
    share = weights(1.0)[[1, 2, 3, 4]]  # of slices 0 to 3 around slice 1; there is none before the first
    beliefs = [predictor.see(plane).belief for plane in planes]
    v, c = (sum(w * b[branch] for w, b in zip(share, beliefs, strict=True)) / share.sum() for branch in (0, 1))
    assert tuple(v.shape[1:]) == images[1].shape  # read at full size, so there is no resizing to repeat here
    likely = c + beliefs[0].v_share * (v - c)
    np.testing.assert_allclose(found.probabilities, likely, atol=1e-5)
    np.testing.assert_array_equal(found.mask, likely.argmax(0))
    np.testing.assert_allclose(found.doubt, 1 - (likely[0] - likely[1]).abs(), atol=1e-5)
    plain = predictor.predict(planes[1], probabilities=True)
    assert np.abs(plain.probabilities - found.probabilities).max() > 0.1


@pytest.mark.parametrize("width", [-1.0, float("nan"), float("inf")])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(EngineError, match=r"width .* 0 \(off\) or more"):
        smoothed(Fake(), volume(*FLICKER), width)


def test_too_much_at_once_is_refused_before_anything_is_seen(monkeypatch):
    fake = Fake()
    with pytest.raises(EngineError, match="would mix 41 slices"):
        smoothed(fake, volume(*FLICKER, depth=0.1), 1.0)
    with pytest.raises(EngineError, match="whether the file tells its distance"):
        smoothed(fake, volume(*FLICKER, depth=float("nan")), 1.0)
    monkeypatch.setattr(FakePredictor, "bytes_seen", lambda self, plane: MOST_BYTES // 9)
    smoothed(fake, volume(*FLICKER), 0.5)  # three slices, in turns on both sides of the one in view: six
    with pytest.raises(EngineError, match=r"slice 2 is too large \(8 x 10 pixels\) to be smoothed"):
        smoothed(fake, volume(*FLICKER), 1.0)
    monkeypatch.setattr(FakePredictor, "fits", lambda self, plane: False)
    with pytest.raises(EngineError, match="leave that out"):
        smoothed(fake, volume(*FLICKER), 0.5)
    assert not fake.seen
