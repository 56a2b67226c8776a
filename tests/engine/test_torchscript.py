"""The exported graph computes what `predict` computes, at every size, scale, pose and number of channels."""

import warnings

import numpy as np
import pytest
import torch

from napari_semigda.engine.checkpoint import load_model, read_header, save_model
from napari_semigda.engine.normalise import Input
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.torchscript import TOLERANCE, save_torchscript, to_torchscript
from napari_semigda.engine.types import EngineError, Plane
from napari_semigda.engine.view import scaled_size
from tests.engine.conftest import draw_discs


@pytest.fixture(scope="module")
def looking(tiny_run, tmp_path_factory):
    """Make a file of the tiny model that looks at pictures in another way; its graph, saved and loaded again."""
    folder = tmp_path_factory.mktemp("graphs")

    def make(classes=2, **view):
        model, header = load_model(tiny_run[2], torch.device("cpu"))
        model.class_count = classes  # no weight depends on it
        header |= {"class_count": classes, "classes": [{"id": i, "name": str(i)} for i in range(classes)]}
        path = folder / f"{len(list(folder.iterdir()))}.semigda"
        save_model(path, model, header | {"view": header["view"] | view}, None)
        graph, _ = to_torchscript(path)
        save_torchscript(graph, path.with_suffix(".pt"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return path, torch.jit.load(str(path.with_suffix(".pt")))

    return make


def difference(path, graph, image):
    unit = torch.from_numpy(Input().to_unit(image, Input().contrasts(image)))
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # optimising takes seconds for each new size
        seen = graph(unit[None] if image.ndim == 3 else unit[None, :1])[0].numpy()
    ours = Predictor(path, "cpu").predict(Plane("x", image), probabilities=True).probabilities
    assert seen.shape == ours.shape
    assert ours.std() > 0.02  # or nothing would be compared
    return np.abs(seen - ours).max()


@pytest.mark.parametrize(
    ("view", "sizes"),
    [
        ({}, [(64, 72), (61, 101), (130, 40), (150, 141)]),  # whole, and through windows in one or both directions
        ({"scale": 0.5, "poses": (0, 1)}, [(101, 75), (300, 64)]),  # halves are rounded to even sides
        ({"scale": 1.37, "poses": (0,)}, [(33, 64)]),
    ],
)
def test_graph_gives_the_probabilities_of_predict(looking, view, sizes):
    path, graph = looking(**view)
    for number, size in enumerate(sizes):
        assert difference(path, graph, draw_discs(number, size)[0]) < TOLERANCE / 10


def test_graph_takes_colours_and_several_pictures_at_once(looking):
    path, graph = looking()
    colour = np.stack([draw_discs(seed)[0] for seed in range(3)], -1)
    assert difference(path, graph, colour) < TOLERANCE / 10
    pair = torch.rand(2, 1, 64, 150)
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        together, apart = graph(pair), torch.cat([graph(one[None]) for one in pair])
    assert torch.allclose(together, apart, atol=1e-5)


def test_graph_rounds_sides_as_the_view_does(looking):
    _, graph = looking(scale=0.5)
    assert [graph.working(n) for n in range(20, 300)] == [scaled_size(n, n, 0.5)[0] for n in range(20, 300)]


def test_graph_of_many_classes_is_bound_to_no_device(looking):
    """Colours of the palette are constants of the graph, which must follow the picture to a graphics card."""
    path, graph = looking(classes=4)
    assert difference(path, graph, draw_discs(3)[0]) < TOLERANCE / 10
    for part in (graph, graph.network):
        assert 'Device = prim::Constant[value="cpu"]' not in str(part.inlined_graph)


def test_weights_of_others_are_not_passed_on(tiny_run, tmp_path, monkeypatch):
    header = read_header(tiny_run[2]) | {"backbone": "sd"}
    monkeypatch.setattr("napari_semigda.engine.torchscript.load_model", lambda *_: (None, header))
    with pytest.raises(EngineError, match="backbone sd"):
        to_torchscript(tmp_path / "m.semigda")
