"""Whether brightness means something, from a few painted images."""

import json

import numpy as np
import pytest
import torch

from napari_semigda.engine.appearance import choose_reading, looks_vary
from napari_semigda.engine.augment import Augmentation
from napari_semigda.engine.normalise import Input
from napari_semigda.engine.sampling import ClassTable
from napari_semigda.engine.types import Plane


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


def test_one_picture_shows_nothing():
    assert not looks_vary(*pictures(0.15, [0.4]))


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_unpainted_pixels_and_missing_classes_do_not_count(shift):
    shares = [0.4, 0.5, 0.4, 0.5] if shift else [0.1, 0.3, 0.6, 0.9]
    images, targets = pictures(shift, shares)
    for target in targets:
        target[::2] = -1
    images.append(torch.full((3, 32, 32), 0.2 + 2 * shift) + 0.02 * torch.randn(3, 32, 32))
    targets.append(torch.zeros(32, 32, dtype=torch.int64))
    assert looks_vary(images, targets) == bool(shift)


def slices(painted: int, bare: int = 0, gains: tuple[float, ...] = (1.0,), bare_gain: float = 1.0) -> list[Plane]:
    """Stripes of background, grey and white matter, of which some slices have little white or none."""
    rng = np.random.default_rng(0)
    planes = []
    for number in range(painted + bare):
        mask = np.ones((64, 64), np.uint8)
        mask[:, :20], mask[:, 60 - 10 * (number % 3) :] = 0, 2
        mask[:, 60:] = 2 if number % 3 else 1
        gain = gains[number % len(gains)] if number < painted else bare_gain
        image = np.array([0, 160, 210])[mask] * gain + rng.normal(0, 4, mask.shape)
        planes.append(Plane(f"{number}", image.clip(0, 65535).astype(np.uint16), mask if number < painted else None))
    return planes


def reading(planes, contrast="auto"):
    return choose_reading(planes, ClassTable.of(planes, sparse=False), contrast=contrast)


def test_slices_of_one_scan_share_their_contrast():
    (common,) = reading(slices(4, 4)).ranges
    assert common.low < 10 and 200 < common.high < 230
    assert not reading(slices(4, 4), "image").ranges


@pytest.mark.parametrize(
    "planes",
    [
        slices(4, 4, gains=(1.0, 1.6, 0.7)),  # exposures differ
        slices(2, 6),  # two pictures may agree by chance
        slices(4, 8, bare_gain=2.5),  # the others come from elsewhere
    ],
    ids=["exposures", "few", "strangers"],
)
def test_else_each_image_keeps_its_own(planes):
    assert not reading(planes).ranges
    assert len(reading(planes, "dataset").ranges) == 1  # whoever wants it gets it


def test_colours_in_bytes_keep_theirs():
    planes = [
        Plane(p.name, np.repeat((p.image // 2).astype(np.uint8)[..., None], 3, axis=2), p.mask) for p in slices(4)
    ]
    assert not reading(planes).ranges


def test_brightness_that_tells_is_hardly_varied():
    image, rest = torch.full((32, 3, 32, 32), 0.5), (torch.zeros(32, 32, 32).long(), torch.ones(32, 32, 32))
    change = {}
    for tells in (False, True):
        torch.manual_seed(0)
        varied = Augmentation((0,), tells)(image, *rest)[0]
        change[tells] = float((varied - 0.5).abs().mean())
    assert change[True] < change[False] / 3


def test_an_image_of_another_scanner_has_its_own_contrast():
    rule, image = reading(slices(4, 4)), slices(1)[0].image
    assert rule.contrasts(image) == rule.ranges
    for gain in (3.0, 0.3):
        strange = (image * gain).astype(np.uint16)
        assert rule.contrasts(strange) == rule.own_contrasts(strange) != rule.ranges
    assert Input.of_model({"input": json.loads(json.dumps(rule.to_json()))}) == rule
    wanted = reading(slices(4, 4), "dataset")
    assert wanted.contrasts((image * 3.0).astype(np.uint16)) == wanted.ranges  # whoever asks for it means it
