"""Help is quick, and options that make no sense are refused in one sentence."""

import subprocess
import sys

import pytest

from napari_semigda.cli import run

from .conftest import only_line


def test_help_needs_no_torch():
    code = (
        "import sys; from napari_semigda.cli import run; assert run(['train', '--help']) == 0;"
        "assert not {'torch', 'monai', 'napari', 'qtpy', 'skimage'} & set(sys.modules), set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in ("images", "masks", "out", "time", "minutes", "backbone", "device", "init", "sparse", "seed", "json"):
        assert f"--{option}" in done.stdout


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
