"""Crops turned, bent and in other colours."""

import torch

from napari_semigda.engine.augment import Augmentation, borrow_colours


def test_augmentation_moves_picture_and_mask_together():
    torch.manual_seed(0)
    target = torch.zeros(16, 64, 64, dtype=torch.long)
    target[:, 8:30, 20:50] = 1
    image = target[:, None].float().repeat(1, 3, 1, 1)
    moved, moved_target, _ = Augmentation()(image, target, torch.ones(16, 64, 64))
    assert ((moved.mean(1) > 0.5).long() == moved_target).float().mean() > 0.97
    assert not torch.equal(moved_target, target)


def test_borrowed_colours_keep_structures():
    torch.manual_seed(0)
    image, donor = 0.2 + 0.2 * torch.rand(2, 3, 32, 32), 0.5 + 0.3 * torch.rand(2, 3, 32, 32)
    moved = borrow_colours(image, donor, torch.tensor([0.0, 1.0]))
    assert torch.allclose(moved[0], image[0], atol=1e-6)
    assert torch.allclose(moved[1].mean((1, 2)), donor[1].mean((1, 2)), atol=0.01)
    assert torch.allclose(moved[1].std((1, 2)), donor[1].std((1, 2)), atol=0.01)
    assert torch.corrcoef(torch.stack([moved[1].flatten(), image[1].flatten()]))[0, 1] > 0.98


def test_grey_pictures_stay_grey_and_a_flat_one_is_not_blown_up():
    grey, donor = torch.rand(1, 1, 32, 32).expand(1, 3, -1, -1), torch.rand(1, 1, 32, 32).expand(1, 3, -1, -1)
    moved = borrow_colours(grey, donor, torch.ones(1))
    assert torch.allclose(moved[:, 0], moved[:, 2], atol=1e-6)
    flat = borrow_colours(torch.full((1, 3, 8, 8), 0.5), donor, torch.ones(1))
    assert flat.std() < 1e-3
