"""Whether brightness means something, from a few painted images."""

import pytest
import torch

from napari_semigda.engine.appearance import looks_vary
from napari_semigda.engine.augment import Augmentation


def pictures(shift: float, shares: list[float]):
    """Stripes of two classes, .4 and .7 bright, with so much of the brighter one; each picture brighter by `shift`."""
    torch.manual_seed(0)
    made = []
    for number, share in enumerate(shares):
        target = torch.zeros(32, 32, dtype=torch.int64)
        target[:, : int(32 * share)] = 1
        image = 0.2 + 0.3 * target + shift * number + 0.02 * torch.randn(32, 32)
        made.append((image.expand(3, -1, -1), target))
    images, targets = zip(*made, strict=True)
    return list(images), list(targets)


def test_classes_of_fixed_brightness_keep_it():
    assert not looks_vary(*pictures(0.0, [0.1, 0.3, 0.6, 0.9]))


def test_pictures_of_many_exposures_may_swap_them():
    assert looks_vary(*pictures(0.15, [0.4, 0.5, 0.4, 0.5]))


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_one_picture_shows_nothing_so_it_is_not_taken_for_the_rule(shift):
    assert looks_vary(*pictures(shift, [0.4]))


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_unpainted_pixels_and_missing_classes_do_not_count(shift):
    shares = [0.4, 0.5, 0.4, 0.5] if shift else [0.1, 0.3, 0.6, 0.9]
    images, targets = pictures(shift, shares)
    for target in targets:
        target[::2] = -1
    images.append(torch.full((3, 32, 32), 0.2 + 2 * shift) + 0.02 * torch.randn(3, 32, 32))
    targets.append(torch.zeros(32, 32, dtype=torch.int64))
    assert looks_vary(images, targets) == bool(shift)


def test_brightness_that_tells_is_hardly_varied():
    image, rest = torch.full((32, 3, 32, 32), 0.5), (torch.zeros(32, 32, 32).long(), torch.ones(32, 32, 32))
    change = {}
    for tells in (False, True):
        torch.manual_seed(0)
        varied = Augmentation((0,), tells)(image, *rest)[0]
        change[tells] = float((varied - 0.5).abs().mean())
    assert change[True] < change[False] / 3
