"""How two branches are weighed, by images that neither was trained on, and what they leave in doubt."""

import numpy as np
import pytest
import torch

from napari_semigda.engine.consensus import FEWEST, SHARES, Belief, best_share, doubt_of


def expert(target, sureness, wrong, seed):
    """(2, h, w): sure of the right class but for a share of pixels, where it is as sure of the other one."""
    mistaken = torch.from_numpy(np.random.default_rng(seed).random(target.shape) < wrong)
    foreground = torch.where((target == 1) != mistaken, sureness, 1 - sureness)
    return torch.stack([1 - foreground, foreground])


@pytest.fixture
def target():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 2, (64, 64)))


def test_a_better_c_has_the_say_equals_share_it_and_v_never_gets_more_than_half(target):
    good, poor = expert(target, 0.95, 0.02, 1), expert(target, 0.95, 0.3, 2)
    assert best_share([(Belief(good, poor, 0.5), target)] * FEWEST, 0.2) == SHARES[-1] == 0.5
    assert best_share([(Belief(poor, good, 0.5), target)] * FEWEST, 0.2) == SHARES[0]
    equal = expert(target, 0.95, 0.1, 3), expert(target, 0.95, 0.1, 4)
    assert best_share([(Belief(*equal, 0.5), target)] * FEWEST, 0.2) == pytest.approx(0.5, abs=0.11)


def test_few_images_have_no_say(target):
    good, poor = expert(target, 0.95, 0.02, 1), expert(target, 0.95, 0.3, 2)
    few, unpainted = [(Belief(good, poor, 0.5), target)] * (FEWEST - 1), torch.full_like(target, -1)
    assert best_share(few, 0.2) == 0.2
    assert best_share([*few, (Belief(good, poor, 0.5), unpainted)], 0.2) == 0.2


def test_pixels_that_nobody_painted_have_no_say(target):
    good, poor = expert(target, 0.95, 0.02, 1), expert(target, 0.95, 0.3, 2)
    v, c = good.clone(), poor.clone()
    v[:, 32:], c[:, 32:] = poor[:, 32:], good[:, 32:]  # below, the branches change places
    above = target.clone()
    above[32:] = -1
    assert best_share([(Belief(v, c, 0.5), above)] * FEWEST, 0.2) == SHARES[-1]
    assert best_share([(Belief(v, c, 0.5), torch.full_like(target, -1))] * FEWEST, 0.25) == 0.25
    assert best_share([], 0.25) == 0.25


def test_the_mean_is_between_the_branches():
    v, c = torch.tensor([0.9, 0.1])[:, None, None], torch.tensor([0.3, 0.7])[:, None, None]
    belief = Belief(v, c, 0.25)
    assert belief.probability.flatten().tolist() == pytest.approx([0.45, 0.55])
    assert belief.disagreement.flatten().tolist() == pytest.approx([0.6])


@pytest.mark.parametrize(
    ("probabilities", "doubt"),
    [([1, 0], 0), ([0.5, 0.5], 1), ([0.1, 0.9], 0.2), ([0.2, 0.2, 0.6], 0.6), ([0.4, 0.2, 0.4], 1), ([0, 0, 1, 0], 0)],
)
def test_doubt_is_how_close_the_second_class_comes(probabilities, doubt):
    for order in (probabilities, probabilities[::-1]):
        assert doubt_of(torch.tensor(order)[:, None, None].float()).item() == pytest.approx(doubt, abs=1e-6)


def test_where_sure_branches_contradict_each_other_there_is_doubt():
    one, other = torch.tensor([1.0, 0.0])[:, None, None], torch.tensor([0.0, 1.0])[:, None, None]
    assert doubt_of(Belief(one, one, 0.2).probability).item() == 0
    assert doubt_of(Belief(one, other, 0.2).probability).item() == pytest.approx(0.4)
