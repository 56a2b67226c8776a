"""Training by several processes: as one would, with one voice, and ended by all when one ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from napari_semigda.engine import several
from napari_semigda.engine.check import check_settings
from napari_semigda.engine.checkpoint import read_header
from napari_semigda.engine.planner import Plan, smaller
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Settings, TrainRequest
from tests.engine import together
from tests.engine.conftest import draw_discs

ROOT = Path(__file__).parents[2]
ROUNDING = 1e-5  # of a loss; 2e-7 was found
PIXEL = 1e-3  # ... of pseudo-masks, where rounding lets a pixel count that else just does not; 7e-5 was found
NOISE = 0.01  # ... of the painted pixels, where each process draws its own noise for latents; 0.0012 was found


def pictures(folder):
    for i in range(4):
        image, mask = draw_discs(i)
        for kind, values in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(exist_ok=True)
            if kind == "images" or i < 2:
                Image.fromarray(values).save(folder / kind / f"{i}.png")


def one_thread(**more):
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | more


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder that two processes have worked in, and how the first ended."""
    folder = tmp_path_factory.mktemp("two")
    pictures(folder)
    command = [sys.executable, "-m", "tests.engine.together", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=one_thread(), check=False, timeout=200)
    assert (folder / "quiet-0.json").exists(), done.stderr
    return folder, done


def told(folder, name):
    """What both processes noted."""
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["quiet", "noisy"])
def test_the_loss_is_that_of_one_process_with_all_the_crops(two, name, tmp_path, monkeypatch):
    """It repeats the plan of the two, so it takes four crops a step."""
    folder, _ = two
    for module, value in (("reporter.REPORT_EVERY", -1.0), ("pseudo.KEPT", 8)):
        monkeypatch.setattr(f"napari_semigda.engine.{module}", value)
    if name == "quiet":
        monkeypatch.setattr("napari_semigda.engine.backbones.Encoded.sample", lambda self: self.latent_mean)
    request = together.asked(tmp_path / "one.semigda", plan=folder / f"{name}.semigda")
    request = replace(request, settings=replace(request.settings, devices=1))
    alone, both = together.curve_of(Trainer().fit(request)), told(folder, name)[0]["curve"]
    steps, painted, unlabelled = zip(*alone, strict=True)
    steps_of_both, painted_of_both, unlabelled_of_both = zip(*both, strict=True)
    assert steps == steps_of_both and unlabelled_of_both[-1] is not None  # pseudo-masks took part
    assert painted[2:] == pytest.approx(painted_of_both[2:], rel=ROUNDING if name == "quiet" else NOISE)
    if name == "quiet":
        assert [each for each in unlabelled if each is not None] == pytest.approx(
            [each for each in unlabelled_of_both if each is not None], rel=PIXEL
        )


def test_both_end_with_the_same_weights_and_random_numbers(two):
    for name in ("noisy", "small", "quiet"):
        first, second = told(two[0], name)
        assert (first["weights"], first["random"]) == (second["weights"], second["random"]), name
    assert told(two[0], "noisy")[0]["weights"] != told(two[0], "quiet")[0]["weights"]


def test_a_run_that_was_cut_off_is_gone_on_with_by_both(two):
    folder, _ = two
    assert told(folder, "cut")[1]["curve"][-1][0] == together.CUT_AT
    for undisturbed, resumed in zip(told(folder, "noisy"), told(folder, "resumed"), strict=True):
        assert resumed["weights"] == undisturbed["weights"]
        assert min(step for step, *_ in resumed["curve"][2:]) == together.CUT_AT
    assert not (folder / "unfinished").exists()


def test_where_memory_runs_out_in_one_steps_get_smaller_in_both(two):
    notes = [each["note"] for each in told(two[0], "small")]
    assert notes == ["Memory ran out, so training goes on with 2 pieces of 64 x 64 pixels at a time."] * 2
    assert read_header(two[0] / "small.semigda")["plan"]["batch"] == 2


def test_who_has_other_images_is_refused(two):
    for each in told(two[0], "other"):
        assert each["refused"].startswith("Process 2 has other images, masks or settings than the first")
    assert not (two[0] / "other.semigda").exists()


def test_the_command_speaks_with_one_voice_and_writes_one_model(two):
    folder, done = two
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [report["step"] for report in reports if report["stage"] == "done"] == [3]
    assert [path.name for path in (folder / "out").iterdir()] == ["m.semigda"]
    header = read_header(folder / "out" / "m.semigda")
    assert (header["training"]["settings"]["devices"], header["plan"]["batch"]) == (2, 2)


def test_what_fails_in_the_second_ends_both_with_a_sentence(two):
    folder, done = two
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["Training stopped because process 2 of 2 failed (ValueError: boom)."]
    first, second = told(folder, "process")
    with suppress(psutil.NoSuchProcess):
        psutil.Process(second["id"]).wait(20)  # until the system has taken note that it ended
    assert first["id"] != second["id"] and not psutil.pid_exists(second["id"])


def test_the_connection_ends_before_python_does(two):
    """Left to the end of the process, its threads abort it now and then."""
    assert json.loads((two[0] / "end-0.json").read_text()) is False


def start(folder, rank, port):
    """One of two computers."""
    arguments = ["--images", folder / "images", "--masks", folder / "masks", "--out", folder / "m.semigda"]
    command = [
        sys.executable,
        "-m",
        "napari_semigda.cli",
        "train",
        *map(str, arguments),
        "--json",
        "--max-steps",
        "500",
    ]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank)}
    return subprocess.Popen(
        [*command, "--devices", "1", "--nodes", "2", "--device", "cpu"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread(**where),
    )  # fmt: skip


def test_a_computer_that_is_lost_ends_the_run_of_the_other(tmp_path):
    pictures(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = (start(tmp_path, rank, port) for rank in (0, 1))
    try:
        while json.loads(first.stdout.readline())["stage"] != "aligning":
            pass
        second.send_signal(signal.SIGKILL)
        begun = time.monotonic()
        _, sentence = first.communicate(timeout=60)
        assert (first.returncode, sentence.splitlines()) == (2, [several.LOST])
        assert time.monotonic() - begun < 30
        assert second.communicate()[0] == ""  # the first speaks for both
    finally:
        for each in (first, second):
            each.kill()
            each.wait()
    assert not (tmp_path / "m.semigda").exists()


# -- what is refused, and what one process does ----------------------------------------------------------------------


def refused(**settings):
    with pytest.raises(EngineError) as error, several.begin(Settings(**settings)):
        pass
    return str(error.value)


def test_devices_that_are_not_there_are_refused(monkeypatch):
    assert "choose the device cpu for 3 processes" in refused(devices=3)
    monkeypatch.setattr(several, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    said = "There are 2 graphics cards on this computer, not 4: ask for 2 devices at most."
    assert refused(devices=4, device="cuda") == said


def test_several_computers_must_know_each_other(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert "set MASTER_ADDR and MASTER_PORT" in refused(nodes=2, device="cpu")


def test_without_fabric_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    assert "pip install 'napari-semigda[several]'" in refused(devices=2, device="cpu")


def test_one_device_asks_nothing_of_fabric(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with several.begin(Settings()) as alone:
        assert alone is several.ALONE


@pytest.mark.parametrize("number", [{"devices": 0}, {"nodes": -1}])
def test_numbers_below_one_are_refused(tmp_path, number):
    with pytest.raises(EngineError, match="choose 1 or more"):
        check_settings(TrainRequest((), tmp_path / "m.semigda", Settings(**number)))


def test_a_run_that_devices_cannot_share_is_refused(two, tmp_path, monkeypatch):
    monkeypatch.setattr(several.Alone, "count", 3)
    request = together.asked(tmp_path / "m.semigda", plan=two[0] / "quiet.semigda")
    with pytest.raises(EngineError, match="4 crops a step, which 3 devices cannot share evenly"):
        list(Trainer().fit(request))


def test_devices_keep_even_shares_as_steps_get_smaller():
    plans = [Plan(crop=96, batch=12)]
    while (plan := smaller(plans[-1], devices=4)) is not None:
        plans.append(plan)
    assert [(plan.batch, plan.crop) for plan in plans] == [(12, 96), (4, 96), (4, 64)]
