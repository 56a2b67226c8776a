"""Saving beside the work: the latest version wins, and a kill leaves nothing half written and loses nothing saved."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from napari_semigda.engine.types import EngineError
from napari_semigda.store import ProjectStore
from napari_semigda.store.writer import Writer


def test_what_a_killed_process_left_half_written_goes_when_the_project_opens(painted, opened):
    home, project = painted / "semigda", opened(painted)
    (home / "rounds").mkdir(exist_ok=True)
    names = (
        ".1.part.project.json",
        "masks/.1.part.ax0.tif",
        "rounds/.round-1.semigda.1.part",
        "rounds/progress.part",
    )  # the last two as the trainer names them
    for name in names:
        (home / name).write_bytes(b"half")
    with pytest.raises(EngineError, match="is open already"):
        ProjectStore.open(painted)
    assert all((home / name).exists() for name in names)  # perhaps they are being written just now
    project.close()
    assert opened(painted).painted == (1,)
    assert not any((home / name).exists() for name in names)


def test_the_latest_version_wins_and_nothing_waits():
    release, done = threading.Event(), []
    writer = Writer(done.append)
    writer.put("a", release.wait)
    for number in range(50):
        writer.put("b", lambda number=number: done.append(number))
    release.set()
    assert writer.close()
    assert done == [49]


PAINT = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore
store = ProjectStore.open(Path(sys.argv[1]))
project = Project(ImageStack("x", store.images), keeper=store)
masks = np.zeros(project.stack.shape, np.uint8)
for stroke in range(1, 10_000):
    masks[stroke % 3] = stroke % 255 + 1
    masks[stroke % 3, 0, :2] = stroke % 256, stroke // 256
    project.update_masks(masks, [stroke % 3])
    project.name_classes({1: f"stroke {stroke}"})
    if stroke % 5 == 0:
        store.flush()
        print(stroke, flush=True)
"""


def test_killed_at_any_moment_nothing_is_half_written_and_nothing_saved_is_lost(folder, opened):
    opened(folder, ProjectStore.create).close()
    rng = np.random.default_rng(0)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", PAINT, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert process.stdout.readline() == "5\n"
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        saved = int(([5, *map(int, process.stdout.read().split())])[-1])  # the last that was acknowledged
        process.wait()
        process.stdout.close()
        project = opened(folder)
        assert project.keeper.problems == []
        assert int(project.classes[1].split()[1]) >= saved
        for plane, mask in project.masks():
            stroke = int(mask[0, 0]) + 256 * int(mask[0, 1])
            assert stroke >= saved - 2
            assert stroke % 3 == plane
            assert (mask.ravel()[2:] == stroke % 255 + 1).all()
        project.close()
        assert not list(folder.rglob(".*.part.*"))
