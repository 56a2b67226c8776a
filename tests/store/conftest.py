"""Folders of small pictures, and projects of them that are closed after the test."""

import time

import numpy as np
import pytest
from PIL import Image

from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore

SIZE = (40, 48)


def pictures(folder, count=3, size=SIZE):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, size, np.uint8)).save(folder / f"ax{number}.png")
    return folder


def as_project(store):
    return Project(ImageStack(store.folder.name, store.images, store.images.rgb), keeper=store)


def paint(project, plane, value=1, at=5):
    masks = np.zeros(project.stack.shape, np.uint8)
    for index, mask in project.masks():
        masks[index][: mask.shape[0], : mask.shape[1]] = mask
    masks[plane, at : at + 6, 4:9] = value
    project.update_masks(masks)
    return masks


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "study")


@pytest.fixture
def opened():
    """Opens or makes projects and closes them after the test."""
    projects = []

    def make(path, how=ProjectStore.open):
        projects.append(as_project(how(path)))
        return projects[-1]

    yield make
    for project in projects:
        project.close()


@pytest.fixture
def painted(folder, opened):
    """A project with paint on its second image, closed again."""
    project = opened(folder, ProjectStore.create)
    paint(project, 1)
    project.name_classes({1: "nucleus", 2: "rim"})
    path, end = folder / "semigda" / "project.json", time.monotonic() + 5
    while '"checksum": ""' in path.read_text() and time.monotonic() < end:  # computed when there is nothing to write
        time.sleep(0.01)
    project.close()
    return folder
