"""Folders of drawn discs, the command line in this process or one of its own, and a model that it trained."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.cli import run

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


def zero_bytes(folder):
    (folder / "images" / "3.png").write_bytes(b"")


@pytest.fixture(scope="session")
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


@pytest.fixture
def predicting(trained, folders):
    return ["predict", "--model", trained[0] / "out" / "m.semigda", "--out", folders / "out", "--images"]
