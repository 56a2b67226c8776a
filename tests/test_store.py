"""A project on disk: what is saved, what survives, and what is said when something is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.findings import Findings, Painted
from napari_semigda.engine.metrics import Score
from napari_semigda.engine.types import EngineError, Report, Settings
from napari_semigda.engine.verdict import judge
from napari_semigda.images import labelled_planes, read_mask
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore, is_project, project_folder
from napari_semigda.store import writer as writing
from napari_semigda.store.writer import Writer

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


# -- what is kept


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


def test_masks_are_tiff_and_nifti_where_the_image_is_and_other_programs_find_them(tmp_path, opened):
    folder = pictures(tmp_path / "study", 1)
    affine = np.diag([0.5, 0.5, 2, 1])
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(40, 48, 3)), affine), folder / "scan.nii.gz")
    project = opened(folder, ProjectStore.create)
    paint(project, 0)
    masks = paint(project, 3, value=2)
    project.close()
    kept = folder / "semigda" / "masks"
    assert sorted(path.name for path in kept.iterdir()) == ["ax0.tif", "scan.nii.gz"]
    assert tifffile.imread(kept / "ax0.tif").dtype == np.uint8
    np.testing.assert_array_equal(tifffile.imread(kept / "ax0.tif"), masks[0])
    scan = nibabel.load(kept / "scan.nii.gz")
    np.testing.assert_array_equal(scan.affine, affine)
    np.testing.assert_array_equal(np.asarray(scan.dataobj)[..., 2], masks[3])
    planes, strangers = labelled_planes(folder, kept)  # what the command line reads
    assert [plane.mask is not None for plane in planes] == [True, False, False, True]
    assert strangers == ()


def test_the_version_before_is_kept_of_every_mask_and_an_emptied_mask_too(folder, opened):
    project = opened(folder, ProjectStore.create)
    path = folder / "semigda" / "masks" / "ax1.tif"
    for value in (1, 2):
        paint(project, 1, value)
        assert project.keeper.flush()
    before = path.with_name("ax1.tif.previous")
    assert (tifffile.imread(path).max(), tifffile.imread(before).max()) == (2, 1)
    project.update_masks(np.zeros(project.stack.shape, np.uint8))
    assert project.keeper.flush()
    assert not path.exists()
    assert tifffile.imread(before).max() == 2


def test_forgetting_masks_in_the_session_leaves_those_on_disk(painted, opened):
    project = opened(painted)
    project.forget_masks()
    assert project.painted == (1,)
    project.close()
    assert (painted / "semigda" / "masks" / "ax1.tif").exists()


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


def test_verified_and_skipped_are_kept_by_image_whatever_comes_before_it(painted, opened):
    store = opened(painted).keeper
    store.mark("verified", 1)
    store.mark("skipped", 2)
    store.close()
    shutil.copy(painted / "ax0.png", painted / "ab.png")  # sorts first
    store = opened(painted).keeper
    assert (store.marked("verified"), store.marked("skipped")) == ({2}, {3})


def test_an_image_verified_as_empty_is_so_again_and_for_the_command_line_until_it_is_not(painted, opened):
    project = opened(painted)
    mask = painted / "semigda" / "masks" / "ax2.tif"
    project.review.mark("empty", 2)
    project.close()
    assert not tifffile.imread(mask).any()
    planes, _ = labelled_planes(painted, mask.parent)
    assert [plane.mask is not None for plane in planes] == [False, True, True]
    project = opened(painted)
    assert (project.painted, project.review.empty()) == ((1,), {2})
    assert [plane.mask is not None for plane in project.snapshot(Settings()).request.planes] == [False, True, True]

    masks = paint(project, 2)
    assert project.keeper.flush()
    assert tifffile.imread(mask).any()
    masks[2] = 0
    project.update_masks(masks)
    assert project.keeper.flush()
    assert mask.exists() and not tifffile.imread(mask).any()  # as it was verified
    project.review.mark("empty", 2, False)
    project.close()
    assert not mask.exists()
    assert tifffile.imread(mask.with_name("ax2.tif.previous")).any()  # the paint, should it be missed
    project = opened(painted)
    assert project.review.empty() == set()
    assert project.snapshot(Settings()).request.planes[2].mask is None


def test_an_empty_slice_of_a_stack_is_known_by_the_list_and_its_paint_is_never_removed(tmp_path, opened):
    folder = tmp_path / "study"
    folder.mkdir()
    stack = np.random.default_rng(0).integers(0, 255, (3, *SIZE), np.uint8)
    tifffile.imwrite(folder / "z.tif", stack, photometric="minisblack")
    project = opened(folder, ProjectStore.create)
    project.review.mark("empty", 0)
    assert project.keeper.flush()
    assert not (folder / "semigda" / "masks" / "z.tif").exists()  # untouched slices say nothing
    paint(project, 1)
    project.review.mark("empty", 2)
    project.review.mark("empty", 2, False)
    project.close()
    project = opened(folder)
    assert (project.painted, project.review.empty()) == ((1,), {0})


def test_a_project_of_a_version_that_knew_no_empty_images_opens(painted, opened):
    path = painted / "semigda" / "project.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["empty"]
    path.write_text(json.dumps(content))
    assert opened(painted).keeper.problems == []


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


def test_images_of_different_sizes_and_colours_share_a_stack_and_keep_their_own_size(tmp_path, opened):
    folder = pictures(tmp_path / "study", 1)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (64, 30, 3), np.uint8)).save(folder / "b.png")
    project = opened(folder, ProjectStore.create)
    data = project.stack.data
    assert (project.stack.shape, data.shape, data.mixed) == ((2, 64, 48), (2, 64, 48, 3), True)
    grey = np.asarray(Image.open(folder / "ax0.png"))
    np.testing.assert_array_equal(data[0][:40, :48], np.stack([grey] * 3, -1))
    assert not data[0][40:].any()
    project.update_masks(np.ones(project.stack.shape, np.uint8))  # beside the images too
    planes = project.snapshot(Settings()).request.planes
    assert [plane.image.shape for plane in planes] == [(40, 48), (64, 30, 3)]
    assert [plane.mask.shape for plane in planes] == [(40, 48), (64, 30)]
    assert [plane.name for plane in planes] == ["ax0.png", "b.png"]
    project.close()
    assert tifffile.imread(folder / "semigda" / "masks" / "b.tif").shape == (64, 30)


def test_the_stack_slices_like_an_array_and_keeps_few_planes(folder, opened, monkeypatch):
    from napari_semigda.store import stack as stacking

    data = opened(folder, ProjectStore.create).stack.data
    whole = np.stack([np.asarray(Image.open(folder / f"ax{n}.png")) for n in range(3)])
    monkeypatch.setattr(stacking, "KEPT_BYTES", 2 * whole[0].nbytes)
    for key in (1, -1, (1, 3), (slice(None), 4, slice(2, 9)), (slice(0, 3, 2),), (..., 5), ([2, 0], slice(3))):
        np.testing.assert_array_equal(data[key], whole[key])
    np.testing.assert_array_equal(np.asarray(data), whole)
    assert len(data._kept) <= 2


def test_a_thousand_images_open_in_three_seconds(tmp_path, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    tifffile.imwrite(folder / "i0.tif", np.zeros(SIZE, np.uint8))
    for number in range(1, 1000):
        shutil.copy(folder / "i0.tif", folder / f"i{number}.tif")
    project = opened(folder, ProjectStore.create)
    masks = np.zeros(project.stack.shape, np.uint8)
    masks[::5, :9, :9] = 1
    project.update_masks(masks)
    project.close()
    start = time.monotonic()
    assert len(opened(folder).painted) == 200
    assert time.monotonic() - start < 3


# -- what goes wrong


def test_a_project_is_open_once_and_a_lock_goes_with_its_process(painted, opened):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(painted)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
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


def test_an_image_whose_planes_are_lost_from_the_list_is_no_end_of_the_project(painted, opened):
    path = painted / "semigda" / "project.json"
    content = json.loads(path.read_text())
    content["images"][1]["planes"] = []
    path.write_text(json.dumps(content))
    project = opened(painted)
    assert len(project.stack) == 2 and (painted / "semigda" / "masks" / "ax1.tif").is_file()


@pytest.mark.parametrize("what", ["damaged", "other size"])
def test_a_mask_that_cannot_be_used_is_kept_when_painted_over(painted, opened, what):
    path = painted / "semigda" / "masks" / "ax1.tif"
    if what == "damaged":
        path.write_bytes(b"II*\x00nonsense")
    else:
        tifffile.imwrite(path, np.ones((5, 5), np.uint8))
    before = path.read_bytes()
    project = opened(painted)
    assert project.painted == ()
    assert "ax1.tif" in project.keeper.problems[0]
    paint(project, 1)
    project.close()
    assert path.with_name("ax1.tif.damaged").read_bytes() == before
    assert read_mask(path)[0].any()


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
        cwd=Path(__file__).parents[1],
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


def test_small_pictures_are_kept_until_their_image_changes_and_never_matter(painted, opened, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    kept = opened(painted).keeper.pictures
    assert kept.get(1) is None
    kept.put(1, pixels)
    (path,) = (painted / "semigda" / "pictures").iterdir()
    np.testing.assert_array_equal(kept.get(1), pixels)
    assert kept.get(0) is None
    os.utime(painted / "ax1.png", ns=(1, 1))  # perhaps another image by now
    assert kept.get(1) is None
    kept.put(1, pixels)
    assert kept.get(1) is not None and list(path.parent.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:40])
    assert kept.get(1) is None
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    kept.put(1, pixels)
    (painted / "ax1.png").unlink()
    kept.put(1, pixels)
    assert kept.get(1) is None


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
            [sys.executable, "-c", PAINT, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
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
