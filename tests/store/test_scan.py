"""Images that are missing, changed, damaged or of one name with another are named, and the others open."""

import os
import shutil
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.engine.types import EngineError
from napari_semigda.store import ProjectStore

from .conftest import SIZE, pictures


def test_missing_images_are_named_and_come_back_with_their_masks(painted, opened, tmp_path):
    shutil.move(painted / "ax1.png", tmp_path / "ax1.png")
    project = opened(painted)
    assert len(project.stack) == 2
    assert project.painted == ()
    assert project.keeper.problems[0].startswith("ax1.png is not in")
    project.name_classes({1: "other"})  # writes project.json
    project.close()
    shutil.move(tmp_path / "ax1.png", painted / "ax1.png")
    assert opened(painted).painted == (1,)


@pytest.mark.parametrize("same_size", [True, False])
def test_an_image_that_changed_is_named(painted, opened, same_size):
    path = painted / "ax0.png"
    content = bytearray(path.read_bytes())
    if same_size:
        content[-30] ^= 1
    else:
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(path)
        content = path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    store = ProjectStore.open(painted)
    said = list(store.problems)
    store.on_problem = said.append
    end = time.monotonic() + 5
    while not said and time.monotonic() < end:
        time.sleep(0.01)
    store.close()
    assert said[0].startswith("ax0.png changed since the project was last open")
    assert opened(painted).keeper.problems == []  # said once


def test_a_damaged_image_is_left_out_and_one_that_breaks_later_is_black(painted, opened):
    (painted / "ax0.png").write_bytes(b"no picture at all")
    project = opened(painted)
    assert len(project.stack) == 2
    assert "ax0.png cannot be read" in project.keeper.problems[0]
    said = []
    project.keeper.on_problem = said.append
    said.clear()
    (painted / "ax2.png").write_bytes(b"")
    for _ in range(2):
        project.stack.data._kept.clear()
        assert not project.stack.data[1].any()
    said = [sentence for sentence in said if "changed since" not in sentence]  # whoever compares checksums may see it
    assert len(said) == 1
    assert "ax2.png is empty" in said[0]


def test_a_folder_without_images_and_two_of_one_name_are_said(tmp_path, opened):
    empty = tmp_path / "empty"
    empty.mkdir()
    for wrong, said in ((empty, "holds no image"), (tmp_path / "gone", "is no folder")):
        with pytest.raises(EngineError, match=said):
            ProjectStore.create(wrong)
    assert list(empty.iterdir()) == []
    folder = pictures(tmp_path / "study", 2)
    tifffile.imwrite(folder / "ax0.tif", np.zeros(SIZE, np.uint8))
    project = opened(folder, ProjectStore.create)
    assert len(project.stack) == 2
    assert "left out, because the name in brackets is the same but for the ending" in project.keeper.problems[0]
    with pytest.raises(EngineError, match="is a project already: choose Open project"):
        ProjectStore.create(folder)
