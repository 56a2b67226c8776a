"""Short versions of `make torture`: masks survive kills and disks that refuse, rounds leave nothing behind."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from napari_semigda.engine.types import Settings
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from tests import fake_engine
from tests.widgets.conftest import wait_for

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import torture_disks as disks
import torture_kills as kills
import torture_watch as watching


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_killed_at_any_moment_of_painting_verifying_rounds_and_export_nothing_old_is_lost(tmp_path):
    damage = kills.torture(tmp_path, 6, seed=1, longest_s=2.4, lanes=3)
    assert (damage.lost, damage.half_written, damage.unopened) == ([], [], [])
    assert damage.kills == 6 and damage.strokes > 30
    assert damage.oldest_lost_s <= kills.PROMISED_S


def test_the_torture_itself_sees_what_is_lost_or_half_written(tmp_path):
    folder = kills.make_project(tmp_path / "study")
    project = kills.open_project(folder)
    masks = np.zeros(project.stack.shape, np.uint8)
    kills.paint(masks, 1, 7)
    project.update_masks(masks)
    assert project.keeper.flush()
    damage = kills.Damage()
    kills.compare(project, [[0.0, "stroke", 1, 7], [0.0, "stroke", 2, 8], [9.9, "stroke", 3, 9]], 10.0, damage)
    project.close()
    assert [sentence.split(",")[0] for sentence in damage.lost] == ["stroke [2"]
    assert damage.oldest_lost_s == 10.0 and not damage.whole
    assert list(kills.half_written(folder)) == []
    path = folder / "semigda" / "masks" / "ax1.tif"
    mixed = tifffile.imread(path)
    mixed[50:] = 3
    tifffile.imwrite(path, mixed)
    project = folder / "semigda" / "project.json"
    project.write_bytes(project.read_bytes()[:-3])
    assert [sentence.split(" ")[0] for sentence in sorted(kills.half_written(folder))] == ["ax1.tif", "project.json:"]


def test_a_disk_that_fills_up(tmp_path):
    with disks.small_disk() as disk:
        if disk is None:
            pytest.skip("no small disk may be mounted here; tests/store/test_disks.py limits the size of files instead")
        assert disks.full_disk(disk, 2, seed=0).startswith("filled 2 times")


@pytest.mark.skipif(not hasattr(disks.os, "seteuid"), reason="has no such rights")
def test_a_folder_that_is_turned_read_only_with_the_project_open():
    with disks.minding_rights() as folder:
        assert "2 times" in disks.read_only(folder, 2)


def test_a_clock_that_is_moved_back(tmp_path):
    assert disks.clock_back(tmp_path).startswith("moved by +1 h, -1 h")


def test_shared_memory_of_other_programs_is_none_of_ours(tmp_path):
    me, parent = psutil.Process(), psutil.Process().ppid()
    for name in (f"torch_{me.pid}_1", f"sem.loky-{parent}-0t6pc", "psm_4f1e"):
        (tmp_path / name).touch()
    assert sorted(watching._shared(me, tmp_path)) == ["psm_4f1e", f"torch_{me.pid}_1"]


def test_train_and_stop_leave_nothing_behind(qapp, tmp_path, monkeypatch):
    from napari_semigda.widgets.runner import Runner

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # others use the usual one meanwhile
    stack = ImageStack("noise", np.random.default_rng(0).integers(0, 255, (3, 40, 48), np.uint8))
    project, runner, ended = Project(stack), Runner(fake_engine.COMMAND), []
    project.update_masks(np.eye(3, dtype=np.uint8)[0][:, None, None] * np.ones((3, 40, 48), np.uint8))
    runner.finished.connect(lambda generation, outcome: ended.append(outcome.stopped))
    runner.reported.connect(lambda report: report.step == 1 and len(ended) % 2 and runner.stop())
    before = watching.measure()
    for number in range(7):
        runner.submit(project.snapshot(Settings(max_steps=3)), project.folder)
        wait_for(lambda number=number: len(ended) > number and not runner.busy, 30)
        if number == 1:
            first = watching.measure()
    last = watching.measure()
    assert ended == [False, True, False, True, False, True, False]
    for name in ("handles", "threads", "processes", "shared", "temporary"):
        assert last[name] <= first[name], name
    assert last["memory"] - first["memory"] < 20
    runner.close()
    project.close()
    after = watching.measure()
    for name in ("processes", "shared", "temporary"):
        assert after[name] <= before[name] - (name == "temporary"), name
