"""The accuracy benchmark: that arms lack what they say, that branches are kept apart, that scribbles are honest."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_semigda.engine import objective
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.checkpoint import load_model
from napari_semigda.engine.objective import V_EVERY, Objective
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.types import Plane, Settings, TrainRequest
from tests.engine.conftest import draw_discs, drawn_planes

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from ablations import ABLATIONS, AblatedTrainer, train_ablated
from accuracy_tables import accuracy_section
from answers import Answer, look_with
from cells import HERE, Place, read_cells, write_cell, write_section
from doubt import look_at_doubt
from published import PublishedRecipe, mix_boxes
from scribbles import scribble
from speed import random_sd


def request(folder, **settings):
    settings = Settings(**{"max_steps": 4, "crop": 64, "batch": 2, **settings})
    return TrainRequest(drawn_planes(2, 2), folder / "m.semigda", settings)


def train(arm: str, folder):
    trainer = AblatedTrainer(ABLATIONS[arm])
    list(trainer.fit(request(folder)))
    return trainer.round


PARTS = {"latent_mapper", "latent_encoder", "image_adapters", "mask_adapters"}


@pytest.mark.parametrize(
    ("arm", "learned"),
    [
        ("no-stage1", PARTS),
        ("only-v", {"latent_mapper", "image_adapters"}),
        ("only-c", {"latent_encoder", "mask_adapters"}),
        ("no-adapters", {"latent_mapper", "latent_encoder"}),
        ("decoder-scratch", PARTS | {"decoder"}),
        ("no-mixing", PARTS),
    ],
)
def test_an_arm_lacks_what_it_says(arm, learned, tmp_path, monkeypatch):
    aligned = []
    plain = Objective.alignment
    monkeypatch.setattr(Objective, "alignment", lambda self, weight: aligned.append(1) or plain(self, weight))
    trained = train(arm, tmp_path)
    for _ in range(V_EVERY):  # branch V rests in some steps
        trained.objective.segmentation(0.0).backward()
    with_gradient = {n.split(".")[0] for n, w in trained.model.trained_parts().items() if w.grad is not None}
    assert with_gradient == learned
    assert bool(aligned) == (arm != "no-stage1")
    if arm in ("no-mixing", "no-stage1"):
        shares = []
        plain_box = objective.random_box
        watched = lambda *size, share: shares.append(share) or plain_box(*size, share=share)  # noqa: E731
        monkeypatch.setattr(objective, "random_box", watched)
        for _ in range(6):
            trained.objective.segmentation(0.3)
        assert shares
        assert all((share == 1) == (arm == "no-mixing") for share in shares)


def test_an_arm_is_scored_with_the_weights_it_saved(tmp_path):
    wanted = request(tmp_path)
    network, _ = train_ablated(ABLATIONS["no-stage1"], wanted)
    saved, header = load_model(wanted.out, torch.device("cpu"))
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(network(image).c, saved(image).c)

    # The same mask as the product's own prediction, and the branches apart from it.
    picture, _ = draw_discs(50)
    answer = look_with(saved, header)(Plane("new", picture))
    product = Predictor(wanted.out, "cpu").predict(Plane("new", picture))
    assert np.array_equal(answer.mask, product.mask)
    assert np.allclose(answer.doubt, product.doubt, atol=1e-5)
    assert not np.array_equal(answer.v, answer.c)


@pytest.mark.parametrize("name", sorted(path.stem for path in HERE.glob("*.py")))
def test_every_benchmark_finds_what_it_uses_of_the_engine(name):
    import_module(name)


def test_the_published_recipe_learns(tmp_path):
    """What speed.py times beside ours, on the small autoencoder of its rehearsal."""
    source = random_sd(tmp_path, block_out_channels=(32, 32, 64, 64))
    recipe = PublishedRecipe(load_backbone("sd", source=source)).train()
    before = {name: weight.detach().clone() for name, weight in recipe.named_parameters()}
    labelled, unlabelled = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    recipe.step(labelled, (torch.rand(2, 64, 64) < 0.3).float(), unlabelled)
    changed = {name.split(".")[0] for name, weight in recipe.named_parameters() if not weight.equal(before[name])}
    assert changed == {"mapper", "cnn", "image_adapters", "mask_adapters"}


def test_the_published_mixing_goes_both_ways():
    first, second = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    one, other = mix_boxes(first, second, (slice(0, 2), slice(1, 3)))
    assert one.sum() == 12 and bool(one[..., 0:2, 1:3].all()) and torch.equal(one + other, torch.ones(1, 3, 4, 4))
    assert not first.any() and bool(second.all())


def test_doubt_is_good_that_lies_where_masks_are_wrong():
    planes = [Plane(f"disc {i}", *draw_discs(i, (96, 128))) for i in range(4)]
    shifts = dict(zip([p.name for p in planes], (1, 3, 6, 12), strict=True))

    def look(plane):
        mask = np.roll(plane.mask, shifts[plane.name], axis=1)
        wrong, elsewhere = (mask != plane.mask).astype(float), np.zeros(mask.shape)
        elsewhere[:10, :10] = 1.0  # the same place, whatever is wrong
        return Answer(mask, disagreement=elsewhere, doubt=wrong)

    found = look_at_doubt(look, planes, [1])
    poor, good = found["disagreement"], found["doubt"]
    assert good["auroc"] == pytest.approx(1) and good["spearman"] == pytest.approx(1)
    assert poor["auroc"] < 0.6 and poor["spearman"] < 1
    assert good["place"] > 0.2 > poor["place"]
    assert good["score"] == pytest.approx(found["error"], rel=0.3)


def test_scribbles_are_right_and_few():
    _, mask = draw_discs(3, (120, 140))
    mask[100:110, 120:130] = 2
    painted = scribble(mask, 0.05, background=3, rng=np.random.default_rng(0))
    truth = np.where(mask == 0, 3, mask)
    assert set(np.unique(painted)) == {0, 1, 2, 3}
    assert np.array_equal(painted[painted > 0], truth[painted > 0])
    assert 0.03 < (painted > 0).mean() <= 0.05


@pytest.mark.parametrize("labels", [8, "all"])
def test_a_cell_is_found_by_its_place(labels, tmp_path):
    place = Place("skin_ph2", labels, 2.5, 1, "only-v", "cuda")
    assert Place.parse(str(place)) == place
    write_cell(place, {"steps": 3}, tmp_path)
    assert read_cells(tmp_path)[0]["labels"] == labels
    assert Place.parse("skin_ph2-8labels-5min-seed0-semigda").device == "cpu"


def made_up_cells():
    for seed, arm, dice in [(0, "unet", 0.5), (1, "unet", 0.6), (0, "forest", 0.58), (0, "semigda", 0.6)]:
        scores = {"dice": {"mean": dice}, "hausdorff95": {"mean": 3.0}}
        place = {"set": "s", "labels": 4, "minutes": 5.0, "seed": seed, "arm": arm}
        yield {**place, "test": scores, "pool": None, "date": "2000-01-01", "machine": "abacus", "steps": 100 + seed}


def test_an_arm_that_lacks_a_set_gets_no_mean():
    cells = list(made_up_cells())
    elsewhere = [{**c, "set": "t"} for c in cells if c["arm"] != "forest"]
    row = next(line for line in accuracy_section([*cells, *elsewhere]) if line.startswith("| **mean** |"))
    assert [entry.strip() for entry in row.split("|")[2:5]] == ["–", "**0.550** (2)", "**0.600** (2)"]


def test_the_table_compares_with_the_best_rival_at_the_same_seeds(tmp_path):
    lines = accuracy_section(list(made_up_cells()))
    row = next(line for line in lines if line.startswith("| s |"))
    assert "0.550 ± 0.071" in row
    assert "| +2.0 |" in row  # the forest is better than the U-Net on average
    assert "| steps | – | 100 | 100 |  |  |" in lines
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n")
    write_section("x", lines, page)
    write_section("x", ["new"], page)
    assert page.read_text() == "before\n<!-- x:begin -->\nnew\n<!-- x:end -->\nafter\n"
