"""Crops to learn from."""

import numpy as np

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.metrics import dice
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.sampling import CropSampler
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Plane, Settings, TrainRequest
from napari_semigda.engine.view import PlaneReader, View

from .conftest import draw_discs


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
