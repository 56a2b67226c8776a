"""The training process: it obeys, it answers in lines of JSON, and it is gone when nobody listens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from napari_semigda.engine import exchange, worker
from napari_semigda.engine.exchange import Job, PredictRequest, Standing
from napari_semigda.engine.types import BatchRequest, EngineError, Plane, Settings, TrainRequest
from tests import fake_engine

REAL = (sys.executable, "-m", "napari_semigda.engine.worker")


def job(folder, wish="", steps=3, generation=1, **options):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (5, 32, 40)).astype(np.uint8)
    mask = np.zeros((32, 40), np.uint8)
    mask[8:20, 8:20] = 1
    planes = tuple(Plane(f"slice {i}", images[i], mask if i in (0, 2) else None, "stack") for i in range(5))
    init = options.pop("init", None)
    settings = options.pop("settings", Settings(max_steps=steps))
    request = TrainRequest(planes, folder / f"{generation}.semigda", settings, init, {1: wish})
    return Job(request, generation, **options)


def test_a_job_is_trained_and_then_every_plane_is_predicted_from_the_one_in_view_outwards(talk, tmp_path):
    child = talk()
    assert child.hear() == {"kind": "ready", "device": "CPU"}
    child.begin(job(tmp_path, view=3))
    lines = child.hear_all()

    stages = [line["stage"] for line in lines if line["kind"] == "report"]
    assert stages == ["starting", "learning", "learning", "learning", "done", *["predicting"] * 5]
    predicted = [line for line in lines if line["kind"] == "prediction"]
    assert [line["plane"] for line in predicted] == [3, 2, 4, 1, 0]
    assert lines[-1] == {
        "kind": "done",
        "model": str(tmp_path / "1.semigda"),
        "stopped": False,
        "kept": False,
        "skipped": [],
        "classes": {"0": "background", "1": ""},
    }
    preview = next(line["preview"] for line in lines if line.get("preview"))
    assert np.load(tmp_path / "round-1" / preview["mask"]).shape == (32, 40)


def test_what_libraries_print_is_no_answer(talk, tmp_path):
    child = talk()
    child.begin(job(tmp_path))
    child.hear("done")  # a line that is not JSON would have failed
    child.process.stdin.close()
    assert "a library that prints" in child.process.stderr.read()


def test_stop_ends_the_training_but_not_the_predicting(talk, tmp_path):
    child = talk()
    child.begin(job(tmp_path, steps=10_000))
    assert child.hear("report")["stage"] == "starting"
    child.hear("report")
    child.say(do="stop")
    lines = child.hear_all()
    assert "stopped" in [line.get("stage") for line in lines]
    assert sum(line["kind"] == "prediction" for line in lines) == 5
    assert lines[-1]["stopped"]


def test_stop_pressed_again_ends_the_predicting(talk, tmp_path):
    child = talk()
    child.begin(job(tmp_path, "slow", steps=1))
    child.hear("prediction")
    child.say(do="stop")
    lines = child.hear_all()
    assert sum(line["kind"] == "prediction" for line in lines) < 4
    assert lines[-1]["stopped"]


def test_a_stop_for_the_job_before_does_not_stop_the_next(talk, tmp_path):
    child = talk()
    child.begin(job(tmp_path))
    child.hear("done")
    child.say(do="stop")
    child.begin(job(tmp_path, generation=2))
    assert not child.hear("done")["stopped"]


def test_the_view_moves_previews_and_the_order_of_predictions(talk, tmp_path):
    child = talk()
    child.begin(job(tmp_path, "slow", steps=8, view=0))
    child.say(do="look", plane=4)
    lines = child.hear_all()
    previews = [line["preview"]["plane"] for line in lines if line.get("preview")]
    assert previews[-1] == 4
    assert [line["plane"] for line in lines if line["kind"] == "prediction"] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("engine error", "^brain.png has no mask: paint it.$"),
        ("runtime error", "mat1 and mat2 shapes.*masks are untouched"),
        ("out of memory", "memory of this computer ran out.*device CPU"),
        ("no memory", "memory of this computer ran out"),
        ("disk full", "disk is full: make room"),
    ],
)
def test_every_error_becomes_a_sentence_and_the_process_goes_on(talk, tmp_path, wish, said):
    child = talk()
    child.begin(job(tmp_path, wish))
    error = child.hear("error")
    assert "\n" not in error["message"]
    assert "Traceback" in error["details"]
    with pytest.raises(EngineError, match=said):
        raise EngineError(error["message"])
    child.begin(job(tmp_path, generation=2))
    assert child.hear("done")["model"]


def test_a_missing_request_and_nonsense_are_errors_in_words(talk, tmp_path):
    child = talk()
    child.say(do="train", request=str(tmp_path / "nowhere" / "request.json"))
    assert "missing or damaged" in child.hear("error")["message"]
    child.process.stdin.write("nonsense\n")
    child.process.stdin.flush()
    assert "not a command" in child.hear("error")["message"]
    child.begin(job(tmp_path))
    child.hear("done")


def test_one_image_that_cannot_be_predicted_costs_only_itself(talk, tmp_path):
    child = talk()
    child.begin(job(tmp_path, "one fails"))
    lines = child.hear_all()
    assert sorted(line["plane"] for line in lines if line["kind"] == "prediction") == [0, 2, 3, 4]
    assert lines[-1]["skipped"] == ["slice 1 has NaN values: remove it."]


def test_a_round_that_is_worse_leaves_the_model_before_in_use(talk, tmp_path):
    child = talk()
    child.begin(job(tmp_path, "worse"))
    first = tmp_path / "1.semigda"
    assert child.hear("done")["model"] == str(first)
    before = Standing(first, 0.9, ("slice 0",), 1)
    child.begin(job(tmp_path, "worse", generation=2, init=first, before=before))
    done = child.hear("done")
    assert (done["model"], done["kept"]) == (str(first), True)
    assert (tmp_path / "2.semigda").exists()


def test_it_leaves_the_processor_to_the_viewer(talk):
    child = talk()
    child.hear("ready")
    assert psutil.Process(child.process.pid).nice() >= min(19, psutil.Process().nice() + worker.NICENESS)


@pytest.mark.parametrize("wish", ["", "hangs"])
def test_it_is_gone_as_soon_as_its_input_ends_even_in_the_middle_of_a_step(talk, tmp_path, wish):
    child = talk()
    child.hear("ready")
    child.begin(job(tmp_path, wish, steps=10_000))
    time.sleep(0.3)
    assert child.process.poll() is None
    child.process.stdin.close()
    assert child.process.wait(5) == 0


def test_quit_ends_it(talk):
    child = talk()
    child.hear("ready")
    child.say(do="quit")
    assert child.process.wait(5) == 0


def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path):
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({fake_engine.COMMAND!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, alive = psutil.wait_procs([orphan], timeout=5)
    assert gone
    assert not alive
    parent.stdout.close()


def test_the_real_engine_trains_predicts_and_predicts_again(talk, tmp_path, sample_images, sample_truth):
    child = talk(REAL)
    images, truth = sample_images[8:12, 40:120, 30:120], sample_truth[8:12, 40:120, 30:120]
    planes = tuple(Plane(f"brain, slice {i}", images[i], truth[i] if i < 2 else None, "brain") for i in range(4))
    model = tmp_path / "model.semigda"
    settings = Settings(max_steps=2, crop=64, batch=2, device="cpu")
    assert child.hear("ready")["device"].startswith("CPU")
    child.begin(Job(TrainRequest(planes, model, settings, classes={1: "grey", 2: "white"}), 1, view=2))
    lines = child.hear_all()
    assert lines[-1]["kind"] == "done", lines[-1]
    assert lines[-1]["model"] == str(model)
    assert model.exists()
    assert any(line.get("preview") for line in lines)
    answers = {line["plane"]: np.load(tmp_path / "round-1" / line["mask"]) for line in lines if "plane" in line}
    assert {mask.shape for mask in answers.values()} == {(80, 90)}
    assert set(np.unique(list(answers.values()))) <= {0, 1, 2}

    child.begin(Job(PredictRequest(planes[:2], model, "cpu"), 2))
    again = [line for line in child.hear_all() if line["kind"] == "prediction"]
    for line in again:
        np.testing.assert_array_equal(np.load(tmp_path / "round-2" / line["mask"]), answers[line["plane"]])
    assert len(again) == 2


def test_unforeseen_errors_are_kept_to_one_line():
    said = worker.in_words(ValueError("first\nsecond"), "It could not be done")
    assert said.startswith("It could not be done (ValueError: first).")
    assert "second" not in said


def batch(tmp_path, count, wish=""):
    (tmp_path / "m.semigda").write_text(json.dumps({"wish": wish}))
    images = tuple(tmp_path / f"{i:03d}.png" for i in range(count))
    for i, path in enumerate(images):
        Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(path)
        if i % 10 == 3:
            path.write_bytes(b"")
    return Job(BatchRequest(tmp_path / "m.semigda", images, tmp_path / "out"), 1)


def test_a_batch_says_each_failure_once_and_little_else(talk, tmp_path):
    process = talk()
    process.hear("ready")
    process.begin(batch(tmp_path, 60))
    *reports, done = process.hear_all()
    assert {line["kind"] for line in reports} == {"batch"} and len(reports) < 50
    sentences = [sentence for line in reports for sentence in line["failed"]]
    assert len(sentences) == len(set(sentences)) == 6
    assert (done["kind"], done["stopped"], done["skipped"]) == ("done", False, sentences)
    assert (reports[-1]["done"], reports[-1]["failures"], reports[-1]["fraction"]) == (60, 6, 1)
    assert len(list((tmp_path / "out").glob("*.png"))) == 54


def test_stop_ends_a_batch_between_files(talk, tmp_path):
    process = talk()
    process.begin(batch(tmp_path, 60, "slow"))
    process.hear("batch")
    process.say(do="stop")
    *reports, done = process.hear_all()
    assert done["stopped"] and 0 < reports[-1]["done"] < 60
    assert len(list((tmp_path / "out").glob("*.png"))) == reports[-1]["done"] - reports[-1]["failures"]


def test_the_engine_alone_refuses_a_batch(tmp_path):
    said = []
    alone = worker.Worker(fake_engine.FakeEngine(), said.append)
    list(exchange.write_job(tmp_path, batch(tmp_path, 1)))
    alone.listen([json.dumps({"do": "batch", "request": str(tmp_path / "request.json")}).encode()])
    alone.finish()
    alone.serve()
    assert json.loads(said[-1])["message"] == "This process does no batches: restart the viewer."
