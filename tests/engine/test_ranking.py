"""Which image comes next: on made-up doubt, masks and pictures."""

import numpy as np
import pytest

from napari_semigda.engine.ranking import describe, doubt_score, doubtful_regions, suggest


def disc(size, row, column, radius):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def branches(size, shift):
    """Doubt and mask of two branches whose discs are `shift` pixels apart, both sure of themselves."""
    v, c = disc(size, 50, 50, 20), disc(size, 50, 50 + shift, 20)
    return (v ^ c).astype(float), (v | c).astype(np.uint8), 1 - 2 * (v & c).sum() / (v.sum() + c.sum())


@pytest.mark.parametrize("shift", [2, 6, 15, 30, 60])
def test_the_score_is_about_one_minus_the_dice_of_the_branches(shift):
    doubt, _, wanted = branches((100, 140), shift)
    mask = disc((100, 140), 50, 50 + shift / 2, 20)  # what their mean would be like
    assert doubt_score(doubt, mask) == pytest.approx(wanted, abs=0.05)


def test_background_does_not_wash_the_score_out():
    doubt, mask, _ = branches((100, 140), 6)
    framed = [np.pad(a, ((0, 300), (0, 260))) for a in (doubt, mask)]
    assert doubt_score(*framed) > 0.7 * doubt_score(doubt, mask)
    assert framed[0].mean() < 0.1 * doubt.mean()  # as the mean over all pixels does


def test_with_scribbles_the_most_frequent_class_is_the_background():
    doubt, mask, _ = branches((100, 140), 6)
    assert doubt_score(doubt, mask + 1) == doubt_score(doubt, mask)


def test_faint_doubt_everywhere_is_no_doubt():
    noise = np.random.default_rng(0).uniform(0, 0.09, (100, 100))
    nothing = np.zeros((100, 100), np.uint8)
    assert doubt_score(noise, nothing) == 0
    speck = np.zeros((100, 100))
    speck[3, 3] = 1
    assert doubt_score(speck, nothing) < 0.05  # no structure at all, and one pixel in doubt


def test_a_description_tells_pictures_apart_by_look_and_by_mask():
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 1, (3, 40, 60))
    mask = disc((40, 60), 20, 20, 10)
    one = describe(picture, mask)
    assert one.shape == (64 + 24 + 64,) and one.dtype == np.float32

    def apart(*other):
        return float(np.linalg.norm(one - describe(*other)))

    assert apart(np.clip(picture + rng.normal(0, 0.02, picture.shape), 0, 1), mask) < 0.05
    assert apart(picture * 0.4, mask) > 0.1
    assert apart(picture, disc((40, 60), 20, 45, 10)) > 0.1
    assert describe(picture[:1, :5, :5], mask[:5, :5]).shape == (64 + 8 + 64,)  # smaller than the grid


def test_ten_look_alikes_do_not_fill_the_list():
    rng = np.random.default_rng(1)
    cluster, others = rng.normal(0, 1, 20), rng.normal(0, 1, (5, 20))
    descriptions = {i: cluster + rng.normal(0, 0.01, 20) for i in range(10)} | dict(enumerate(others, 10))
    doubts = {i: 0.9 - 0.001 * i for i in range(10)} | {i: 0.4 - 0.001 * i for i in range(10, 15)}
    order = suggest(doubts, descriptions, known=())
    assert order[0] == 0
    assert set(order[1:6]) == {10, 11, 12, 13, 14}
    assert sorted(order) == sorted(doubts)
    assert suggest(doubts, {}, known=()) == list(range(15))  # by doubt alone where nothing is known of the look
    painted = suggest({i: doubts[i] for i in range(1, 15)}, descriptions, known=[0])
    assert set(painted[:5]) == {10, 11, 12, 13, 14}


def test_of_two_equally_new_images_the_doubtful_one_comes_first():
    descriptions = {0: np.array([0.0, 0]), 1: np.array([5.0, 0]), 2: np.array([0, 5.0])}
    assert suggest({1: 0.1, 2: 0.3}, descriptions, known=[0]) == [2, 1]
    ordinary = np.random.default_rng(3).normal(0, 2, (20, 2))
    odd = descriptions | {1: np.array([500.0, 0])} | dict(enumerate(ordinary, 3))
    assert suggest({1: 0.1, 2: 0.3}, odd, known=[0]) == [2, 1]  # an odd image is not preferred for being odd
    assert suggest({}, descriptions, known=[0]) == []


def test_suggestions_for_a_thousand_images_are_quick():
    from time import perf_counter

    rng = np.random.default_rng(2)
    descriptions = dict(enumerate(rng.normal(0, 1, (1000, 152)).astype(np.float32)))
    began = perf_counter()
    doubts = dict(enumerate(rng.uniform(size=500)))
    assert len(suggest(doubts, descriptions, known=range(500, 1000))) == 500
    assert perf_counter() - began < 3


def test_regions_are_where_the_doubt_is_and_the_largest_comes_first():
    doubt = np.zeros((300, 400), np.float32)
    doubt[disc(doubt.shape, 60, 80, 12)] = 0.9
    doubt[disc(doubt.shape, 200, 300, 25)] = 0.9
    doubt[250, 20] = 0.9  # a speck
    first, second = doubtful_regions(doubt)
    assert np.hypot(first.row - 200, first.column - 300) < 25
    assert np.hypot(second.row - 60, second.column - 80) < 12
    assert first.weight == pytest.approx(doubt[150:250, 250:350].sum(), rel=0.2)
    assert len(doubtful_regions(doubt, most=1)) == 1
    assert doubtful_regions(np.full((50, 50), 0.02)) == ()
    assert doubtful_regions(np.zeros((50, 50))) == ()


def test_a_ring_is_gone_to_on_the_ring():
    doubt = (disc((200, 200), 100, 100, 60) & ~disc((200, 200), 100, 100, 50)).astype(np.float32)
    assert all(doubt[region.row, region.column] for region in doubtful_regions(doubt))
    large = np.kron(doubt, np.ones((10, 10), np.float32))  # looked at in steps
    assert all(large[region.row, region.column] for region in doubtful_regions(large))
