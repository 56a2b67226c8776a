"""Steps that go wrong, and what is done about it."""

import math

import pytest
import torch
from torch import nn

from napari_semigda.engine import learner
from napari_semigda.engine.checkpoint import read_header
from napari_semigda.engine.learner import Learner
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Settings, TrainRequest

from .conftest import drawn_planes


class Tiny(nn.Linear):
    """A network of two weights."""

    def __init__(self):
        super().__init__(1, 1)
        nn.init.ones_(self.weight)

    def trained_parts(self):
        return dict(self.named_parameters())

    def loss(self, x=1.0):
        return (self(torch.full((1, 1), x)) - 3).square().mean()


def tiny():
    model = Tiny()
    made = Learner(model)
    made.set_rate(0.0, 100, 100)
    return model, made


def rate(made):
    made.set_rate(0.0, 100, 100)
    return made.optimiser.param_groups[1]["lr"]


NAN = torch.tensor(math.nan, requires_grad=True)


@pytest.mark.parametrize("kind", ["nan", "huge", "nan gradient"])
def test_a_bad_step_leaves_no_trace(kind):
    model, made = tiny()
    assert made.step(model.loss())
    before = [weight.detach().clone() for weight in model.parameters()] + [*made.average.snapshot().values()]
    loss = {"nan": NAN, "huge": model.loss(1e3), "nan gradient": (model.weight * 0).sum().abs().sqrt() + 1}[kind]
    assert not made.step(loss)
    after = [*model.parameters(), *made.average.snapshot().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_run_that_diverges_goes_back_to_its_averages_at_half_the_rate_and_is_given_up_the_second_time():
    model, made = tiny()
    for _ in range(5):
        made.step(model.loss())
    whole, averages = rate(made), made.average.snapshot()
    for _ in range(learner.BAD_STEPS - 1):
        made.step(NAN)
    assert not made.note
    made.step(NAN)
    assert "half the learning rate" in made.note
    assert rate(made) == whole / 2
    assert all(torch.equal(weight, averages[name]) for name, weight in model.named_parameters())
    assert made.step(model.loss()) and not made.given_up
    for _ in range(learner.BAD_STEPS):
        made.step(NAN)
    assert made.given_up and "last good weights" in made.note


def test_its_state_is_all_that_the_next_steps_depend_on():
    (one, first), (other, second) = tiny(), tiny()
    for _ in range(3):
        first.step(one.loss())
    second.load_state(first.state())
    for _ in range(3):
        first.step(one.loss(2.0))
        second.step(other.loss(2.0))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, second.average.snapshot()[n]) for n, a in first.average.snapshot().items())


def train(folder, monkeypatch, is_bad, steps=14):
    """A round in which some steps of stage 2 have a loss that is not a number."""
    whole, count = Objective.segmentation, []

    def segmentation(self, weight):
        count.append(1)
        loss = whole(self, weight)
        return loss * math.nan if is_bad(len(count)) else loss

    monkeypatch.setattr(Objective, "segmentation", segmentation)
    monkeypatch.setattr(learner, "BAD_STEPS", 3)
    settings = Settings(max_steps=steps, crop=64, batch=1)
    return list(Trainer().fit(TrainRequest(drawn_planes(2, 0), folder / "m.semigda", settings)))


def test_a_round_survives_a_stretch_of_bad_steps(tmp_path, monkeypatch):
    reports = train(tmp_path, monkeypatch, lambda step: 4 <= step < 7)
    assert (reports[-1].stage, reports[-1].step) == ("done", 14)
    assert reports[-1].note == "Training diverged: it goes on from the last good weights, at half the learning rate."
    assert reports[1].note == ""


def test_a_round_that_diverges_for_good_ends_early_with_its_last_good_weights(tmp_path, monkeypatch):
    reports = train(tmp_path, monkeypatch, lambda step: step >= 4)
    last = reports[-1]
    assert last.stage == "stopped" and last.step == 2 + 3 + 2 * 3
    assert "last good weights" in last.note
    assert last.model.exists() and 0 <= last.dice <= 1
    assert read_header(last.model)["training"]["steps"] == last.step


def test_one_that_never_learnt_anything_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(EngineError, match="diverged"):
        train(tmp_path, monkeypatch, lambda _: True)
    assert list(tmp_path.iterdir()) == []
