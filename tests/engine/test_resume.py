"""A run that was cut off: gone on with to the same end, or not at all."""

import dataclasses
import os
import shutil
import signal
import sys
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_semigda.engine import planner, pseudo, resume
from napari_semigda.engine.checkpoint import read_header
from napari_semigda.engine.exchange import Job
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Settings, TrainRequest

from .conftest import drawn_planes

STEPS = 12


_step = resume.Checkpoints.step


def kept_at_once(self, run):
    """Wait until the disk has it, so that no step goes without."""
    _step(self, run)
    self.finish()


@pytest.fixture(autouse=True, scope="module")
def always():
    """A checkpoint after every step, a report too, and pseudo-masks in runs as short as these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "EVERY", 0.0)
        patch.setattr(resume.Checkpoints, "step", kept_at_once)
        patch.setattr(planner, "LEAST_STEPS", 0)
        patch.setattr(pseudo, "KEPT", 4)
        patch.setattr("napari_semigda.engine.reporter.REPORT_EVERY", -1.0)
        yield


def asked(folder, steps=STEPS, **changes):
    settings = Settings(minutes=60, max_steps=steps, crop=64, batch=1, device="cpu")
    request = TrainRequest(drawn_planes(3, 3), folder / "m.semigda", settings)
    return dataclasses.replace(request, checkpoint=folder / "unfinished", **changes)


def fit(request):
    return list(Trainer().fit(request))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The model of a run that nothing disturbed, which kept nothing to go on from."""
    request = dataclasses.replace(asked(tmp_path_factory.mktemp("whole")), checkpoint=None)
    last = fit(request)[-1]
    assert last.unlabelled_loss is not None and last.dice is not None  # all that can differ takes part
    assert [path.name for path in request.out.parent.iterdir()] == ["m.semigda"]
    return request.out


def cut_off(request, step):
    """Train until so many steps are over, and go without a word; returns the first step."""
    first = None
    for report in Trainer().fit(request):
        if report.stage not in ("checking", "starting"):
            first = first or report.step
            if report.step >= step:
                return first
    raise AssertionError("it was over before")


def assert_same(one, other):
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    headers = read_header(one), read_header(other)
    for header in headers:
        header["training"]["seconds"] = 0
    assert headers[0] == headers[1]


def test_a_run_that_was_cut_off_twice_ends_with_the_weights_of_one_that_was_not(tmp_path, undisturbed):
    """In the middle of stage 2, and when pseudo-masks and the held-out image take part; it repeats a plan."""
    request = asked(tmp_path, plan=undisturbed)
    again = dataclasses.replace(request, resume=True)
    assert cut_off(request, 4) == 1
    assert not request.out.exists()
    assert cut_off(again, 10) == 5
    assert fit(again)[2].step in (10, 11)
    assert_same(request.out, undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["m.semigda"]  # nothing is left to go on from


def test_so_does_a_correction(tmp_path, undisturbed):
    whole, cut = (asked(tmp_path / name, 4, init=undisturbed) for name in ("whole", "cut"))
    for request in (whole, cut):
        request.out.parent.mkdir()
    fit(whole)
    cut_off(cut, 2)
    fit(dataclasses.replace(cut, resume=True))
    assert_same(whole.out, cut.out)


def test_so_does_one_whose_strokes_were_spread(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.round.agree", lambda *_: True)
    runs = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        request = asked(tmp_path / name, 6)
        strokes = [
            None if p.mask is None else np.where(np.arange(64)[:, None] % 8, 0, p.mask + 1) for p in request.planes
        ]
        planes = tuple(
            dataclasses.replace(plane, mask=None if mask is None else mask.astype(np.uint8))
            for plane, mask in zip(request.planes, strokes, strict=True)
        )
        runs.append(
            dataclasses.replace(request, planes=planes, settings=dataclasses.replace(request.settings, sparse=True))
        )
    whole, cut = runs
    fit(whole)
    cut_off(cut, 4)  # strokes are spread before the third step
    fit(dataclasses.replace(cut, resume=True))
    assert read_header(whole.out)["training"]["strokes_spread"]
    assert_same(whole.out, cut.out)


AT_EVERY_STEP = (
    "from napari_semigda.engine import planner, pseudo, reporter, resume\n"
    "from napari_semigda.engine.worker import TorchEngine, run\n"
    "resume.EVERY, planner.LEAST_STEPS, pseudo.KEPT, reporter.REPORT_EVERY = 0.0, 0, 4, -1.0\n"
    "step = resume.Checkpoints.step\n"
    "resume.Checkpoints.step = lambda self, run: (step(self, run), self.finish())\n"
    "run(TorchEngine())\n"
)


def test_a_process_that_is_killed_is_gone_on_with_by_another(talk, tmp_path, undisturbed):
    request = dataclasses.replace(asked(tmp_path), checkpoint=None)
    command = (sys.executable, "-c", AT_EVERY_STEP)
    first = talk(command)
    first.begin(Job(request, 1))
    killed_at = int(np.random.default_rng(os.getpid()).integers(1, STEPS - 1))
    while first.hear("report")["step"] < killed_at:
        pass
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert (tmp_path / "unfinished.safetensors").exists(), killed_at
    second = talk(command)
    second.begin(Job(request, 1), resume={"note": "It was killed."})
    lines = second.hear_all()
    reports = [line for line in lines if line["kind"] == "report"]
    assert min(report["step"] for report in reports if report["stage"] == "learning" or report["step"]) >= killed_at
    assert {report["note"] for report in reports} == {"It was killed."}
    assert lines[-1]["model"] == str(request.out)
    first, second = load_file(request.out), load_file(undisturbed)
    assert all(torch.equal(first[name], second[name]) for name in second)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A request that was cut off after a step."""
    request = asked(tmp_path_factory.mktemp("left"), 3)
    cut_off(request, 1)
    return dataclasses.replace(request, resume=True)


def other_mask(planes):
    mask = planes[0].mask.copy()
    mask[5, 5] = 1 - mask[5, 5]
    return (dataclasses.replace(planes[0], mask=mask), *planes[1:])


def other_image(planes):
    image = planes[-1].image.copy()
    image[7, 9] ^= 1
    return (*planes[:-1], dataclasses.replace(planes[-1], image=image))


@pytest.mark.parametrize("change", [other_mask, other_image, lambda planes: planes[::-1], lambda planes: planes[:-1]])
def test_it_is_never_gone_on_with_for_other_images(left, change):
    with pytest.raises(EngineError, match="of other images, masks or settings"):
        fit(dataclasses.replace(left, planes=change(left.planes)))
    assert left.checkpoint.exists() and not left.out.exists()


def test_nor_for_other_settings(left, undisturbed):
    for settings in ({"seed": 1}, {"minutes": 3.0}, {"max_steps": 4}, {"crop": 96}):
        other = dataclasses.replace(left, settings=dataclasses.replace(left.settings, **settings))
        assert resume.found(left) and not resume.found(other)
    assert not resume.found(dataclasses.replace(left, init=undisturbed))
    elsewhere = dataclasses.replace(left.settings, device="cuda")  # what is left is of use on any device
    assert resume.found(dataclasses.replace(left, settings=elsewhere))


def test_what_is_damaged_or_missing_is_refused_in_words(left, tmp_path):
    part = tmp_path / "part"
    shutil.copy(left.checkpoint, part)
    with part.open("r+b") as file:
        file.truncate(part.stat().st_size // 2)
    with pytest.raises(EngineError, match="damaged"):
        fit(dataclasses.replace(left, checkpoint=part))
    with pytest.raises(EngineError, match="no unfinished run"):
        fit(dataclasses.replace(left, checkpoint=tmp_path / "none"))


def test_a_run_that_is_stopped_as_it_goes_on_is_the_model_of_what_was_left(left, tmp_path):
    checkpoint = tmp_path / "unfinished"
    shutil.copy(left.checkpoint, checkpoint)
    trainer = Trainer()
    request = dataclasses.replace(left, checkpoint=checkpoint, out=tmp_path / "m.semigda")
    reports = []
    for report in trainer.fit(request):
        trainer.stop()
        reports.append(report)
    last = reports[-1]
    assert (last.stage, last.step) == ("stopped", 1)
    assert request.out.exists() and not checkpoint.exists()


def test_a_disk_that_refuses_stops_no_training(tmp_path):
    request = asked(tmp_path, 2)
    (tmp_path / "file").touch()
    request = dataclasses.replace(request, checkpoint=tmp_path / "file" / "unfinished")
    assert fit(request)[-1].stage == "done"


def test_training_does_not_wait_for_a_slow_disk(monkeypatch, tmp_path):
    now, begun, disk = [0.0], [], threading.Event()

    def slow(*_):
        begun.append(now[0])
        assert disk.wait(30)

    monkeypatch.setattr(resume.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(resume, "_write", slow)
    monkeypatch.setattr(resume, "snapshot", lambda *_: ())
    monkeypatch.setattr(resume, "digest", lambda _: "x")
    monkeypatch.setattr(resume, "EVERY", 8.0)
    kept = resume.Checkpoints(tmp_path / "unfinished")
    run = type("Run", (), {"request": None})
    for now[0] in range(1, 31):
        _step(kept, run)
    disk.set()
    kept.finish()
    for now[0] in range(31, 60):
        _step(kept, run)
        kept.finish()
    assert begun == [8, 31, 39, 47, 55]  # none while the first was being written, then every 8 s


# -- what goes wrong in the middle ------------------------------------------------------------------------------------


def failing(monkeypatch, error, fails):
    """Steps of stage 2 fail when `fails(objective, which)` says so."""
    whole, count = Objective.segmentation, []

    def segmentation(self, weight):
        count.append(1)
        if fails(self, len(count)):
            raise error
        return whole(self, weight)

    monkeypatch.setattr(Objective, "segmentation", segmentation)


@pytest.fixture
def a_card(monkeypatch):
    """The computer seems to have a graphics card."""
    monkeypatch.setattr(
        "napari_semigda.engine.train.pick_device", lambda name: torch.device("cpu" if name == "cpu" else "cuda")
    )
    monkeypatch.setattr("napari_semigda.engine.several.pick_device", lambda _: torch.device("cpu"))


def test_a_graphics_card_that_is_lost_hands_over_to_the_cpu(tmp_path, monkeypatch, undisturbed, a_card):
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure")
    failing(monkeypatch, lost, lambda _, count: count == 7)
    request = asked(tmp_path)
    request = dataclasses.replace(request, settings=dataclasses.replace(request.settings, device="auto"))
    trainer = Trainer()
    reports = list(trainer.fit(request))
    assert trainer.device == "cpu"
    assert reports[-1].stage == "done"
    assert reports[-1].note == "The graphics card stopped working. The run goes on on the CPU."
    assert [r.step for r in reports if r.stage in ("learning", "unlabelled")].count(5) == 1  # not from the start
    first, second = load_file(request.out), load_file(undisturbed)
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_card_that_is_too_small_hands_over_as_well(tmp_path, monkeypatch, a_card):
    failing(monkeypatch, torch.cuda.OutOfMemoryError("CUDA out of memory."), lambda _, count: count == 1)
    request = asked(tmp_path, 3)
    last = fit(dataclasses.replace(request, settings=dataclasses.replace(request.settings, device="auto")))[-1]
    assert last.stage == "done" and last.note.startswith("The memory of the graphics card is too small")


def test_without_a_card_there_is_nowhere_to_go(tmp_path, monkeypatch):
    failing(monkeypatch, RuntimeError("CUDA error: no kernel image"), lambda *_: True)
    with pytest.raises(EngineError, match="no kernel image"):
        fit(asked(tmp_path, 3))


def test_where_memory_runs_out_steps_get_smaller(tmp_path, monkeypatch):
    """First fewer crops, then smaller ones."""
    error = RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
    failing(monkeypatch, error, lambda objective, _: objective.crops * objective.labelled.view.crop > 64)
    request = asked(tmp_path)
    settings = dataclasses.replace(request.settings, crop=96, batch=4)
    planes = drawn_planes(3, 3)
    reports = fit(dataclasses.replace(request, planes=planes, settings=settings))
    assert reports[-1].stage == "done"
    notes = list(dict.fromkeys(report.note for report in reports))
    pieces = ("2 pieces of 96 x 96", "1 piece of 96 x 96", "1 piece of 64 x 64")
    assert notes == ["", *(f"Memory ran out, so training goes on with {each} pixels at a time." for each in pieces)]
    plan = read_header(request.out)["plan"]
    assert (plan["batch"], plan["crop"]) == (1, 64)
