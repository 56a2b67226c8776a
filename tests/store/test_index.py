"""`project.json`: damaged, of a newer version, or with paths that lead elsewhere."""

import json

import pytest

from napari_semigda.engine.types import EngineError
from napari_semigda.store import ProjectStore


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 1}', "\x00" * 50])
def test_a_damaged_list_falls_back_on_the_version_before(painted, opened, damage):
    path = painted / "semigda" / "project.json"
    path.write_text(damage)
    project = opened(painted)
    assert project.painted == (1,)
    (problem,) = project.keeper.problems
    assert "project.json is damaged" in problem
    assert "the version before was opened" in problem
    assert path.with_name("project.json.damaged").read_text() == damage


def test_when_both_versions_are_damaged_a_new_project_takes_the_masks_over(painted, opened):
    for name in ("project.json", "project.json.previous"):
        (painted / "semigda" / name).write_text("{")
    with pytest.raises(EngineError, match="nor can the version before: choose New project"):
        ProjectStore.open(painted)
    assert opened(painted, ProjectStore.create).painted == (1,)
    assert (painted / "semigda" / "project.json.damaged").read_text() == "{"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/x.png", "..", "a\\..\\b.png", "C:x.png", "", 7])
def test_a_path_that_leads_out_of_the_folder_is_damage(painted, opened, name):
    path = painted / "semigda" / "project.json"
    content = json.loads(path.read_text())
    content["images"][0]["file"] = name
    path.write_text(json.dumps(content))
    assert "is damaged" in opened(painted).keeper.problems[0]


def test_a_newer_version_is_not_touched(painted):
    path = painted / "semigda" / "project.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    before = path.read_bytes()
    with pytest.raises(EngineError, match="newer version of napari-semigda: update"):
        ProjectStore.open(painted)
    with pytest.raises(EngineError):
        ProjectStore.create(painted)
    assert path.read_bytes() == before


def test_an_image_whose_planes_are_lost_from_the_list_is_no_end_of_the_project(painted, opened):
    path = painted / "semigda" / "project.json"
    content = json.loads(path.read_text())
    content["images"][1]["planes"] = []
    path.write_text(json.dumps(content))
    project = opened(painted)
    assert len(project.stack) == 2 and (painted / "semigda" / "masks" / "ax1.tif").is_file()
