"""`semigda doctor`: what is fine is said, and what is not comes with what to do."""

import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from napari_semigda import cli, doctor
from napari_semigda.engine import backbones
from napari_semigda.engine.types import EngineError


def found(folder):
    return {finding.what: finding for finding in doctor.examine(folder)}


def test_everything_is_looked_at_and_the_status_says_whether_all_is_well(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * 2**30, total=4 * 2**30))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 2**30))
    monkeypatch.setattr(doctor, "_DRAW", "print('PyQt5', 4, 5)")
    assert cli.run(["doctor", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 7 and all(line.startswith("ok ") for line in said)
    assert f"torch {torch.__version__}" in said[0]
    assert said[1] == "ok Drawing: PyQt5, OpenGL 4.5."
    assert said[3:5] == ["ok Memory: 3.0 GB free of 4.0 GB.", f"ok Disk: 5.0 GB free in {tmp_path}."]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30, total=4 * 2**30))
    assert cli.run(["doctor", str(tmp_path)]) == 1
    assert "!  Memory: 1.0 GB free of 4.0 GB. Close other programs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "fact", "advice"),
    [
        ("raise type('QtBindingsNotFoundError', (Exception,), {})", "no Qt", "pip install"),
        ("import os; os.abort()", "no screen can be opened", "remote desktop"),
        ("print('PyQt5', 0, 0)", "OpenGL does not work", "driver"),
        ("import time; time.sleep(60)", "does not answer", "Restart"),
    ],
)
def test_what_keeps_the_viewer_from_drawing_is_told_apart(monkeypatch, code, fact, advice):
    monkeypatch.setattr(doctor, "_DRAW", code)
    monkeypatch.setattr(doctor, "_DRAWING_SECONDS", 3)
    said, to_do = doctor._drawing()
    assert fact in said and advice in to_do


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
def test_a_real_qt_without_a_screen(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    assert doctor._drawing()[0] == "no screen can be opened"


def test_a_folder_that_takes_nothing_and_a_full_disk(tmp_path, monkeypatch):
    assert "nothing can be written" in found(tmp_path / "gone")["Disk"].fact
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert "Free some space" in doctor._disk(tmp_path)[1]


def test_a_device_that_does_not_compute_and_weights_that_are_damaged(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no kernel image is available\nfor this card")

    def damaged(*_):
        raise EngineError("compact.safetensors is damaged")

    monkeypatch.setattr(torch.nn.functional, "conv2d", fail)
    fact, advice = doctor._computing()
    assert "does not compute (no kernel image is available)" in fact and "--device cpu" in advice
    monkeypatch.setattr(backbones, "load_backbone", damaged)
    fact, advice = doctor._weights()
    assert "compact.safetensors is damaged" in fact and "Install again" in advice
