"""The command line as people and scripts use it: whole runs in real processes, and every bad input in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.numpy import save_file

from napari_semigda.cli import run
from napari_semigda.engine.checkpoint import SCHEMA
from napari_semigda.journal import FOLDER

SIZE = (64, 72)
STEPS = "12"


def disc(seed):
    """A noisy picture with a bright disc, and its mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    centre = rng.uniform(20, 44, 2)
    mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < rng.uniform(9, 15) ** 2
    return (60 + 100 * mask + rng.normal(0, 12, SIZE)).clip(0, 255).astype(np.uint8), mask.astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Four pictures, two of them with masks, and a place for results that does not exist yet."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for i in range(1, 5):
        picture, mask = disc(i)
        Image.fromarray(picture).save(images / f"{i}.png")
        if i < 3:
            Image.fromarray(mask).save(masks / f"{i}.png")
    return tmp_path


def train_args(folder, *more):
    return [
        "train",
        *("--images", str(folder / "images"), "--masks", str(folder / "masks")),
        *("--out", str(folder / "out" / "m.semigda"), "--max-steps", STEPS, *more),
    ]


def semigda(*args, **options):
    return subprocess.run(
        [sys.executable, "-m", "napari_semigda.cli", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        **options,
    )


def only_line(text):
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def refused(capfd, args, folder):
    """Run something that must end in one sentence, with nothing written; return the sentence."""
    before = sorted(folder.rglob("*"))
    assert run([str(arg) for arg in args]) == 2
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    assert sorted(folder.rglob("*")) == before
    return only_line(stderr)


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with drawn data and the model, stdout and stderr of a real training run."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in ("images", "masks", "truth", "test"):
        (folder / kind).mkdir()
    for i in range(1, 9):
        picture, mask = disc(i)
        Image.fromarray(picture).save(folder / "images" / f"{i}.png")
        if i < 4:
            Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    stack = [disc(20 + i) for i in range(4)]
    Image.fromarray(stack[0][0]).convert("RGB").save(folder / "test" / "a.jpg")
    tifffile.imwrite(folder / "test" / "b.tif", np.stack([s[0] for s in stack]), photometric="minisblack")
    volume = np.stack([s[0] for s in stack], -1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.5, 0.5, 2, 1])), folder / "test" / "c.nii.gz")
    Image.fromarray(stack[0][1]).save(folder / "truth" / "a.png")
    tifffile.imwrite(folder / "truth" / "b.tif", np.stack([s[1] for s in stack]), photometric="minisblack")
    tifffile.imwrite(folder / "truth" / "c.tif", np.stack([s[1] for s in stack]), photometric="minisblack")
    Image.fromarray(stack[0][1]).save(folder / "truth" / "never.png")
    done = semigda(*train_args(folder, "--json", "--seed", "1"))
    return folder, done


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


def test_predict_and_evaluate(trained):
    folder, _ = trained
    out = folder / "predicted"
    done = semigda(
        *("predict", "--model", folder / "out" / "m.semigda", "--out", out, "--probabilities", "--uncertainty"),
        *("--images", folder / "test" / "a.jpg", folder / "test" / "b.tif", "--device", "cpu"),
        *("--images", folder / "test" / "c.nii.gz"),
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert only_line(done.stderr) == f"Wrote the masks of 3 files into {out}."
    masks = {"a.png", "b.tif", "c.nii.gz"}
    maps = {f"{stem}_{kind}.tif" for stem in "abc" for kind in ("probabilities", "uncertainty")}
    assert {path.name for path in out.iterdir()} == masks | maps
    with Image.open(out / "a.png") as image:
        assert image.mode == "L" and image.size == SIZE[::-1]
    stack = tifffile.imread(out / "b.tif")
    assert (stack.shape, stack.dtype) == ((4, *SIZE), np.uint8) and set(np.unique(stack)) <= {0, 1}
    volume = nibabel.load(out / "c.nii.gz")
    assert volume.shape == (*SIZE, 4) and volume.header.get_zooms() == (0.5, 0.5, 2)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(volume.dataobj), -1, 0), stack)  # the same pictures
    probabilities = tifffile.imread(out / "b_probabilities.tif")
    assert (probabilities.shape, probabilities.dtype) == ((4, 2, *SIZE), np.float32)
    np.testing.assert_array_equal(probabilities.argmax(1), stack)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    doubt = tifffile.imread(out / "a_uncertainty.tif")
    assert (doubt.shape, doubt.dtype) == (SIZE, np.float32) and 0 <= doubt.min() <= doubt.max() <= 1

    done = semigda("evaluate", "--predictions", out, "--truth", folder / "truth", "--json")
    assert done.returncode == 0 and "never.png" in only_line(done.stderr)
    result = json.loads(only_line(done.stdout))
    assert (result["images"], result["unit"], result["missing"]) == (9, "px", ["never.png"])
    assert result["unexpected"] == []
    dice = result["by_class"]["1"]["dice"]
    assert dice["images"] == 9 and 0 <= dice["mean"] <= 1
    assert result["overall"]["dice"] == dice


def test_ctrl_c_keeps_the_best_weights(folders):
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


def test_help_needs_no_torch():
    code = (
        "import sys; from napari_semigda.cli import run; assert run(['train', '--help']) == 0;"
        "assert not {'torch', 'monai', 'napari', 'qtpy', 'skimage'} & set(sys.modules), set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in ("images", "masks", "out", "time", "minutes", "backbone", "device", "init", "sparse", "seed", "json"):
        assert f"--{option}" in done.stdout


# Bad input: training --------------------------------------------------------------------------------------------------


def test_bad_input_in_a_real_process(folders):
    """As below, but through the interpreter's own exit: status, one line, no traceback."""
    Image.fromarray(disc(1)[1][:-1]).save(folders / "masks" / "1.png")
    done = semigda(*train_args(folders))
    assert (done.returncode, done.stdout) == (2, "")
    assert only_line(done.stderr).startswith("The mask of 1.png is 63 x 72 pixels but the image is 64 x 72")
    assert not (folders / "out").exists()


def empty_folder(folder):
    for path in (folder / "images").iterdir():
        path.unlink()


def no_masks(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()


def unpainted(folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(path)


def one_class(folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.full(SIZE, 3, np.uint8)).save(path)


def zero_bytes(folder):
    (folder / "images" / "3.png").write_bytes(b"")


def truncated(folder):
    data = (folder / "images" / "3.png").read_bytes()
    (folder / "images" / "3.png").write_bytes(data[: len(data) // 2])


def truncated_mask(folder):
    data = (folder / "masks" / "2.png").read_bytes()
    (folder / "masks" / "2.png").write_bytes(data[: len(data) // 2])


def not_an_image(folder):
    (folder / "images" / "3.png").write_text("hello")


def nan_image(folder):
    tifffile.imwrite(folder / "images" / "5.tif", np.full(SIZE, np.nan, np.float32))


def constant_image(folder):
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(folder / "images" / "3.png")


def tiny_image(folder):
    Image.fromarray(disc(3)[0][:9, :9]).save(folder / "images" / "3.png")


def twins(folder):
    tifffile.imwrite(folder / "images" / "3.tif", disc(3)[0])


def replaced_mask(folder, mask):
    (folder / "masks" / "2.png").unlink()
    tifffile.imwrite(folder / "masks" / "2.tif", mask)


def float_labels(folder):
    replaced_mask(folder, disc(2)[1].astype(np.float32))


def negative_labels(folder):
    replaced_mask(folder, -disc(2)[1].astype(np.int16))


def large_labels(folder):
    replaced_mask(folder, disc(2)[1].astype(np.uint16) * 1000)


def too_many_classes(folder):
    replaced_mask(folder, np.arange(np.prod(SIZE)).reshape(SIZE).astype(np.uint16) % 34)


def coloured_mask(folder):
    Image.fromarray(np.dstack([disc(2)[1] * 200, disc(1)[1], disc(2)[1]])).save(folder / "masks" / "2.png")


def strange_mask(folder):
    for path in (folder / "masks").iterdir():
        path.rename(path.with_name(f"label_{path.name}"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (empty_folder, ["images holds no image"]),
        (no_masks, ["masks holds no image"]),
        (unpainted, ["Every mask is empty"]),
        (one_class, ["only one class (3)"]),
        (zero_bytes, ["3.png", "zero bytes"]),
        (truncated, ["3.png", "truncated"]),
        (truncated_mask, ["2.png", "truncated"]),
        (not_an_image, ["3.png", "cannot be read"]),
        (nan_image, ["5.tif", "NaN"]),
        (constant_image, ["3.png", "every pixel is 9"]),
        (tiny_image, ["3.png", "9 x 9"]),
        (twins, ["3.png", "3.tif", "rename"]),
        (float_labels, ["mask of 2.png", "float32"]),
        (negative_labels, ["mask of 2.png", "negative label -1"]),
        (large_labels, ["mask of 2.png", "label 1000"]),
        (too_many_classes, ["33 classes"]),
        (coloured_mask, ["2.png", "colours"]),
        (strange_mask, ["1.png", "masks"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_data(folders, capfd, spoil, says):
    spoil(folders)
    sentence = refused(capfd, train_args(folders), folders)
    assert all(word in sentence for word in says), sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_refusals_are_the_same_with_json(folders, capfd, form):
    constant_image(folders)
    assert "3.png" in refused(capfd, train_args(folders, *form), folders)


def test_masks_of_a_project_bring_their_names_and_style(folders, capfd, monkeypatch):
    asked = []
    monkeypatch.setattr("napari_semigda.engine.train.Trainer.fit", lambda _, request: asked.append(request) or [])
    index = {"schema": 1, "classes": [{"id": 1, "name": "disc", "colour": "#0072b2"}], "scribbles": True}
    (folders / "project.json").write_text(json.dumps(index | {"images": [], "rounds": [], "in_use": None}))
    assert run(train_args(folders)) == 0
    request = asked[0]
    assert (request.classes, request.colours, request.settings.sparse) == ({1: "disc"}, {1: "#0072b2"}, True)
    assert "painted with scribbles" in capfd.readouterr().err


def test_one_class_of_scribbles(folders, capfd):
    assert "only one class (1)" in refused(capfd, train_args(folders, "--sparse"), folders)


def test_output_that_cannot_be_written_is_said_before_the_images_are_read(folders, capfd):
    zero_bytes(folders)
    args = train_args(folders)
    for out, says in [
        (folders / "images", "is a folder"),
        (folders / "images" / "1.png" / "m.semigda", "1.png is a file"),
        ("/proc/nowhere/m.semigda", "/proc/nowhere"),
    ]:
        args[args.index("--out") + 1] = out
        assert says in refused(capfd, args, folders)


def missing_device():
    return "cuda" if not torch.cuda.is_available() else "mps"


def test_a_device_that_is_not_there(folders, capfd):
    refusal = refused(capfd, train_args(folders, "--device", missing_device()), folders)
    assert missing_device() in refusal.lower()


def strange_models(folder):
    """Name of a bad model file -> what must be said of it."""
    tensor = {"weights.a": np.zeros(3, np.float32)}
    save_file(
        tensor, folder / "newer.semigda", metadata={"semigda": json.dumps({"schema": SCHEMA + 1, "version": "99"})}
    )
    save_file(tensor, folder / "foreign.safetensors", metadata={"format": "pt"})
    (folder / "picture.semigda").write_bytes((folder / "images" / "1.png").read_bytes())
    (folder / "zero.semigda").write_bytes(b"")
    return {
        "newer.semigda": "newer",
        "foreign.safetensors": "not",
        "picture.semigda": "",
        "zero.semigda": "",
        "gone": "",
    }


def test_model_files_that_are_not_ours(folders, capfd):
    for name, says in strange_models(folders).items():
        sentence = refused(capfd, train_args(folders, "--init", folders / name), folders)
        assert name in sentence and says in sentence
        predict = ["predict", "--model", folders / name, "--images", folders / "images", "--out", folders / "out"]
        sentence = refused(capfd, predict, folders)
        assert name in sentence and says in sentence


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "train, predict, evaluate, export, doctor or report"),
        (["dance"], "dance"),
        (["train", "--masks", "m", "--out", "o"], "--images"),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--backbone", "huge"], "'huge' is not one of"),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--minutes", "soon"], "--minutes"),
        (["train", "--images", "i", "--masks", "m", "--out", "o", "--minutes", "0"], "0 minutes"),
        (
            ["train", "--images", "i", "--masks", "m", "--out", "o", "--minutes", "3", "--time", "quick"],
            "as quick and as 3 minutes",
        ),
        (["train", "--images", "nowhere", "--masks", "m", "--out", "o"], "nowhere is not there"),
        (["predict", "--model", "m", "--out", "o", "--images"], "--images"),
        (["predict", "--model", "m", "--out", "o", "--images", "x.png", "--wrong"], "--wrong"),
    ],
)
def test_usage_errors_are_one_sentence(args, says, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(args) == 2
    sentence = only_line(capfd.readouterr().err)
    assert says in sentence and sentence.endswith(".")
    assert list(tmp_path.iterdir()) == []


# Bad input: prediction ------------------------------------------------------------------------------------------------


@pytest.fixture
def predicting(trained, folders):
    return ["predict", "--model", trained[0] / "out" / "m.semigda", "--out", folders / "out", "--images"]


@pytest.mark.parametrize("spoil", [zero_bytes, truncated, not_an_image, constant_image, tiny_image, nan_image])
def test_nothing_is_predicted_when_one_image_is_bad(predicting, folders, capfd, spoil):
    spoil(folders)
    sentence = refused(capfd, [*predicting, folders / "images"], folders)
    assert ("5.tif" if spoil is nan_image else "3.png") in sentence


def test_predict_never_writes_over_an_image(predicting, folders, capfd):
    predicting[predicting.index("--out") + 1] = folders / "images"
    sentence = refused(capfd, [*predicting, folders / "images"], folders)
    assert "would replace the image" in sentence and "1.png" in sentence


def test_predict_refuses_what_it_cannot_place(predicting, folders, capfd):
    assert "gone.png" in refused(capfd, [*predicting, folders / "gone.png"], folders)
    tifffile.imwrite(folders / "1.tif", disc(1)[0])
    sentence = refused(capfd, [*predicting, folders / "images", folders / "1.tif"], folders)
    assert "1.png" in sentence and "1.tif" in sentence
    predicting[predicting.index("--out") + 1] = folders / "1.tif"
    assert "1.tif is a file" in refused(capfd, [*predicting, folders / "images"], folders)
    predicting[predicting.index("--out") + 1] = folders / "out"
    device = ["--device", missing_device()]
    assert missing_device() in refused(capfd, [*predicting, folders / "images", *device], folders).lower()


# Batches --------------------------------------------------------------------------------------------------------------


def outputs(folders):
    return {path.relative_to(folders / "out").as_posix() for path in (folders / "out").rglob("*") if path.is_file()}


def test_predict_writes_overlays_and_measurements(predicting, folders, capfd):
    assert run([str(arg) for arg in [*predicting, folders / "images", "--overlays", "--measurements"]]) == 0
    assert capfd.readouterr().err == f"Wrote the masks of 4 files into {folders / 'out'}.\n"
    masks = {f"{i}.png" for i in range(1, 5)}
    assert outputs(folders) == masks | {f"overlays/{name}" for name in masks} | {"measurements.csv", "totals.csv"}
    rows = (folders / "out" / "totals.csv").read_text().splitlines()
    assert rows[0].startswith("file,class,class_name,planes") and len(rows) == 5
    area = np.count_nonzero(np.asarray(Image.open(folders / "out" / "1.png")))
    assert rows[1].startswith("1.png,1,class 1,1") and f",{area}," in rows[1]


def test_predict_keeps_going_and_says_what_failed(predicting, folders, capfd):
    zero_bytes(folders)
    args = [str(arg) for arg in [*predicting, folders / "images", folders / "gone.tif", "--keep-going"]]
    assert run(args) == 1
    stdout, stderr = capfd.readouterr()
    first, second, last = stderr.splitlines()
    assert stdout == "" and first.startswith("Passed over: ") and "3.png is empty" in first and "gone.tif" in second
    assert last == f"Wrote the masks of 3 files into {folders / 'out'}; 2 failed."
    assert outputs(folders) == {"1.png", "2.png", "4.png"}


def test_predict_goes_on_where_it_stopped(predicting, folders, capfd):
    args = [str(arg) for arg in [*predicting, folders / "images", "--resume", "--measurements"]]
    assert run(args) == 0
    (folders / "out" / "2.png").unlink()
    capfd.readouterr()
    assert run(args) == 0
    assert capfd.readouterr().err == f"Wrote the masks of 1 file into {folders / 'out'}; 3 files finished before.\n"
    assert {"1.png", "2.png", "3.png", "4.png", "measurements.csv", "totals.csv"} < outputs(folders)
    assert run([*args, "--keep-going"]) == 0


def test_a_batch_that_is_interrupted_goes_on_later(trained, folders):
    """A real process, a real Ctrl+C while it predicts."""
    images = np.stack([disc(i)[0] for i in range(16)])
    for name in ("a", "b"):
        tifffile.imwrite(folders / "images" / f"{name}.tif", images, photometric="minisblack")
    args = ["predict", "--model", trained[0] / "out" / "m.semigda", "--images", folders / "images"]
    args += ["--out", folders / "out", "--resume", "--overlays"]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_semigda.cli", *map(str, args)],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets them ignore Ctrl+C, and so their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - nothing else runs here
    )
    try:
        begun = time.monotonic()
        while not (folders / "out" / "4.png").exists():
            assert process.poll() is None and time.monotonic() - begun < 120
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Interrupted" in only_line(stderr)
    assert not [name for name in outputs(folders) if "part" in name]
    finished = {name for name in outputs(folders) if "/" not in name}
    assert finished < {"1.png", "2.png", "3.png", "4.png", "a.tif", "b.tif"}
    notes = [json.loads(path.read_text()) for path in (folders / "out" / FOLDER).glob("*.json")]
    noted = sum("outputs" in note for note in notes)  # one whose overlays were still to come is done again
    assert 3 <= noted <= len(finished)
    done = semigda(*args)
    assert done.returncode == 0 and f"{noted} files finished before" in only_line(done.stderr)
    assert len(outputs(folders)) == 6 + 6 + 4 + 2 * 16  # masks, notes, overlays


# Evaluation -----------------------------------------------------------------------------------------------------------


def evaluate(folders, *more):
    return ["evaluate", "--predictions", str(folders / "guess"), "--truth", str(folders / "masks"), *more]


@pytest.fixture
def guesses(folders):
    (folders / "guess").mkdir()
    for i in (1, 2):
        mask = disc(i)[1]
        Image.fromarray(mask if i == 1 else mask * 0).save(folders / "guess" / f"{i}.png")
    return folders


def test_evaluate_by_hand(guesses, capfd):
    assert run(evaluate(guesses, "--json")) == 0
    result = json.loads(only_line(capfd.readouterr().out))
    summary = result["by_class"]["1"]
    assert summary["dice"] == {"mean": 0.5, "sd": pytest.approx(np.sqrt(0.5)), "images": 2}  # one perfect, one missed
    assert summary["hausdorff"] == {"mean": 0, "sd": None, "images": 1}
    assert run(evaluate(guesses)) == 0
    table = capfd.readouterr().out
    assert "0.5000 ± 0.7071 (2)" in table and "0.00 (1)" in table and "HD95 [px]" in table


def test_evaluate_in_millimetres(folders, capfd):
    (folders / "guess").mkdir()
    (folders / "masks" / "1.png").unlink()
    (folders / "masks" / "2.png").unlink()
    truth, guess = np.zeros((30, 30, 2), np.uint8), np.zeros((30, 30, 2), np.uint8)
    truth[10, 5:25], guess[14, 5:25] = 1, 1
    for folder, mask in (("masks", truth), ("guess", guess)):
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([0.5, 1, 1, 1])), folders / folder / "v.nii.gz")
    assert run(evaluate(folders, "--json")) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["unit"] == "mm" and result["by_class"]["1"]["hausdorff"]["mean"] == pytest.approx(2)


def test_evaluate_speaks_up(guesses, capfd):
    (guesses / "guess" / "2.png").unlink()
    Image.fromarray(disc(1)[1] * 7).save(guesses / "guess" / "1.png")
    Image.fromarray(disc(1)[1]).save(guesses / "guess" / "9.png")
    tifffile.imwrite(guesses / "guess" / "1_uncertainty.tif", np.zeros(SIZE, np.float32))
    assert run(evaluate(guesses, "--json")) == 0
    stdout, stderr = capfd.readouterr()
    missing, unexpected, strange = stderr.splitlines()
    assert "2.png" in missing and "9.png" in unexpected and "1_uncertainty" not in unexpected and "7" in strange
    result = json.loads(stdout)
    assert (result["missing"], result["unexpected"], result["strange_classes"]) == (["2.png"], ["9.png"], [7])


def test_evaluate_refuses(guesses, capfd):
    Image.fromarray(disc(1)[1][:-1]).save(guesses / "guess" / "1.png")
    sentence = refused(capfd, evaluate(guesses), guesses)
    assert str(guesses / "guess" / "1.png") in sentence and "63 x 72" in sentence
    tifffile.imwrite(guesses / "guess" / "1.tif", disc(1)[1].astype(np.float32))
    (guesses / "guess" / "1.png").unlink()
    assert "1.tif" in refused(capfd, evaluate(guesses), guesses)
    for path in (guesses / "guess").iterdir():
        path.rename(path.with_name("x" + path.name))
    assert "guess" in refused(capfd, evaluate(guesses), guesses)
