"""A project on a disk that fills up, that is turned read-only, and under a clock that is moved back."""

import datetime as dates
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from unittest import mock

import numpy as np
from torture_kills import PLANES, SIZE, finish_round, half_written, make_project, open_project, paint, painted

from napari_semigda import log, rounds
from napari_semigda.images import read_mask
from napari_semigda.project import Project
from napari_semigda.store import writer

NOBODY = 65534
DISK_BYTES = 4 * 2**20
PATIENCE_S = 20.0


class Broken(Exception):  # noqa: N818 - a promise
    """A promise that was not kept, in a sentence."""


def promise(kept: object, sentence: str) -> None:
    """Raise unless it was kept."""
    if not kept:
        raise Broken(sentence)


def until(what: Callable[[], object], sentence: str) -> None:
    """Wait for something that was promised."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        promise(time.monotonic() < end, sentence)
        time.sleep(0.01)


# -- a disk that fills up -------------------------------------------------------------------------------------------


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A disk of four megabytes; None where none may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="semigda-torture-disk-"))
    options = f"size={DISK_BYTES},mode=755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = shutil.which("mount") and not subprocess.run(mount, capture_output=True, check=False).returncode
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def fill(disk: Path, room: int) -> Path:
    """Leave so many bytes free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            file.truncate(max(0, file.tell() - room))
    return ballast


def full_disk(disk: Path, times: int, seed: int, end: float = math.inf) -> str:
    """Fill the disk so many times, with some bytes left each time, in the middle of painting; what was seen."""
    rng, filled, told = np.random.default_rng(seed), 0, 0
    folder = make_project(disk / "study")
    with mock.patch.object(writer, "RETRY_S", 0.05):
        for _ in takewhile(lambda _: time.monotonic() < end, range(1, times + 1)):
            project, said = open_project(folder), []
            project.keeper.on_saving = said.append
            before = _noise(project, rng)
            promise(project.keeper.flush(), "what fits on the disk is saved")
            ballast = fill(disk, int(rng.integers(0, 16_000)))
            after = _noise(project, rng)
            project.keeper.flush()
            for plane in range(PLANES):
                mask = read_mask(folder / "semigda" / "masks" / f"ax{plane}.tif")[0]
                one = any(np.array_equal(mask, version[plane]) for version in (before, after))
                promise(one, f"plane {plane} is neither the old nor the new version")
            if ended := bool(rng.integers(2)):  # closed while the disk is full: the old versions must open
                project.close()
                project = open_project(folder)
                promise(len(dict(project.masks())) == PLANES, "the project opens on a full disk with all its masks")
                project.keeper.on_saving = said.append
                after = _noise(project, rng)
                project.keeper.flush()
            told += any(said)
            filled += 1
            ballast.unlink()
            until(lambda project=project: project.keeper.flush(), "all is saved once there is room")
            project.close()
            _same(open_project(folder), after, "after room was made")
            promise(not any(said) or said[-1] == "" or ended, "the user is told that all is saved again")
    promise(told, "the user is told that the disk is full")
    return f"filled {filled} times, said {told} times (the other times all still fitted)"


def _noise(project: Project, rng: np.random.Generator) -> np.ndarray:
    """Paint everything anew, in a way that takes room."""
    masks = rng.integers(1, 9, project.stack.shape).astype(np.uint8)
    project.update_masks(masks)
    return masks


def _same(project: Project, masks: np.ndarray, when: str) -> None:
    there = dict(project.masks())
    project.close()
    promise(not project.keeper.problems, f"nothing is wrong {when}: {project.keeper.problems}")
    same = len(there) == len(masks) and all(np.array_equal(there[plane], mask) for plane, mask in enumerate(masks))
    promise(same, f"every mask is as it was painted {when}")


# -- a folder that is turned read-only ------------------------------------------------------------------------------


@contextmanager
def minding_rights() -> Iterator[Path]:
    """A folder whose rights count: for root none do, so root is somebody else meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="semigda-torture-"))
    clock_back(folder / "imports")  # whatever is imported on the way is, before the rights are gone
    shutil.rmtree(folder / "imports")
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        _rights(folder, 0o755, 0o644)
        shutil.rmtree(folder, ignore_errors=True)


def _rights(folder: Path, folders: int, files: int) -> None:
    for each in sorted([folder, *folder.rglob("*")], reverse=folders == 0o555):
        each.chmod(folders if each.is_dir() else files)


def read_only(folder: Path, times: int, end: float = math.inf) -> str:
    """Take the rights away while a project is open, paint, give them back; so many times."""
    study = make_project(folder / "study")
    with mock.patch.object(writer, "RETRY_S", 0.05):
        for number in takewhile(lambda _: time.monotonic() < end, range(1, times + 1)):
            project, said = open_project(study), []
            project.keeper.on_saving = said.append
            masks = np.zeros(project.stack.shape, np.uint8)
            for plane in range(PLANES):
                paint(masks, plane, 2 * number)
            project.update_masks(masks)
            promise(project.keeper.flush(), "a folder with rights is written to")
            _rights(study, 0o555, 0o444)
            paint(masks, 0, 2 * number + 1)
            project.update_masks(masks, [0])
            until(lambda said=said: any(said), "the user is told that nothing can be saved")
            promise(not list(half_written(study)), "files stay whole while nothing can be written")
            _rights(study, 0o755, 0o644)
            until(lambda said=said: said[-1] == "", "the user is told that all is saved again")
            project.close()
            _same(open_project(study), masks, "after the rights came back")
    return f"turned read-only {number} times with the project open"


# -- a clock that is moved back -------------------------------------------------------------------------------------


@contextmanager
def clock_moved(seconds: float) -> Iterator[None]:
    """Every clock of this process that people set: the one that only counts up is left alone, as systems do."""
    now, now_ns = time.time, time.time_ns

    class Moved(dates.datetime):
        @classmethod
        def now(cls, tz=None):
            return dates.datetime.fromtimestamp(now() + seconds, tz)

    with (
        mock.patch.object(time, "time", lambda: now() + seconds),
        mock.patch.object(time, "time_ns", lambda: now_ns() + int(seconds * 1e9)),
        mock.patch.object(rounds, "datetime", Moved),
        mock.patch.object(log, "datetime", Moved),
    ):
        yield


def clock_back(folder: Path, jumps: tuple[float, ...] = (3600.0, -3600.0, -10 * 365 * 86400.0)) -> str:
    """Work on a project while the clock goes back and forth; files get the dates of the clock of the moment."""
    study, rng = make_project(folder / "study"), np.random.default_rng(0)
    masks = np.zeros((PLANES, *SIZE), np.uint8)
    for number, jump in enumerate(jumps, 1):
        project = open_project(study)
        promise(not project.keeper.problems, f"nothing is wrong after a clock was moved: {project.keeper.problems}")
        _stroke(project, masks, 3 * number)
        with clock_moved(jump):
            _stroke(project, masks, 3 * number + 1)
            finish_round(project, rng)
        _stroke(project, masks, 3 * number + 2)
        project.close()
        for path in study.rglob("*"):
            os.utime(path, (time.time() + jump, time.time() + jump))
        project = open_project(study)
        numbers = [each.standing.number for each in project.rounds]
        promise(numbers == list(range(1, number + 1)), f"rounds stay in their order: {numbers}")
        promise(project.rounds.number_in_use == number, "the newest round is in use")
        _same(project, masks[:1], "after the clock was moved")
    return "moved by " + ", ".join(f"{jump / 3600:+,.0f} h" for jump in jumps) + ", files dated alike"


def _stroke(project: Project, masks: np.ndarray, stroke: int) -> None:
    """Paint one, and see it on the disk in time, with the one before beside it."""
    before = _on_disk(project.keeper.folder, "ax0.tif")
    paint(masks, 0, stroke)
    project.update_masks(masks, [0])
    until(lambda: _on_disk(project.keeper.folder, "ax0.tif") == stroke, "a stroke is on disk in time")
    version = _on_disk(project.keeper.folder, "ax0.tif.previous")
    promise(version == before, f"the version before is the one before: {version} after {before}")


def _on_disk(study: Path, name: str) -> int | None:
    """The stroke that a file of masks tells."""
    path = study / "semigda" / "masks" / name
    if not path.exists():
        return None
    shown = path.with_name("shown.tif")  # tifffile goes by the ending
    shutil.copyfile(path, shown)
    try:
        return painted(read_mask(shown)[0])
    finally:
        shown.unlink()
