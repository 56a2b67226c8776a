"""A project is there again as it was, wherever its folder is by now, and it is open once."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.findings import Findings, Painted
from napari_semigda.engine.metrics import Score
from napari_semigda.engine.types import EngineError, Report, Settings
from napari_semigda.engine.verdict import judge
from napari_semigda.store import ProjectStore, is_project, project_folder


def test_everything_is_there_again_after_closing(painted, opened):
    again = opened(painted)
    assert again.painted == (1,)
    assert again.classes == {1: "nucleus", 2: "rim"}
    assert dict(again.masks())[1].sum() == 30
    assert again.keeper.problems == []
    content = json.loads((painted / "semigda" / "project.json").read_text())
    assert content["schema"] == 1
    assert content["classes"][0] == {"id": 1, "name": "nucleus", "colour": "#e69f00"}
    assert [image["file"] for image in content["images"]] == ["ax0.png", "ax1.png", "ax2.png"]
    assert content["images"][0]["bytes"] == (painted / "ax0.png").stat().st_size


def test_rounds_and_the_model_in_use_are_kept(painted, opened):
    project = opened(painted)
    for number, dice in ((1, 0.8), (2, 0.9)):
        job = project.snapshot(Settings(seed=number))
        assert job.request.out == painted / "semigda" / "rounds" / f"round-{number}.semigda"
        job.request.out.write_bytes(b"weights")
        report = Report(
            "done", elapsed=60, dice=dice, held_out=("ax0.png",), dice_by_class={1: dice, 2: None, 3: float("nan")}
        )
        scores = {"ax0.png": {1: Score(dice, 0.7, 2.5)}}
        report = replace(report, findings=Findings(scores, painted={1: Painted(16, 1)}))
        project.finish(job.generation, Outcome(job.request.out), report)
    project.rounds.use(project.rounds[0].standing.number)
    project.close()
    again = opened(painted)
    assert list(again.rounds) == list(project.rounds)
    assert again.rounds.in_use == again.rounds[0].standing
    assert again.rounds[1].dice_by_class == {1: 0.9}
    assert [(each.before, each.kept_before) for each in again.rounds] == [(None, False), (1, False)]
    verdict = judge(again.rounds.trained())
    assert verdict.difference.mean == pytest.approx(0.1)
    assert verdict.classes[0].hausdorff.mean == 2.5
    assert again.snapshot(Settings()).request.out.name == "round-3.semigda"
    again.close()
    (painted / "semigda" / "rounds" / "round-2.semigda").unlink()
    lost = opened(painted)
    assert [each.standing.number for each in lost.rounds] == [1]
    assert "round-2.semigda" in lost.keeper.problems[0]
    assert lost.snapshot(Settings()).request.out.name == "round-3.semigda"  # the lost one may come back


def test_a_project_can_be_moved_and_copied(painted, opened, tmp_path):
    painted.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "copy")  # with other dates
    for name in ("elsewhere", "copy"):
        project = opened(tmp_path / name)
        assert project.painted == (1,)
        assert project.keeper.problems == []
    assert project_folder(tmp_path / "copy" / "semigda" / "project.json") == tmp_path / "copy"
    assert is_project(tmp_path / "copy")
    with pytest.raises(EngineError, match="is not there any more: choose Open project"):
        ProjectStore.open(painted)


def test_a_project_is_open_once_and_a_lock_goes_with_its_process(painted, opened):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(painted)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(EngineError, match=f"is open already .in process {holder.pid} on .*: close it there first"):
        ProjectStore.open(painted)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert opened(painted).painted == (1,)
    with pytest.raises(EngineError, match="is open already"):  # a second viewer of the same process
        ProjectStore.open(painted)


HOLD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from napari_semigda.store import ProjectStore
store = ProjectStore.open(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""
