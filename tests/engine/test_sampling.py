"""Working scale and crops."""

import numpy as np
import pytest
import torch

from napari_semigda.engine.augment import Augmentation, borrow_colours
from napari_semigda.engine.metrics import dice
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.sampling import ClassTable, CropSampler
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Plane, Settings, TrainRequest
from napari_semigda.engine.view import PlaneReader, View, choose_view, read_reflected, thinnest_width

from .conftest import draw_discs


def _view_of(plane):
    return choose_view([plane], PlaneReader([plane]))[0]


def test_width_of_a_strip_and_scale():
    strip = np.zeros((200, 200), dtype=np.uint8)
    strip[90:100] = 1
    assert thinnest_width([strip]) == pytest.approx(10, rel=0.25)
    blob = np.zeros((800, 800), dtype=np.uint8)
    blob[200:600, 200:600] = 1
    picture = np.zeros((800, 800), dtype=np.uint8)
    coarse = _view_of(Plane("b", picture, blob))
    assert coarse.scale < 0.4
    lines = np.zeros((800, 800), dtype=np.uint8)
    lines[::40] = lines[1::40] = lines[2::40] = lines[3::40] = 1
    fine = _view_of(Plane("l", picture, lines))
    assert fine.scale == 1
    assert fine.crop % 32 == coarse.crop % 32 == 0


def test_windows_beyond_the_border_are_reflections():
    pixels = np.arange(12).reshape(3, 4)
    assert np.array_equal(read_reflected(pixels, -2, -1, 7, 6), np.pad(pixels, ((2, 2), (1, 1)), mode="reflect"))


def test_crops_follow_the_classes_not_the_area():
    mask = np.zeros((400, 400), dtype=np.uint8)
    mask[:200, :], mask[300:306, 300:306] = 1, 9  # 9 is rare
    plane = Plane("p", np.random.default_rng(0).integers(0, 255, mask.shape).astype(np.uint8), mask)
    table = ClassTable.of([plane], sparse=False)
    sampler = CropSampler([plane], PlaneReader([plane]), [0], View(1.0, 64), table, np.random.default_rng(0))
    batch = sampler.draw(60)
    assert table.ids == (0, 1, 9)
    assert (batch.target == 2).flatten(1).any(1).float().mean() > 0.25
    assert batch.image.shape == (60, 3, 64, 64)
    assert 0 <= batch.image.min() <= batch.image.max() <= 1


def colourful(seed: int, rare: bool) -> Plane:
    """Reddish discs, and a bluish square of class 2 on 0.5 % of the pixels if asked for."""
    _, mask = draw_discs(seed, (96, 96))
    if rare:
        mask[3:10, 84:91] = 2
    rng = np.random.default_rng(seed)
    colour = np.array([[70, 70, 70], [160, 70, 70], [70, 70, 180]])[mask] + rng.normal(0, 15, (96, 96, 3))
    return Plane(f"colourful {seed}", colour.clip(0, 255).astype(np.uint8), mask)


def rare_planes() -> list[Plane]:
    """Class 2 is on one of six."""
    return [colourful(seed, rare=seed == 1) for seed in range(6)]


def test_a_class_on_one_image_is_seen_in_every_other_batch():
    planes = rare_planes()
    table = ClassTable.of(planes, sparse=False)
    sampler = CropSampler(planes, PlaneReader(planes), range(6), View(1.0, 64), table, np.random.default_rng(0))
    assert (sampler.draw(200).target == 2).flatten(1).any(1).float().mean() > 0.125


def test_a_rare_class_is_not_lost(tmp_path):
    out = tmp_path / "rare.semigda"
    list(Trainer().fit(TrainRequest(tuple(rare_planes()), out, Settings(max_steps=120, crop=64, clock="cpu"))))
    new = colourful(50, rare=True)
    assert dice(Predictor(out, "cpu").predict(new).mask, new.mask, [2])[2] > 0.5


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
