"""A problem report from the dock, and what goes wrong in the viewer in the log."""

import json
import sys

import numpy as np
from PIL import Image
from qtpy.QtWidgets import QFileDialog

from napari_semigda.engine.types import EngineError
from napari_semigda.log import computer_log, last_lines
from napari_semigda.widgets import problem
from napari_semigda.widgets.runner import Failure

from .conftest import discs, wait_for


def noted(folder, event):
    return [line for line in map(json.loads, last_lines(folder, 500)) if line["event"] == event]


def test_a_report_from_the_dock_and_errors_of_ours_in_the_log(viewer, make_dock, tmp_path, notifications, monkeypatch):
    folder = tmp_path / "study"
    folder.mkdir()
    for number, image in enumerate(discs()[0]):
        Image.fromarray(image).save(folder / f"Meier{number}.png")
    dock = make_dock()
    assert dock.projects.new(folder)
    logs = folder / "semigda" / "logs"
    dock.runner.failed.emit(Failure("Meier0.png has NaN values: remove it.", "Traceback: torch broke"))
    (failed,) = noted(logs, "run failed")
    assert "torch broke" in failed["details"] and "Meier" not in failed["details"]
    dock._attempt(lambda: (_ for _ in ()).throw(EngineError("Choose the images first.")))
    assert "EngineError: Choose the images first." in noted(logs, "refused")[0]["details"]

    try:  # what napari does with an error that nobody caught
        dock.bridge.project.update_masks(np.zeros((1, 2, 3)))
    except IndexError:
        problem.notification_manager.receive_error(*sys.exc_info())
    (error,) = noted(logs, "error")
    assert "IndexError" in error["details"] and "project.py" in error["details"]
    try:
        raise ValueError("of another plugin")
    except ValueError:
        problem.notification_manager.receive_error(*sys.exc_info())
    assert len(noted(logs, "error")) == 1

    out = tmp_path / "problem"
    monkeypatch.setattr(problem, "DOCTOR", (sys.executable, "-c", "print('ok Disk: 5.0 GB free in /home/meier.')"))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(out), ""))
    dock.report_button.click()
    report = out.with_suffix(".txt")
    wait_for(report.exists, 20)
    text = report.read_text()
    assert "ok Disk: 5.0 GB free in <path>" in text and '"time": "quick"' in text and "torch broke" in text
    assert "Meier" not in text and "meier" not in text
    wait_for(lambda: "look through it" in notifications[-1], 5)

    monkeypatch.setattr(problem, "DOCTOR", ("/no/such/program",))  # what is broken is what the report is about
    report.unlink()
    assert dock.report_button.write(out)
    wait_for(report.exists, 20)
    assert "doctor said nothing" in report.read_text()
    dock.close_session()
    problem.note_failure(Failure("The working process ended.", ""))
    assert "working process" in noted(computer_log().folder, "run failed")[-1]["details"]
