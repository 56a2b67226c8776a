"""What the viewer and the training process hand to each other arrives whole, once, and nothing else is read."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_semigda.engine import answers, exchange
from napari_semigda.engine.exchange import Job, Outcome, PredictRequest, Standing
from napari_semigda.engine.types import (
    BatchReport,
    BatchRequest,
    EngineError,
    Plane,
    Prediction,
    Report,
    Settings,
    TrainRequest,
)


def planes(count=3, shape=(20, 30)):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, *shape)).astype(np.uint8)
    mask = np.zeros(shape, np.uint8)
    mask[5:9, 5:9] = 2
    return tuple(Plane(f"brain, slice {i}", images[i], mask if i == 1 else None, "brain") for i in range(count))


def job(tmp_path, generation=1, **options):
    names, colours = {2: "nucleus"}, {2: "#0072b2"}
    request = TrainRequest(planes(), tmp_path / "model.semigda", Settings(max_steps=3), classes=names, colours=colours)
    return Job(request, generation, **options)


def write(folder, what):
    return list(exchange.write_job(folder, what))


def image_files(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}


def test_a_training_job_comes_back_as_it_was_sent(tmp_path):
    before = Standing(tmp_path / "old.semigda", 0.8, ("brain, slice 1",), 2)
    sent = job(tmp_path, 4, view=2, before=before)
    assert write(tmp_path / "run", sent) == [(1, 3), (2, 3), (3, 3)]

    got = exchange.read_job(tmp_path / "run" / "request.json")

    assert (got.generation, got.view, got.before) == (4, 2, before)
    assert got.request.settings == sent.request.settings
    assert got.request.out == sent.request.out
    assert got.request.init is None
    assert (got.request.classes, got.request.colours) == ({2: "nucleus"}, {2: "#0072b2"})
    for one, other in zip(sent.request.planes, got.request.planes, strict=True):
        assert (one.name, one.group) == (other.name, other.group)
        np.testing.assert_array_equal(one.image, other.image)
        assert isinstance(other.image, np.memmap)
    assert [plane.mask is not None for plane in got.request.planes] == [False, True, False]
    np.testing.assert_array_equal(got.request.planes[1].mask, sent.request.planes[1].mask)


def test_a_batch_comes_back_as_it_was_sent(tmp_path):
    images = (tmp_path / "ä.png", tmp_path / "b.tif")
    request = BatchRequest(
        *(tmp_path / "m.semigda", images, tmp_path / "out", True), maps=("uncertainty",), resume=False, smooth=1.5
    )
    write(tmp_path, Job(request, 3))
    got = exchange.read_job(tmp_path / "request.json")
    assert got.request == request and got.generation == 3


def test_a_prediction_job_comes_back_as_it_was_sent(tmp_path):
    first, *others = planes()
    slices = (replace(first, volume="brain 0", depth=2.5), *others)
    sent = Job(PredictRequest(slices, tmp_path / "m.semigda", "cpu", 1.5), 1)
    write(tmp_path, sent)
    got = exchange.read_job(tmp_path / "request.json").request
    assert isinstance(got, PredictRequest)
    assert (got.model, got.device, got.smooth, len(got.planes)) == (tmp_path / "m.semigda", "cpu", 1.5, 3)
    assert [(plane.volume, plane.depth) for plane in got.planes] == [("brain 0", 2.5), ("", None), ("", None)]


def test_images_are_written_once_and_masks_each_round(tmp_path):
    first = job(tmp_path, 1)
    write(tmp_path, first)
    written = image_files(tmp_path)

    write(tmp_path, job(tmp_path, 2))
    assert image_files(tmp_path) == written
    assert not list((tmp_path / "round-1").glob("*.npy"))
    assert list((tmp_path / "round-2").glob("mask-*.npy"))


def test_an_image_that_changed_is_written_again_and_the_old_one_removed(tmp_path):
    what = job(tmp_path)
    write(tmp_path, what)
    written = image_files(tmp_path)
    what.request.planes[0].image[0, 0] ^= 1
    write(tmp_path, what)
    now = image_files(tmp_path)
    assert len(now) == len(written) == 3
    assert len(now.items() & written.items()) == 2
    got = exchange.read_job(tmp_path / "request.json").request.planes[0].image
    np.testing.assert_array_equal(got, what.request.planes[0].image)


class Slow:
    """A lazy plane that counts how often it is computed."""

    def __init__(self, key):
        self.key, self.computed, self.shape, self.dtype = key, 0, (20, 30), np.dtype(np.float32)

    def __array__(self, dtype=None, copy=None):
        self.computed += 1
        return np.ones(self.shape, self.dtype)


def test_a_lazy_plane_is_computed_for_the_first_round_only(tmp_path):
    lazy = [Slow(f"stack-{i}") for i in range(3)]
    request = PredictRequest(tuple(Plane(str(i), image) for i, image in enumerate(lazy)), tmp_path / "m")
    for generation in (1, 2):
        for done, _ in exchange.write_job(tmp_path, Job(request, generation)):
            assert [x.computed for x in lazy] == [1] * done + [0] * (3 - done) or generation == 2
    assert [x.computed for x in lazy] == [1, 1, 1]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: np.save(path, np.zeros((2, 2))), "not the array expected"),
        (lambda path: np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True), "damaged"),
    ],
    ids=["cut short", "empty", "gone", "another", "pickled"],
)
def test_a_damaged_array_is_refused_in_one_sentence(tmp_path, damage, said):
    write(tmp_path, job(tmp_path))
    damage(next((tmp_path / "images").glob("00000*")))
    with pytest.raises(EngineError, match=said):
        exchange.read_job(tmp_path / "request.json")


def edited(**changes):
    def edit(path):
        content = json.loads(path.read_text())
        if "file" in changes:
            content["planes"][0]["image"]["file"] = changes["file"]
        else:
            content |= changes
        path.write_text(json.dumps(content))

    return edit


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_text("{"), "damaged"),
        (lambda path: path.write_text("[]"), "damaged"),
        (lambda path: path.unlink(), "missing"),
        (edited(schema=99), "another version"),
        (edited(planes=[{}]), "damaged"),
        (edited(settings={"minutes": 1, "surprise": 2}), "damaged"),
        (edited(file="../outside.npy"), "leads out"),
        (edited(file="/etc/passwd"), "leads out"),
        (edited(file="C:\\windows.npy"), "leads out"),
    ],
)
def test_a_request_that_is_not_ours_is_refused_in_one_sentence(tmp_path, damage, said):
    np.save(tmp_path / "outside.npy", np.zeros((20, 30)))
    folder = tmp_path / "run"
    write(folder, job(tmp_path))
    damage(folder / "request.json")
    with pytest.raises(EngineError, match=said):
        exchange.read_job(folder / "request.json")


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.handover.shutil.disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(EngineError, match="are free"):
        write(tmp_path, job(tmp_path))
    assert not list(tmp_path.rglob("*.npy"))
    assert not (tmp_path / "request.json").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"Cannot make the folder .*file"):
        write(tmp_path / "file", job(tmp_path))


def test_arrays_of_python_objects_are_refused(tmp_path):
    request = PredictRequest((Plane("odd", np.array([[None, 1]], dtype=object)),), tmp_path / "m")
    with pytest.raises(EngineError, match="odd does not hold numbers"):
        write(tmp_path, Job(request))


def test_how_a_job_ended_and_how_far_a_batch_is_come_back():
    ended = Outcome(Path("m.semigda"), True, True, ("a.png is empty: remove it.",), {0: "background", 2: "rim"})
    for sent in (ended, Outcome()):
        assert answers.outcome_from_json(json.loads(json.dumps(answers.outcome_to_json(sent)))) == sent
    sent = BatchReport(9, 5, 2, 1, ("a.png is empty: remove it.",), 5 / 9, 3.0, None)
    assert answers.batch_from_json(json.loads(json.dumps(answers.batch_to_json(sent)))) == sent


def test_a_report_and_its_preview_come_back_and_leave_no_file(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    doubt = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    sent = Report(
        "learning",
        step=7,
        loss=0.5,
        unlabelled_loss=float("nan"),
        dice=0.75,
        dice_by_class={1: 0.7, 2: float("nan")},
        held_out=("a", "b"),
        dice_by_image={"a": 0.75, "b": float("nan")},
        model=Path("/somewhere/m.semigda"),
        preview=Prediction(2, "brain, slice 2", mask, doubt, description=np.array([0.12345678, 2], np.float32)),
    )
    line = json.dumps(answers.report_to_json(sent, tmp_path, "answer"), allow_nan=False)
    got = answers.report_from_json(json.loads(line), tmp_path)

    assert (got.stage, got.step, got.loss, got.dice, got.held_out) == ("learning", 7, 0.5, 0.75, ("a", "b"))
    assert got.unlabelled_loss is None
    assert got.dice_by_class == {1: 0.7, 2: None}
    assert got.dice_by_image == {"a": 0.75}
    np.testing.assert_allclose(got.preview.description, [0.1235, 2])
    assert got.model == sent.model
    np.testing.assert_array_equal(got.preview.mask, mask)
    np.testing.assert_allclose(got.preview.doubt, doubt, atol=1 / 255)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("new", "old", "beaten"),
    [
        (("a",), ("a",), True),
        (("a",), ("b",), False),
        ((), (), False),
    ],
)
def test_models_are_compared_on_the_very_same_images_only(new, old, beaten):
    assert Standing(Path("old"), 0.96, old).beats(Standing(Path("new"), 0.8, new)) is beaten
    assert not Standing(Path("old"), 0.94, old).beats(Standing(Path("new"), 0.8, new))
    assert not Standing(Path("old"), None, old).beats(Standing(Path("new"), 0.8, new))


def test_the_exchange_needs_neither_torch_nor_qt():
    code = (
        "import sys, napari_semigda.engine.exchange, napari_semigda.project\n"
        "print([m for m in ('torch', 'qtpy', 'napari') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
