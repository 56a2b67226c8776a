"""A `.semigda` file alone is enough: on another machine there is no project, no training image and no network."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image

from napari_semigda.engine.header import read_header
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.types import Plane
from tests.engine.conftest import draw_discs


def test_a_model_file_alone_predicts_elsewhere_as_at_home(tiny_run, tmp_path):
    request, _, model = tiny_run
    shutil.copy(model, tmp_path / "from a friend.semigda")
    picture, _ = draw_discs(31)
    Image.fromarray(picture).save(tmp_path / "mine.png")
    command = [sys.executable, "-m", "napari_semigda.cli", "predict", "--model", "from a friend.semigda"]
    result = subprocess.run(
        [*command, "--images", "mine.png", "--out", "masks"],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path), "TORCH_HOME": str(tmp_path), "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    elsewhere = np.asarray(Image.open(tmp_path / "masks" / "mine.png"))
    assert np.array_equal(elsewhere, Predictor(model, "cpu").predict(Plane("x", picture)).mask)

    header = read_header(model)
    assert str(request.out.parent) not in json.dumps(header)  # nothing points to where it was trained
    assert header["training"]["labelled"] == 3
    assert header["training"]["settings"]["max_steps"] == 40
    assert header["libraries"]["torch"]
