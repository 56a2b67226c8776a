"""What a graphics card gets, as far as a processor can tell: mixed precision and compiled steps."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from napari_semigda.engine import objective, palette, predict
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Plane, Settings, TrainRequest

from .conftest import draw_discs, drawn_planes


def half_precision(device):
    return torch.autocast(device.type, torch.bfloat16)


def train(out, **settings):
    request = TrainRequest(drawn_planes(2, 3), out, Settings(crop=64, **settings))
    return list(Trainer().fit(request))[-1]


@pytest.mark.parametrize("count", [2, 5])
def test_scores_of_half_precision_colours_are_whole(count):
    decoded = (palette.paint(torch.randint(0, count, (1, 16, 16)), count)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        scores = palette.scores(decoded, count)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, palette.scores(decoded.float(), count))


def test_training_and_prediction_in_mixed_precision(tmp_path, monkeypatch):
    used = []

    def half(device):
        used.append(device)
        return half_precision(device)

    monkeypatch.setattr(objective, "mixed_precision", half)
    monkeypatch.setattr(predict, "mixed_precision", half)
    last = train(tmp_path / "m.semigda", max_steps=6)
    assert last.stage == "done" and 0 < last.loss < 10
    assert len(used) > 6
    assert all(weight.dtype == torch.float32 for weight in load_file(last.model).values())
    picture, mask = draw_discs(50)
    found = predict.Predictor(last.model, "cpu").predict(Plane("new", picture), probabilities=True)
    assert found.mask.shape == mask.shape
    assert found.probabilities.sum(0) == pytest.approx(1, abs=1e-4)


def test_compiled_steps_give_the_same_weights(tmp_path, monkeypatch):
    """Traced and run as traced; what a compiler makes of the trace depends on the machine."""
    plain = nn.Module.compile
    monkeypatch.setattr(SemiGDA, "compile", lambda self, **kwargs: plain(self, backend="eager", **kwargs))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    weights = [load_file(train(tmp_path / f"{c}.semigda", max_steps=3, compile=c).model) for c in (False, True)]
    frames, breaks = (torch._dynamo.utils.counters[name] for name in ("frames", "graph_break"))
    assert frames["ok"] == frames["total"] > 0 and not breaks
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
