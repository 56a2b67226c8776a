"""The unlabelled terms are real: they move weights, only through agreed pixels, and go out with the ramp."""

import math

import pytest
import torch

from napari_semigda.engine.alignment import alignment_loss, cross_alignment_loss
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.losses import mask_loss, pseudo_mask, ramp_up
from napari_semigda.engine.model import Branches, SemiGDA


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SemiGDA(load_backbone("compact"), 3)


def largest_gradient(model, part: str) -> float:
    grads = [w.grad.abs().max() for name, w in model.trained_parts().items() if part in name and w.grad is not None]
    return float(max(grads)) if grads else 0.0


def test_ramp_is_the_papers_and_zero_before_its_start():
    assert ramp_up(-0.1) == ramp_up(0) == 0
    assert ramp_up(0.5) == pytest.approx(math.exp(-1.25))
    assert ramp_up(1) == ramp_up(7) == 1


def test_unlabelled_latents_move_both_branches(model):
    model.zero_grad()
    latents = model.align(torch.rand(2, 3, 64, 64) * 2 - 1)
    cross_alignment_loss(latents.v, latents.c).backward()
    assert largest_gradient(model, "latent_mapper") > 0
    assert largest_gradient(model, "latent_encoder") > 0


def test_cross_alignment_takes_the_other_branch_as_given():
    v, c = (torch.randn(1, 4, 2, 2, requires_grad=True) for _ in range(2))
    cross_alignment_loss(v, c).backward()
    assert torch.allclose(v.grad, 2 * (v - c).detach() / v.numel())  # no term through the other branch
    assert torch.allclose(c.grad, -v.grad)


def test_alignment_is_zero_only_at_the_masks_latent(model):
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[:, 16:48, 16:48] = 2
    target = model.mask_latent(mask)
    assert alignment_loss(target, target, target) == 0
    assert alignment_loss(target + 1, target, target) == pytest.approx(1.0)
    assert not torch.allclose(target, model.mask_latent(torch.zeros_like(mask)))


def test_pseudo_masks_move_adapters_of_both_branches_and_only_where_pixels_count(model):
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    for weight, moves in ((torch.ones(1, 64, 64), True), (torch.zeros(1, 64, 64), False)):
        model.zero_grad()
        branches = model(image)
        target, _ = pseudo_mask(Belief(*branches, 0.5), confidence=0.0)
        mask_loss(branches, target, weight).backward()
        for part in ("image_adapters", "mask_adapters", "latent_mapper", "latent_encoder"):
            assert (largest_gradient(model, part) > 0) == moves, part


def test_pixels_that_do_not_count_change_nothing():
    logits = torch.randn(1, 3, 8, 8)
    branches = Branches(logits.log_softmax(1), logits.flip(1).log_softmax(1))
    weight = torch.zeros(1, 8, 8)
    weight[:, :4] = 1
    target = torch.randint(0, 3, (1, 8, 8))
    other = target.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 3
    assert mask_loss(branches, target, weight) == pytest.approx(mask_loss(branches, other, weight).item())
    other[:, 0, 0] = (other[:, 0, 0] + 1) % 3
    assert mask_loss(branches, target, weight) != pytest.approx(mask_loss(branches, other, weight).item())


def test_pseudo_mask_counts_only_agreed_and_sure_pixels():
    v = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45]]).T[None, :, None]  # (1, 2, 1, 3)
    c = torch.tensor([[0.95, 0.05], [0.2, 0.8], [0.55, 0.45]]).T[None, :, None]
    chosen, weight = pseudo_mask(Belief(v, c, 0.5), confidence=0.8)
    assert weight.tolist() == [[[1, 0, 0]]]
    assert chosen[0, 0, 0] == 0


def test_a_class_that_is_never_quite_sure_is_not_left_out_of_pseudo_masks():
    foreground = torch.tensor([0.02, 0.04, 0.75, 0.72, 0.51])
    both = torch.stack([1 - foreground, foreground])[None, :, None]
    _, weight = pseudo_mask(Belief(both, both, 0.5), confidence=0.9)
    assert weight.tolist() == [[[1, 1, 1, 1, 0]]]  # asked for .9 of background, and for .61 of the foreground


def test_perfect_masks_cost_almost_nothing():
    target = torch.randint(0, 2, (1, 16, 16))
    sure = torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float() * 40
    assert mask_loss(Branches(*(sure.log_softmax(1),) * 2), target, torch.ones(1, 16, 16)) < 1e-3
