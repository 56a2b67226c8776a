"""Whether images have a pose of their own, and what follows from it."""

import numpy as np
import pytest
import torch

from napari_semigda.engine.augment import Augmentation
from napari_semigda.engine.normalise import spread
from napari_semigda.engine.pose import ALL_POSES, averaging_pose, legal_poses, posed
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, View, choose_view


def _anatomy(rng):
    """A bright head on the right and a darker tail on the left, a little moved: two classes told apart by place."""
    image, mask = rng.normal(0.2, 0.05, (64, 96)), np.zeros((64, 96), np.uint8)
    row, column = rng.integers(-4, 5, 2)
    for class_id, light, columns in ((1, 0.6, slice(58, 78)), (2, 0.3, slice(18, 50))):
        where = (slice(24 + row, 40 + row), slice(columns.start + column, columns.stop + column))
        image[where] += light
        mask[where] = class_id
    return image.clip(0, 1).astype(np.float32), mask


def _texture(rng):
    mask = (rng.random((8, 12)) > 0.6).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    return (mask * 0.5 + rng.normal(0.2, 0.05, mask.shape)).clip(0, 1).astype(np.float32), mask


def _planes(make, painted, count=8):
    rng = np.random.default_rng(0)
    pairs = [make(rng) for _ in range(count)]
    return [Plane(f"{i}", image, mask if i < painted else None) for i, (image, mask) in enumerate(pairs)]


def _poses(planes):
    return choose_view(planes, PlaneReader(planes))[0].poses


@pytest.mark.parametrize("painted", [1, 2, 8])
def test_textures_may_be_turned_every_way(painted):
    assert _poses(_planes(_texture, painted)) == ALL_POSES


@pytest.mark.parametrize("painted", [2, 8])
def test_anatomy_in_one_pose_is_never_mirrored_from_front_to_back(painted):
    poses = _poses(_planes(_anatomy, painted))
    assert 0 in poses
    assert not {1, 3} & set(poses)  # columns mirrored, or half a turn: head and tail would change places


@pytest.mark.parametrize("make", [_anatomy, _texture])
def test_strokes_show_a_pose_as_well(make):
    rng = np.random.default_rng(1)
    planes = [
        p
        if p.mask is None
        else Plane(p.name, p.image, (1 + p.mask) * (rng.random(p.mask.shape) < np.where(p.mask, 0.5, 0.05)))
        for p in _planes(make, 4)
    ]
    expected = set(ALL_POSES) if make is _texture else {0, 2}  # head and tail change places in all others
    assert set(_poses(planes)) == expected


def test_a_symmetric_pose_may_be_mirrored_along_its_symmetry():
    assert 2 in _poses(_planes(_anatomy, 8))  # up and down look alike here


def test_one_image_alone_shows_no_pose():
    image = torch.rand(3, 32, 32)
    assert legal_poses([image], [np.ones((32, 32), np.uint8)]) == ALL_POSES


@pytest.mark.parametrize("pose", ALL_POSES)
def test_poses_are_the_symmetries_of_a_square(pose):
    square = torch.arange(9.0).view(1, 3, 3)
    assert len({tuple(posed(square, p).flatten().tolist()) for p in ALL_POSES}) == 8
    assert sorted(posed(square, pose).flatten().tolist()) == list(range(9))


def test_the_pose_averaged_over_is_legal_and_undoes_itself():
    assert averaging_pose(ALL_POSES) == 3
    assert averaging_pose((0, 2)) == 2
    assert averaging_pose((0,)) == 0
    image = torch.rand(3, 8, 6)
    for pose in (0, 1, 2, 3):
        assert torch.equal(posed(posed(image, pose), pose), image)


def test_augmentation_shows_legal_poses_only_and_moves_masks_alike():
    torch.manual_seed(0)
    target = torch.zeros(24, 32, 32, dtype=torch.int64)
    target[:, :, :8] = 1  # a band on the left
    image = target[:, None].float().expand(-1, 3, -1, -1).contiguous()
    _, kept, _ = Augmentation((0,))(image, target, torch.ones(24, 32, 32))
    assert (kept[:, 12:20, :4] == 1).all()  # rotated by 20 degrees at most
    _, mirrored, _ = Augmentation((0, 1))(image, target, torch.ones(24, 32, 32))
    left = (mirrored[:, 12:20, :4] == 1).all((1, 2))
    assert 0 < int(left.sum()) < 24


def test_a_model_of_an_earlier_release_keeps_all_poses():
    assert View.of_model({"view": {"scale": 1.0, "crop": 64}}).poses == ALL_POSES
    assert View.of_model({"view": {"scale": 1.0, "crop": 64, "poses": [0, 2]}}).poses == (0, 2)


@pytest.mark.parametrize("count", [0, 1, 5, 48, 200])
def test_what_is_spread_has_nothing_twice(count):
    items = spread(range(count))
    assert len(items) == len(set(items)) == min(count, 48) and items == sorted(items)
    assert not count or (items[0], items[-1]) == (0, count - 1)
