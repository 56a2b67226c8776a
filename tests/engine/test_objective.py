"""One step of stage 2: what is pasted and borrowed, and which branch learns."""

import numpy as np
import pytest
import torch

from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.objective import V_EVERY, Objective
from napari_semigda.engine.pseudo import KEPT, PseudoMasks
from napari_semigda.engine.sampling import CropSampler
from napari_semigda.engine.view import PlaneReader, View
from tests.engine.conftest import drawn_planes


@pytest.fixture
def make():
    """Builds an objective on discs, two of them painted; `bare` says how many unlabelled ones it sees."""

    def build(bare: int = 3) -> Objective:
        torch.manual_seed(0)
        planes, rng = drawn_planes(2, 2 + bare), np.random.default_rng(0)
        model = SemiGDA(load_backbone("compact"), 2).train()
        table, reader = ClassTable.of(planes, sparse=False), PlaneReader(planes)
        samplers = [
            CropSampler(planes, reader, chosen, View(1.0, 64), table, rng) for chosen in ([0, 1], range(2, 2 + bare))
        ]
        return Objective(model, MovingAverage(model.trained_parts()), *samplers, 2, rng)

    return build


def _moved(objective: Objective) -> set[str]:
    """First part of the name of every weight that the last step's loss reaches."""
    return {n.split(".")[0] for n, w in objective.model.trained_parts().items() if w.grad is not None and w.grad.any()}


def test_branch_v_learns_in_one_step_of_so_many(make):
    objective = make()
    for step in range(2 * V_EVERY):
        objective.model.zero_grad()
        objective.segmentation(0.0).backward()
        assert "latent_encoder" in _moved(objective)
        assert ("latent_mapper" in _moved(objective)) == (step % V_EVERY == 0)


def test_pasted_pieces_are_never_counted_as_painted(make):
    objective = make()
    batch = objective._varied(objective.labelled.draw(2))
    seen = 0.0
    for _ in range(8):
        mixed, painted = objective._with_pieces(batch)
        assert torch.equal(mixed.image.movedim(1, -1)[painted == 1], batch.image.movedim(1, -1)[painted == 1])
        assert torch.equal(mixed.target[painted == 1], batch.target[painted == 1])
        seen += float((painted == 0).float().mean())
    assert 0 < seen / 8 < 0.4  # half of the pictures, a sixth to two thirds of each


def test_the_unlabelled_loss_counts_with_its_weight(make):
    objective = make()
    torch.manual_seed(1)
    losses = []
    for weight in (1e-6, 5.0):
        objective._steps, objective._rng = 0, np.random.default_rng(3)
        torch.manual_seed(1)
        losses.append(float(objective.segmentation(weight).detach()))
    assert losses[1] > losses[0]


@pytest.mark.parametrize(("vary", "bare"), [(True, 3), (False, 3), (True, 0)])
def test_colours_are_borrowed_from_unlabelled_images_where_colours_vary(make, monkeypatch, vary, bare):
    monkeypatch.setattr("napari_semigda.engine.objective.looks_vary", lambda *_: vary)
    objective = make(bare)
    batch = objective.labelled.draw(2)
    recoloured = [objective._in_other_colours(batch) for _ in range(6)]
    assert any(not torch.equal(r.image, batch.image) for r in recoloured) == (vary and bare > 0)
    assert all(torch.equal(r.target, batch.target) for r in recoloured)


def test_pseudo_masks_are_renewed_by_and_by(make):
    objective = make()
    pseudo = PseudoMasks(objective.model, MovingAverage(objective.model.trained_parts()), objective.unlabelled,
                         np.random.default_rng(0))  # fmt: skip
    drawn = pseudo.draw(2)
    assert drawn.image.shape == (2, 3, 64, 64)
    assert set(drawn.weight.unique().tolist()) <= {0.0, 1.0}
    first = [id(batch) for batch in pseudo._kept]
    for _ in range(24):
        pseudo.draw(2)
    kept = [id(batch) for batch in pseudo._kept]
    assert len(kept) == KEPT
    assert kept[:-6] == first[6:]  # the oldest went first, a quarter of a crop a draw
