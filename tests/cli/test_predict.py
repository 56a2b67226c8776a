"""`semigda predict`: one picture or many, with what else it writes, and going on after a failure or Ctrl+C."""

import json
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import tifffile
from PIL import Image

from napari_semigda.cli import run
from napari_semigda.journal import FOLDER

from .conftest import SIZE, disc, only_line, semigda, zero_bytes

# Whole runs -----------------------------------------------------------------------------------------------------------


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
