"""`semigda train`: whole runs, what they say on stdout and stderr, Ctrl+C, and going on after a cut."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from napari_semigda.cli import run

from .conftest import STEPS, only_line, train_args


def test_train_json_is_one_report_a_line_and_nothing_else(trained):
    folder, done = trained
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) > 2 and all(set(report) == set(reports[0]) for report in reports)
    assert {"stage", "step", "fraction", "elapsed", "loss", "dice", "held_out", "model"} <= set(reports[0])
    assert [report["model"] for report in reports[:-1]] == [None] * (len(reports) - 1)
    last = reports[-1]
    assert last["stage"] == "done" and last["step"] == int(STEPS)
    assert last["model"] == str(folder / "out" / "m.semigda")
    assert last["held_out"] and set(last["held_out"]) <= {"1.png", "2.png", "3.png"}
    assert [path.name for path in (folder / "out").iterdir()] == ["m.semigda"]


def test_json_stays_pure_when_a_library_prints(folders, capsys, monkeypatch):
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import Report

    def chatty(self, request):
        print("a library says hello")  # noqa: T201
        yield Report("learning", loss=float("nan"), dice_by_class={1: float("nan")})

    monkeypatch.setattr(Trainer, "fit", chatty)
    assert run(train_args(folders, "--json")) == 0
    stdout, stderr = capsys.readouterr()
    report = json.loads(only_line(stdout), parse_constant=pytest.fail)  # NaN is no JSON
    assert report["loss"] is None and report["dice_by_class"] == {"1": None}
    assert "hello" in stderr


def test_ctrl_c_saves_a_model(folders):
    args = [arg for arg in train_args(folders, "--json", "--minutes", "10") if arg not in ("--max-steps", STEPS)]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_semigda.cli", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if json.loads(line)["step"] >= 3:
                break
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    last = json.loads(stdout.splitlines()[-1])
    assert last["stage"] == "stopped" and last["fraction"] < 0.5
    assert time.monotonic() - begun < 30
    assert "Stopping" in stderr and "Traceback" not in stderr
    assert [path.name for path in (folders / "out").iterdir()] == ["m.semigda"]


def test_second_ctrl_c_gives_up(folders, monkeypatch, capsys):
    from napari_semigda.engine.train import Trainer

    def impatient(self, request):
        os.kill(os.getpid(), signal.SIGINT)
        assert self._stopping.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        yield

    monkeypatch.setattr(Trainer, "fit", impatient)
    before = signal.getsignal(signal.SIGINT)
    assert run(train_args(folders)) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    assert not (folders / "out").exists()


def test_a_run_that_was_cut_off_is_offered_and_gone_on_with(folders, monkeypatch, capfd):
    from napari_semigda.engine import resume

    monkeypatch.setattr(resume, "EVERY", 0.0)
    write, left = resume.Checkpoints.step, folders / "out" / ".m.semigda.unfinished"

    def interrupted(self, training):
        write(self, training)
        self.finish()
        if training.clock.step == 2:
            raise KeyboardInterrupt

    args = train_args(folders, "--device", "cpu")
    args[args.index(STEPS)] = "4"
    monkeypatch.setattr(resume.Checkpoints, "step", interrupted)
    for said in (False, True):
        assert run(args) == 130
        assert left.exists()
        assert ("add --resume" in capfd.readouterr().err) == said
    monkeypatch.setattr(resume.Checkpoints, "step", write)
    assert run([*args, "--resume", "--json"]) == 0
    steps = [json.loads(line)["step"] for line in capfd.readouterr().out.splitlines()]
    assert steps[1] == 2 and steps[-1] == 4
    assert [path.name for path in (folders / "out").iterdir()] == ["m.semigda"]
    assert run([*args, "--resume"]) == 2
    assert "no unfinished run" in capfd.readouterr().err


def test_progress_for_people_goes_to_stderr(folders, capfd):
    args = train_args(folders, "--backbone", "compact", "--device", "cpu", "--unlabelled-weight", "0")
    args[args.index(STEPS)] = "3"
    (folders / "masks" / "9.png").write_bytes((folders / "masks" / "1.png").read_bytes())
    assert run(args) == 0
    stdout, stderr = capfd.readouterr()
    assert stdout == "" and f"Saved {folders / 'out' / 'm.semigda'}" in stderr
    assert "Aligning" in stderr and "Done" in stderr and "9.png" in stderr.splitlines()[0]


def test_masks_of_a_project_bring_their_names_and_style(folders, capfd, monkeypatch):
    asked = []
    monkeypatch.setattr("napari_semigda.engine.train.Trainer.fit", lambda _, request: asked.append(request) or [])
    index = {"schema": 1, "classes": [{"id": 1, "name": "disc", "colour": "#0072b2"}], "scribbles": True}
    (folders / "project.json").write_text(json.dumps(index | {"images": [], "rounds": [], "in_use": None}))
    assert run(train_args(folders)) == 0
    request = asked[0]
    assert (request.classes, request.colours, request.settings.sparse) == ({1: "disc"}, {1: "#0072b2"}, True)
    assert "painted with scribbles" in capfd.readouterr().err
