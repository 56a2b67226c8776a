"""Model files: whole or not there, data and never code, foreign ones refused in a sentence."""

import json
from importlib.metadata import version

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_semigda.engine import checkpoint
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.checkpoint import load_model, read_header, save_model
from napari_semigda.engine.header import copy_with_classes
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.types import EngineError


def test_header_holds_what_a_stranger_needs(tiny_run):
    header = read_header(tiny_run[2])
    assert header["schema"] == checkpoint.SCHEMA
    assert header["classes"] == [{"id": 0, "name": "background"}, {"id": 1, "name": "disc", "colour": "#0072b2"}]
    assert header["class_order"] == [1]
    assert header["training"]["labelled"] == 3
    assert header["training"]["unlabelled"] == 5
    assert header["view"]["crop"] == 64
    assert header["libraries"]["torch"] == version("torch")
    assert {"python", "monai", "kornia", "numpy"} <= set(header["libraries"])


def test_saving_again_gives_the_same_weights(tiny_run, tmp_path):
    model, header = load_model(tiny_run[2], torch.device("cpu"))
    save_model(tmp_path / "copy.semigda", model, header, None)
    again, _ = load_model(tmp_path / "copy.semigda", torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_network_of_an_earlier_kind_stays_one(tiny_run, tmp_path):
    """A correction goes on from such a model and saves it again."""
    older = SemiGDA(load_backbone("compact"), 2, fusion="residual")
    header = read_header(tiny_run[2])
    del header["fusion"]  # nobody wrote it down then
    save_model(tmp_path / "older.semigda", older, header, None)
    again, _ = load_model(tmp_path / "older.semigda", torch.device("cpu"))
    assert again.fusion == "residual"
    assert all(torch.equal(a, b) for a, b in zip(older.parameters(), again.parameters(), strict=True))
    save_model(tmp_path / "odd.semigda", older, header | {"fusion": "cold"}, None)
    with pytest.raises(EngineError, match=r"odd\.semigda is damaged .its branch C is of an unknown kind"):
        load_model(tmp_path / "odd.semigda", torch.device("cpu"))


def with_header(source, target, header):
    with safe_open(source, framework="pt") as file:
        tensors = {k: file.get_tensor(k) for k in list(file.keys())[:3]}
    save_file(tensors, target, metadata=header)
    return target


def test_a_copy_with_other_names_learnt_the_same(tiny_run, tmp_path):
    model, copy = tiny_run[2], tmp_path / "copy.semigda"
    copy_with_classes(model, copy, {7: "not in it", 1: "cell ü"}, {1: "#d55e00"})
    header = read_header(copy)
    assert header["classes"][1] == {"id": 1, "name": "cell ü", "colour": "#d55e00"}
    assert header["class_order"] == [1]
    (one, before), (other, after) = (load_model(path, torch.device("cpu")) for path in (model, copy))
    for name, weights in one.state_dict().items():
        assert torch.equal(weights, other.state_dict()[name])
    assert {**before, "classes": 0, "class_order": 0} == {**after, "classes": 0, "class_order": 0}


def test_files_that_are_not_ours(tiny_run, tmp_path):
    model = tiny_run[2]
    whole = model.read_bytes()
    cases = {
        "missing": (tmp_path / "no.semigda", "no model file"),
        "empty": (tmp_path / "empty.semigda", "damaged or not"),
        "text": (tmp_path / "text.semigda", "damaged or not"),
        "cut": (tmp_path / "cut.semigda", "damaged"),
        "foreign": (with_header(model, tmp_path / "f.semigda", {"by": "someone"}), "not a SemiGDA model"),
        "odd json": (with_header(model, tmp_path / "j.semigda", {"semigda": "[1]"}), "not a SemiGDA model"),
        "newer": (
            with_header(model, tmp_path / "n.semigda", {"semigda": json.dumps({"schema": 99, "version": "9"})}),
            "newer",
        ),
    }
    (tmp_path / "empty.semigda").write_bytes(b"")
    (tmp_path / "text.semigda").write_text("hello, I am not a model at all")
    (tmp_path / "cut.semigda").write_bytes(whole[: len(whole) // 2])
    for name, (path, words) in cases.items():
        with pytest.raises(EngineError, match=words) as caught:
            load_model(path, torch.device("cpu"))
        assert path.name in str(caught.value), name


def test_weights_that_do_not_fit_are_damage(tiny_run, tmp_path):
    header = {"semigda": json.dumps(read_header(tiny_run[2]))}
    with pytest.raises(EngineError, match="damaged"):
        load_model(with_header(tiny_run[2], tmp_path / "few.semigda", header), torch.device("cpu"))


def test_a_failed_write_leaves_the_old_file(tiny_run, tmp_path, monkeypatch):
    model, header = load_model(tiny_run[2], torch.device("cpu"))
    path = tmp_path / "m.semigda"
    path.write_bytes(b"old")

    def full(_, target, **__):
        target.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(EngineError, match="No space left"):
        save_model(path, model, header, None)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.semigda"]
