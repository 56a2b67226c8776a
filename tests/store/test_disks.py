"""Disks that refuse, are full or are read-only: it is said, and what was saved before stays whole."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from napari_semigda.engine.types import EngineError
from napari_semigda.store import ProjectStore
from napari_semigda.store import writer as writing

from .conftest import paint, pictures


def test_a_disk_that_refuses_is_said_once_and_all_is_saved_when_it_takes_again(folder, opened, monkeypatch):
    monkeypatch.setattr(writing, "RETRY_S", 0.05)
    project = opened(folder, ProjectStore.create)
    said = []
    project.keeper.on_saving = said.append
    masks = folder / "semigda" / "masks"
    shutil.rmtree(masks, ignore_errors=True)
    masks.write_text("in the way")  # root may write into read-only folders, so rights do not test this
    paint(project, 0)
    paint(project, 1)
    end = time.monotonic() + 5
    while not said and time.monotonic() < end:
        time.sleep(0.01)
    assert not project.keeper.flush()
    masks.unlink()
    while "" not in said and time.monotonic() < end:
        time.sleep(0.01)
    assert project.keeper.flush()
    assert "cannot be saved" in said[0]
    assert said[-1] == ""
    assert sorted(path.name for path in masks.iterdir()) == ["ax0.tif", "ax1.tif"]


FILL = """
import resource, sys, threading
from pathlib import Path
import numpy as np
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore, writer
writer.RETRY_S = 0.05
store = ProjectStore.open(Path(sys.argv[1]))
project = Project(ImageStack("x", store.images), keeper=store)
heard = threading.Event()

def say(sentence):
    print(sentence or "saved again", flush=True)
    heard.set()

store.on_saving = say
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))  # every file is full after 64 bytes
noise = np.random.default_rng(0).integers(1, 9, project.stack.shape).astype(np.uint8)
project.update_masks(noise)
project.name_classes({1: "a name that makes the list of the project longer"})
heard.wait(30)
print(store.flush(), flush=True)
input()
heard.clear()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(store.flush(), heard.wait(30), store.close(), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="has no such limit")
def test_a_disk_that_fills_up_in_the_middle_of_a_file_leaves_the_old_one_whole(painted, opened):
    before = {path: path.read_bytes() for path in (painted / "semigda").rglob("*") if path.is_file()}
    child = subprocess.Popen(
        [sys.executable, "-c", FILL, str(painted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    said = child.stdout.readline()
    assert "cannot be saved (" in said and "free some space, or make the folder writable" in said
    assert child.stdout.readline() == "False\n"
    for name in ("project.json", "masks/ax1.tif"):
        path = painted / "semigda" / name
        assert path.read_bytes() == before[path]
    out, _ = child.communicate("\n", timeout=60)  # room was made
    assert "saved again" in out and "True True True" in out
    project = opened(painted)
    assert project.painted == (0, 1, 2)
    assert project.classes == {1: "a name that makes the list of the project longer"}
    assert not list(painted.rglob("*.part.*"))


@pytest.fixture
def powerless():
    """Makes folders read-only and this process one that has to mind; root has to become somebody else for it."""
    locked = []

    def lock(folder):
        for each in (folder, *folder.rglob("*")):
            locked.append((each, each.stat().st_mode))
            each.chmod(0o555 if each.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.seteuid(65534)

    yield lock
    if os.getuid() == 0:
        os.seteuid(0)
    for each, mode in locked:
        each.chmod(mode)


@pytest.fixture
def public():
    """A temporary folder that everybody can look into; that of pytest is its owner's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="has no such rights")
def test_a_project_on_a_read_only_disk_is_looked_at_and_nothing_is_written(public, opened, powerless):
    folder, bare = pictures(public / "study"), pictures(public / "bare")
    project = opened(folder, ProjectStore.create)
    paint(project, 1)
    project.review.mark("empty", 2)
    project.close()
    opened(folder).close()  # whatever is imported on the way is, before the rights are gone
    files = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in public.rglob("*")}
    powerless(public)

    project = opened(folder)
    (problem,) = project.keeper.problems
    assert problem == f"{folder} cannot be written to (Permission denied): what you paint there is not saved."
    assert (project.painted, project.review.empty()) == ((1,), {2})
    assert project.stack.data[0].any()
    paint(project, 0)
    project.name_classes({1: "other"})
    project.review.mark("empty", 2, False)
    project.keeper.pictures.put(0, np.zeros((4, 5, 3), np.uint8))
    assert project.painted == (0, 1)  # as long as the session lasts
    assert project.keeper.flush()
    project.close()
    with pytest.raises(EngineError, match=r"bare.semigda cannot be saved \(Permission denied\): free some space, or"):
        ProjectStore.create(bare)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in public.rglob("*")} == files
