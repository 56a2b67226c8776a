"""Images with five channels from the command line: chosen, recorded, replayed, and refused where they lack."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.cli import run
from napari_semigda.engine.header import read_header
from tests.engine.conftest import draw_discs


@pytest.fixture
def folders(tmp_path):
    """Three pictures of five channels, of which the fourth shows discs, and masks of two."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for seed in range(3):
        disc, mask = draw_discs(seed)
        pixels = np.random.default_rng(seed).integers(0, 4000, (5, *disc.shape)).astype(np.uint16)
        pixels[3] = disc.astype(np.uint16) * 12
        tifffile.imwrite(tmp_path / "images" / f"{seed}.tif", pixels, imagej=True, metadata={"axes": "CYX"})
        if seed < 2:
            Image.fromarray(mask).save(tmp_path / "masks" / f"{seed}.png")
    return tmp_path


def train(folder, *more):
    given = ("--images", folder / "images", "--masks", folder / "masks", "--out", folder / "m.semigda")
    return run(["train", *map(str, given), "--max-steps", "3", *more])


def predict(folder, *images):
    given = ("--model", folder / "m.semigda", "--out", folder / "out", "--images", *images)
    return run(["predict", *map(str, given), "--overlays", "--measurements", "--device", "cpu"])


def test_chosen_channels_from_training_to_tables(folders, capsys):
    assert train(folders, "--channels", "4,1", "--contrast", "dataset") == 0
    told = read_header(folders / "m.semigda")["input"]
    assert told["channels"] == [3, 0] and len(told["ranges"]) == 2 and not told["pictures"]
    Image.fromarray(draw_discs(5)[0]).save(folders / "grey.png")
    capsys.readouterr()
    assert predict(folders, folders / "images" / "2.tif", folders / "grey.png") == 2
    assert "grey.png has 1 channel, but channel 4 is wanted" in capsys.readouterr().err
    assert not list((folders / "out").glob("*.*"))  # nothing is written when one cannot be read
    assert predict(folders, folders / "images" / "2.tif") == 0
    assert tifffile.imread(folders / "out" / "2.tif").shape == draw_discs(2)[0].shape
    assert Image.open(folders / "out" / "overlays" / "2.png").mode == "RGB"
    assert (folders / "out" / "measurements.csv").is_file()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [("1,x", "give numbers"), ("7", "has 5 channels, but channel 7"), ("1,2,3,4", "choose up to 3"), ("0", "counted")],
)
def test_channels_that_are_not_there(folders, capsys, wanted, says):
    assert train(folders, "--channels", wanted) == 2
    assert says in capsys.readouterr().err
    assert not (folders / "m.semigda").exists()
