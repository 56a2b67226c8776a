"""Neighbours that look alike belong to one class."""

import pytest
import torch

from napari_semigda.engine.likeness import NEIGHBOURS, REACH, likeness_loss


def halves(border: int) -> torch.Tensor:
    """(1, 2, 32, 32) probabilities of two classes, left and right of a border."""
    right = (torch.arange(32) >= border).float().expand(32, 32)
    return torch.stack([1 - right, right])[None]


def picture(border: int) -> torch.Tensor:
    return (0.2 + 0.6 * halves(border)[:, 1:]).expand(1, 3, 32, 32)


def test_every_pair_of_neighbours_counts_once():
    around = (2 * REACH + 1) ** 2 - 1
    assert len({*NEIGHBOURS} | {(-down, -right) for down, right in NEIGHBOURS}) == around == 2 * len(NEIGHBOURS)


def test_borders_cost_nothing_only_where_the_picture_has_them():
    assert likeness_loss([halves(16)], picture(16)) < 1e-6
    assert likeness_loss([halves(10)], picture(16)) > 0.01
    assert likeness_loss([halves(0)], picture(16)) < 1e-6  # one class everywhere


@pytest.mark.parametrize(("guess", "moves"), [(12, "left"), (20, "right")])
def test_the_border_moves_towards_the_edge(guess, moves):
    """Where a class reaches over the edge of the picture, the gradient takes it back."""
    scores = (4 * halves(guess) - 2).requires_grad_()
    likeness_loss([scores.softmax(1)], picture(16)).backward()
    strip = scores.grad[0, 1, :, min(guess, 16) : max(guess, 16)].mean()
    assert strip > 0 if moves == "left" else strip < 0  # class 1 less, or more


def test_it_is_a_share():
    torch.manual_seed(0)
    value = likeness_loss([torch.rand(2, 3, 24, 40).softmax(1)], torch.rand(2, 3, 24, 40))
    assert 0 < value < 1
