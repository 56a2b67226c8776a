"""Export model…: another process does it, with the model and the picture in view; how it went is told."""

import json
import sys

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_semigda.engine.types import EngineError
from napari_semigda.widgets import export
from napari_semigda.widgets.export import ExportButton, Exporter

from .conftest import wait_for

# Stands in for `semigda export`, whose own tests are in tests/test_bioimageio.py: notes what it was asked for.
ECHO = """
import json, shutil, sys
from pathlib import Path
model, out, _, image = sys.argv[1:]
shutil.copy(image, Path(out).with_name("seen.tif"))
Path(out).write_text(json.dumps([Path(model).read_text(), Path(image).name]))
print("Wrote it.", file=sys.stderr)
"""
REFUSE = "import sys; print('one', 'Paint more.', sep=chr(10), file=sys.stderr); sys.exit(2)"
SLOW = "import time; time.sleep(60)"


def save(path):
    path.write_text("weights")
    return path


def save_nothing(path):
    raise EngineError(f"Cannot write {path}: choose another folder.")


@pytest.fixture
def ends(monkeypatch):
    """What exporters say at their ends, in place of notifications too."""
    said = []
    monkeypatch.setattr(export.errand, "tell", lambda *end: said.append(end))
    return said


def press(qtbot, monkeypatch, code, chosen, out):
    monkeypatch.setattr(export, "COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(out), ""))
    button = ExportButton()
    qtbot.addWidget(button)
    button.chosen = chosen
    button.show()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    return button


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_model_and_picture_reach_the_export(qtbot, monkeypatch, ends, tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 2**16, shape, dtype=np.uint16)
    button = press(qtbot, monkeypatch, ECHO, lambda: (save, picture), tmp_path / "package")
    wait_for(lambda: ends)
    assert ends == [(True, "Wrote it.")]
    assert json.loads((tmp_path / "package.zip").read_text()) == ["weights", "example.tif"]
    assert np.array_equal(tifffile.imread(tmp_path / "seen.tif"), picture)
    button.exporter.close()


def test_refusal_is_told(qtbot, monkeypatch, ends, tmp_path):
    button = press(qtbot, monkeypatch, REFUSE, lambda: (save, np.zeros((4, 4))), tmp_path / "p.zip")
    wait_for(lambda: ends)
    assert ends == [(False, "Paint more.")]
    button.exporter.close()


def test_a_model_that_cannot_be_copied_is_told(qtbot, monkeypatch, ends, tmp_path):
    button = press(qtbot, monkeypatch, ECHO, lambda: (save_nothing, np.zeros((4, 4))), tmp_path / "p.zip")
    assert not ends[0][0]
    assert "Cannot write" in ends[0][1]
    button.exporter.close()


def test_one_at_a_time_and_none_outlives_the_dock(qtbot, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "COMMAND", (sys.executable, "-c", SLOW))
    exporter = Exporter()
    exporter.start(save, np.zeros((4, 4)), tmp_path / "p.zip")
    with pytest.raises(EngineError, match="just now"):
        exporter.start(save, np.zeros((4, 4)), tmp_path / "p.zip")
    exporter.close()
    assert not exporter.running


def test_the_train_dock_exports_the_model_in_use_with_the_slice_in_view(viewer, make_dock):
    from .conftest import discs

    images, masks = discs()
    viewer.add_image(images, name="discs")
    viewer.add_labels(masks * np.array([1, 1, 0, 0], np.uint8)[:, None, None], name="masks")
    dock = make_dock()
    assert not dock.export_button.isEnabled()
    dock.training.start()
    wait_for(lambda: dock.state.value == "done")
    viewer.dims.set_current_step(0, 2)
    save_model, picture = dock.export_button.chosen()
    assert save_model == dock.bridge.project.save_model  # the model in use, with the names that classes have now
    assert np.array_equal(picture, images[2])
    assert dock.export_button.isEnabled()
