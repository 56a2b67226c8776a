"""`semigda evaluate`: figures checked by hand, and what it says of masks that do not fit."""

import json

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.cli import run

from .conftest import SIZE, disc, only_line, refused


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
