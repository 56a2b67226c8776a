"""Class ids to colours and back."""

import pytest
import torch

from napari_semigda.engine import palette
from napari_semigda.engine.types import EngineError


def published_foreground(decoded):
    """The paper's reading of a decoded picture: channel mean, to 0..1, threshold."""
    return ((decoded.mean(1) + 1) / 2).clamp(0, 1) >= 0.5


def test_two_classes_are_black_and_white():
    assert palette.palette(2).tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_a_longer_palette_begins_with_the_shorter_one():
    longest = palette.palette(33)
    for count in range(2, 33):
        assert torch.equal(palette.palette(count), longest[:count])


@pytest.mark.parametrize(("count", "least"), [(2, 3.4), (8, 2.0), (9, 1.7), (27, 1.0), (33, 0.85)])
def test_colours_keep_their_distance_inside_the_cube(count, least):
    colours = palette.palette(count)
    assert colours.abs().max() <= 1
    assert torch.pdist(colours).min() >= least


@pytest.mark.parametrize("count", [-1, 1, 34])
def test_other_numbers_of_classes_are_refused(count):
    with pytest.raises(EngineError, match="2 to 33"):
        palette.palette(count)


@pytest.mark.parametrize("count", [2, 3, 9, 33])
def test_painted_masks_are_read_back(count):
    mask = torch.randint(count, (2, 8, 12))
    painted = palette.paint(mask, count)
    assert painted.shape == (2, 3, 8, 12)
    assert painted.dtype == torch.float32
    assert torch.equal(palette.scores(painted, count).argmax(1), mask)


@pytest.mark.parametrize("count", [2, 5, 33])
def test_scores_are_a_softmax_over_squared_distances(count):
    decoded = 1.5 * torch.randn(2, 3, 4, 5)
    squared = (decoded[:, None] - palette.palette(count)[None, :, :, None, None]).square().sum(2)
    expected = torch.log_softmax(-palette.sharpness(count) * squared, 1)
    torch.testing.assert_close(palette.scores(decoded, count), expected, atol=2e-5, rtol=1e-4)


def test_two_classes_reduce_to_the_published_form():
    near_threshold = torch.randn(2000, 3, 4, 4) * torch.logspace(-9, 1, 2000)[:, None, None, None]
    exactly_on_it = torch.tensor([1.0, -1.0, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    for decoded in (near_threshold, exactly_on_it, -exactly_on_it * 1e-8):
        background, foreground = palette.scores(decoded, 2).unbind(1)
        assert torch.equal(foreground >= background, published_foreground(decoded))


def test_two_class_score_rises_with_the_channel_mean_and_nothing_else():
    ramp = torch.linspace(-1, 1, 201)[None, None, None].expand(1, 3, 1, 201)
    foreground = palette.scores(ramp, 2).exp()[0, 1, 0]
    assert (foreground.diff() > 0).all()
    tinted = ramp + torch.tensor([0.4, -0.1, -0.3])[None, :, None, None]
    torch.testing.assert_close(palette.scores(tinted, 2).exp()[0, 1, 0], foreground, atol=1e-5, rtol=0)


def test_colours_beyond_the_cube_still_have_a_gradient():
    decoded = torch.full((1, 3, 1, 1), -1.5, requires_grad=True)  # where the published clamp is flat
    palette.scores(decoded, 2)[:, 1].sum().backward()
    assert (decoded.grad > 0.5).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        palette.paint(torch.zeros(4, 4, dtype=torch.long), 2)
    with pytest.raises(ValueError, match=r"\(1, 4, 8, 8\)"):
        palette.scores(torch.zeros(1, 4, 8, 8), 2)
