"""BioImage.IO packages: bioimageio's own test passes, and what it computes from the raw picture is our prediction."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from napari_semigda import bioimageio as packages
from napari_semigda.bioimageio import About, example_of, export
from napari_semigda.cli import run
from napari_semigda.engine.checkpoint import load_model, save_model
from napari_semigda.engine.normalise import Contrast, Input
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.torchscript import TOLERANCE
from napari_semigda.engine.types import EngineError, Plane
from tests.engine.conftest import draw_discs

pytest.importorskip("bioimageio.core")


@pytest.fixture(scope="module")
def strangers_model(tiny_run, tmp_path_factory):
    """The tiny model with names and paths in its record that nobody else should see, and classes 0 and 7."""
    model, header = load_model(tiny_run[2], torch.device("cpu"))
    training = header["training"] | {"held_out": ["Ms Miller.png"], "trained_on": ["Mr Smith.png"]}
    training["settings"] = training["settings"] | {"backbone_source": "/home/jones/weights"}
    classes = [{"id": 0, "name": "background"}, {"id": 7, "name": "disc"}]
    path = tmp_path_factory.mktemp("models") / "discs.semigda"
    save_model(path, model, header | {"classes": classes, "training": training}, None)
    return path


@pytest.fixture(scope="module")
def package(strangers_model, tmp_path_factory):
    """A package of it, written by the command line with a 16-bit picture as the example."""
    folder = tmp_path_factory.mktemp("packages")
    picture = (draw_discs(9, (90, 76))[0].astype(np.uint16) + 20) * 150
    Image.fromarray(picture).save(folder / "example.png")
    out = folder / "discs.zip"
    arguments = ["--image", str(folder / "example.png"), "--author", "A. Biologist"]
    assert run(["export", str(strangers_model), str(out), *arguments]) == 0
    return out


def test_bioimageio_finds_nothing_wrong(package, tmp_path):
    command = Path(sys.executable).with_name("bioimageio")
    result = subprocess.run(
        [command, "test", str(package), "--summary", str(tmp_path / "summary.json"), "--weight-format", "torchscript"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "passed"
    assert any("Reproduce test outputs" in detail["name"] for detail in summary["details"])


def test_what_others_compute_from_a_raw_picture_is_our_prediction(package, strangers_model):
    from bioimageio.core import load_model_description, predict

    description = load_model_description(package, perform_io_checks=False)
    picture, _ = draw_discs(21, (101, 130))
    picture = picture.astype(np.float32) * 3 - 40  # no test picture, other values, another size
    with torch.jit.optimized_execution(False):
        result = predict(model=description, inputs={"picture": picture[None, None]})
    theirs = result.members["probabilities"].data.to_numpy()[0]
    ours = Predictor(strangers_model, "cpu").predict(Plane("x", picture), probabilities=True)
    assert theirs.shape == (2, 101, 130)
    assert np.abs(theirs - ours.probabilities).max() < TOLERANCE
    assert np.array_equal(np.array([0, 7])[theirs.argmax(0)], ours.mask)


def test_package_says_what_a_stranger_needs(package):
    with zipfile.ZipFile(package) as file:
        description = yaml.safe_load(file.read("rdf.yaml").split(b"---", 1)[1])
        card = file.read("README.md").decode()
        names = set(file.namelist())
        everything = b"".join(file.read(name) for name in names)
        with zipfile.ZipFile(io.BytesIO(file.read("weights.pt"))) as weights:
            everything += b"".join(weights.read(name) for name in weights.namelist())
    assert names == {"rdf.yaml", "README.md", "cover.png", "test_input.npy", "test_output.npy", "weights.pt"}
    assert description["format_version"].startswith("0.5")
    assert description["license"] == "CC-BY-4.0"
    assert [author["name"] for author in description["authors"]] == ["A. Biologist"]
    assert {cite["doi"] for cite in description["cite"]} == {"10.48550/arXiv.2604.23274", "10.48550/arXiv.1905.11946"}
    channels = [axis for axis in description["outputs"][0]["axes"] if axis["type"] == "channel"]
    assert channels[0]["channel_names"] == ["background", "disc"]
    assert {axis["id"]: axis["size"]["step"] for axis in description["inputs"][0]["axes"] if "size" in axis} == {
        "y": 1,
        "x": 1,
    }
    record = description["config"]["napari_semigda"]
    assert record["classes"][1] == {"id": 7, "name": "disc"}
    assert record["training"]["labelled"] == 3
    assert record["training"]["held_out"] == 1
    assert record["libraries"]["torch"]
    for words in ("| 1 | disc | 7 |", "## Validation", "Dice of 1 picture kept back", "0.5 and 99.5 percentiles"):
        assert words in card
    here = str(Path(packages.__file__).parent).encode()
    for secret in (b"Miller", b"Smith", b"jones", here):
        assert secret not in everything


def test_colour_pictures_keep_their_bytes(strangers_model, tmp_path, monkeypatch):
    """Only the description is looked at: the graph takes colours, and the test of it takes long."""
    seen = {}
    monkeypatch.setattr(packages, "_pack", lambda *a: seen.update(picture=a[4], folder=set(a[1].iterdir())))
    monkeypatch.setattr(packages, "replacing", _no_file)
    picture = np.stack([draw_discs(seed, (600, 40))[0] for seed in range(4)], -1)  # the fourth is transparency
    export(strangers_model, tmp_path / "m.zip", picture)
    assert seen["picture"].shape == (512, 40, 3)
    assert np.array_equal(seen["picture"], picture[44:556, :, :3])


def test_one_contrast_for_all_pictures_goes_along():
    from bioimageio.spec.model import v0_5

    picture, rule = draw_discs(3)[0].astype(np.uint16), Input((0,), ranges=(Contrast(60.0, 190.0),))
    step = packages._contrast(v0_5, picture, rule).kwargs
    told = np.clip(picture * step.gain + step.offset, 0, 1)
    assert np.allclose(told, rule.to_unit(picture, rule.contrasts(picture))[0], atol=1e-6)


def test_an_example_of_another_scanner_is_refused(strangers_model, tmp_path):
    """Its contrast is its own, and would go into the package as that of all pictures."""
    model, header = load_model(strangers_model, torch.device("cpu"))
    rule = Input((0,), ranges=(Contrast(0.0, 3000.0),), familiar=((2000.0, 4000.0),))
    save_model(tmp_path / "m.semigda", model, header | {"input": rule.to_json()}, None)
    with pytest.raises(EngineError, match="much brighter or duller"):
        export(tmp_path / "m.semigda", tmp_path / "m.zip")  # with a slice of the bundled sample
    assert not (tmp_path / "m.zip").exists()


def _no_file(path):
    from contextlib import nullcontext

    return nullcontext(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["m.semigda", "out.tar"], "call it out.zip"),
        (["m.semigda", "out.zip", "--licence", "mine"], "SPDX"),
        (["m.semigda", "out.zip", "--name", "a/b/c/d"], "letters"),
        (["none.semigda", "out.zip"], "no model file"),
        (["m.semigda", "out.zip", "--image", "none.png"], "none.png"),
        (["m.semigda", "out.zip", "--image", "flat.png"], "choose another one"),
        (["m.semigda", "m.semigda/out.zip"], "cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    arguments, words, strangers_model, tmp_path, monkeypatch, capsys
):
    shutil.copy(strangers_model, tmp_path / "m.semigda")
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / "flat.png")
    before = set(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert run(["export", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in said
    assert set(tmp_path.iterdir()) == before


def test_a_package_that_fails_the_test_is_not_kept(strangers_model, tmp_path, monkeypatch):
    import bioimageio.core

    class Summary:
        status = "failed"
        errors = ()

    monkeypatch.setattr(bioimageio.core, "test_description", lambda *_, **__: Summary)
    (tmp_path / "m.zip").write_bytes(b"old")
    with pytest.raises(EngineError, match="did not pass"):
        export(strangers_model, tmp_path / "m.zip", about=About("Discs of a test"))
    assert (tmp_path / "m.zip").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.zip"]


def test_without_bioimageio_the_way_to_it_is_told(strangers_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimageio", None)
    with pytest.raises(EngineError, match=r"pip install .*napari-semigda\[bioimageio\]"):
        export(strangers_model, tmp_path / "m.zip")


def test_middle_page_represents_a_stack(tmp_path):
    import tifffile

    stack = np.stack([draw_discs(seed)[0] for seed in range(5)])
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    assert np.array_equal(example_of(tmp_path / "s.tif"), stack[2])
