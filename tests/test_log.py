"""Logs and problem reports: they tell what happened, and nothing of whose picture it was."""

import json
import re
import subprocess
import sys
from importlib.metadata import requires

import numpy as np
import pytest
from PIL import Image

from napari_semigda import cli, log, problem
from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.types import EngineError, Report, Settings
from napari_semigda.log import Log, last_lines
from napari_semigda.project import Project
from napari_semigda.redact import Redactor
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore

PATIENT = "Meier Änne 1950"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / f"study of {PATIENT}"
    folder.mkdir()
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 255, (40, 48), np.uint8)
        Image.fromarray(image).save(folder / f"{PATIENT}.{number}.png")
    return folder


def lines(folder):
    return [json.loads(line) for line in last_lines(folder / "semigda" / "logs", 1000)]


def work(folder):
    """A project that is made, painted, trained and closed."""
    store = ProjectStore.create(folder)
    project = Project(ImageStack(folder.name, store.images), keeper=store)
    masks = np.zeros(project.stack.shape, np.uint8)
    masks[0, 5:20, 5:20] = 1
    project.update_masks(masks)
    job = project.snapshot(Settings(max_steps=3))
    job.request.out.write_bytes(b"weights")
    held_out = (project.stack.plane_name(0),)
    project.finish(job.generation, Outcome(job.request.out), Report("done", 3, dice=0.75, held_out=held_out))
    for error in (EngineError(f"{PATIENT}.1.png has NaN values: remove it."), OSError(28, "x", str(folder / "a.png"))):
        try:
            raise error
        except (EngineError, OSError) as raised:
            project.log.problem("run failed", raised)
    project.close()


def test_a_log_tells_what_happened_and_not_to_whom(folder):
    work(folder)
    said = lines(folder)
    events = [line["event"] for line in said]
    assert "opened" in events[:3] and events[-1] == "closed" and said[-1]["all_saved"] is True
    assert {"saved", "round begun", "round ended", "run failed"} <= set(events)
    ended = said[events.index("round ended")]
    assert (ended["dice"], ended["steps"], ended["held_out"], ended["model"]) == (0.75, 3, 1, True)
    failed = [line["details"] for line in said if line["event"] == "run failed"]
    assert "EngineError:" in failed[0] and "has NaN values: remove it." in failed[0]
    assert "File <path>" in failed[0] and "[Errno 28] x: <path>" in failed[1]
    whole = (folder / "semigda" / "logs" / log.NAME).read_text()
    for name in (PATIENT, *PATIENT.split(), "nne 1950", str(folder), folder.name):
        assert name not in whole
        assert json.dumps(name)[1:-1] not in whole


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "/data/My Meier Study/x.png cannot be saved (No space left on device): free",
            "<path> (No space left on device)",
        ),
        ("cannot open '/home/Meier Hans/x.png' now", "cannot open <path> now"),
        (r"C:\Users\Meier\a b.png is bad", "<path>"),
        ("Meier.Hans.nii.gz, slice 3 is empty", " <file>.gz, slice 3 is empty"),
        ("Meier Hans.png has no mask: paint it", " <file>.png has no mask: paint it"),
        ("0.5 and/or 3 / 4 images", "0.5 and/or 3 / 4 images"),
        (
            'File "/opt/v/lib/python3.11/site-packages/torch/x.py", line 3',
            'File "lib/python3.11/site-packages/torch/x.py", line 3',
        ),
        ('File "/home/meier/mine.py", line 3', "File <path>, line 3"),
    ],
)
def test_names_and_paths_are_taken_out_and_reasons_and_code_stay(text, left):
    assert Redactor()(text) == left


def test_names_that_are_known_go_wherever_they_are():
    plain = Redactor()
    plain.hide(["Meier", "0012345.dcm", "ab.png", "7.png"])
    assert plain("the layer MEIER, slice 3, of 0012345; 7 of ab") == "the layer <name>, slice 3, of <name>; 7 of ab"


def test_a_log_is_five_megabytes_at_most_and_its_end_is_found_across_files(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "BYTES", 2000)
    noted = Log(tmp_path / "logs")
    for number in range(200):
        noted.event("saved", number=number, dice=float("nan"))
    noted.close()
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["log.jsonl", *(f"log.jsonl.{n}" for n in range(1, 5))]
    assert all(path.stat().st_size <= 2000 for path in (tmp_path / "logs").iterdir())
    assert [json.loads(line)["number"] for line in last_lines(tmp_path / "logs", 30)] == list(range(170, 200))
    assert log.OLDER + 1 == 5


@pytest.mark.parametrize("damage", ["in the way", "full"])
@pytest.mark.skipif(sys.platform != "linux", reason="has no disk that is always full")
def test_a_disk_that_takes_no_log_is_not_heard_of(tmp_path, damage, capfd):
    noted = Log(tmp_path / "logs")
    if damage == "in the way":
        (tmp_path / "logs").write_text("a file")
    else:
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / log.NAME).symlink_to("/dev/full")
    for number in range(3):
        noted.event("saved", number=number)
        noted.problem("run failed", ValueError("x"))
    noted.close()
    assert capfd.readouterr().err == ""
    (tmp_path / "logs").unlink() if damage == "in the way" else (tmp_path / "logs" / log.NAME).unlink()
    noted.event("saved again")
    noted.close()
    assert [json.loads(line)["event"] for line in last_lines(tmp_path / "logs", 9)] == ["saved again"]


def test_nothing_that_is_noted_can_keep_a_mask_from_being_saved(folder, monkeypatch):
    def explode(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr(log.Redactor, "__call__", explode)
    monkeypatch.setattr(log._Lines, "format", explode)
    work(folder)
    assert (folder / "semigda" / "masks").is_dir() and lines(folder) == []


def test_a_report_is_one_file_with_all_that_helps_and_no_name(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(problem, "examined", lambda where: [f"ok Disk: 5.0 GB free in {where}."])
    work(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = tmp_path / "problem.txt"
    assert cli.run(["report", str(out), "--project", str(folder)]) == 0
    assert "look through it" in capsys.readouterr().err
    text = out.read_text()
    for part in ("What was found", "This computer", "Versions", "Settings", "Project", "Log of the project"):
        assert f"== {part}\n" in text
    assert "ok Disk: 5.0 GB free in <name>" in text
    assert "2 PNG images, uint8, 1 planes of 40 x 48" in text
    assert 'round 1: {"dice": 0.75' in text and '"event": "round ended"' in text
    assert all(re.match(r"[\w.-]+", line)[0] in text for line in requires("napari-semigda"))
    for name in (PATIENT, *PATIENT.split(), json.dumps(PATIENT)[1:-1], folder.name):
        assert name not in text
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert cli.run(["report", str(tmp_path / "no.txt"), "--project", str(tmp_path)]) == 2
    assert "is no project" in capsys.readouterr().err


def test_the_log_loads_no_torch_and_no_viewer():
    code = "import napari_semigda.log, sys; print({'torch', 'napari', 'qtpy', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
