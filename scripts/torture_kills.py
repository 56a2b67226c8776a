"""A project that is painted, accepted, trained and exported without a screen, and killed at any moment.

Run as a program with a folder and a number it works on the project there until somebody kills it, and says on stdout
what it has acknowledged to its user; everything goes through the same code as from the dock.
"""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.findings import Findings, Painted
from napari_semigda.engine.metrics import Score
from napari_semigda.engine.types import Report, Settings
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore
from napari_semigda.store.files import replace_file

PROMISED_S = 2.0
"""A stroke older than this is on disk."""
PLANES, SIZE = 6, (96, 120)


@dataclass
class Damage:
    """What kills have done."""

    kills: int = 0
    lost: list[str] = field(default_factory=list)  # sentences: acknowledged longer ago than promised, and not there
    half_written: list[str] = field(default_factory=list)
    unopened: list[str] = field(default_factory=list)
    strokes: int = 0  # acknowledged in all
    oldest_lost_s: float = 0.0  # how long ago the oldest acknowledged stroke was made that was not there

    def __iadd__(self, other: "Damage") -> "Damage":
        self.kills += other.kills
        self.strokes += other.strokes
        self.oldest_lost_s = max(self.oldest_lost_s, other.oldest_lost_s)
        for name in ("lost", "half_written", "unopened"):
            getattr(self, name).extend(getattr(other, name))
        return self

    @property
    def whole(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.half_written or self.unopened)


def make_project(folder: Path) -> Path:
    """A folder of noise, made a project."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(PLANES):
        Image.fromarray(rng.integers(0, 255, SIZE, np.uint8)).save(folder / f"ax{number}.png")
    ProjectStore.create(folder).close()
    return folder


# -- in the process that is killed ----------------------------------------------------------------------------------


def open_project(folder: Path) -> Project:
    """As the dock does."""
    store = ProjectStore.open(folder)
    return Project(ImageStack(folder.name, store.images, store.images.rgb), keeper=store)


def paint(masks: np.ndarray, plane: int, stroke: int) -> None:
    """Make a plane tell, in every pixel, which stroke was the last on it."""
    masks[plane] = stroke % 255 + 1
    masks[plane, 0, :3] = stroke % 256, stroke // 256 % 256, stroke // 65536


def painted(mask: np.ndarray) -> int | None:
    """The stroke that a plane tells; None when it is not one and the same all over."""
    stroke = int(mask[0, 0]) + 256 * int(mask[0, 1]) + 65536 * int(mask[0, 2])
    return stroke if (mask.ravel()[3:] == stroke % 255 + 1).all() else None


def digest(mask: np.ndarray) -> str:
    """A fingerprint of a mask."""
    return hashlib.sha256(np.ascontiguousarray(mask, np.uint8).tobytes()).hexdigest()[:16]


def say(what: str, *facts: object) -> None:
    """Tell whoever watches that something is done, as its user sees it."""
    print(json.dumps([time.monotonic(), what, *facts]), flush=True)


def work(folder: Path, seed: int) -> None:
    """Paint, accept, rename, finish rounds and export, for ever."""
    project, rng = open_project(folder), np.random.default_rng(seed)
    masks = np.zeros(project.stack.shape, np.uint8)
    for index, mask in project.masks():
        masks[index] = mask
    first = max((painted(mask) or 0 for mask in masks if mask.any()), default=0) + 1
    for stroke in count(first):
        plane = stroke % PLANES
        paint(masks, plane, stroke)
        project.update_masks(masks, [plane])
        say("stroke", plane, stroke)
        match int(rng.integers(12)):
            case 0:
                project.name_classes({1: f"stroke {stroke}"})
            case 1:  # what the dock does after Accept
                project.review.mark("verified", plane, bool(rng.integers(2)))
            case 2:
                say("round", finish_round(project, rng))
            case 3 if project.rounds:
                project.save_model(folder.parent / f"{folder.name} export.semigda")
        time.sleep(float(rng.uniform(0, 0.04)))


def finish_round(project: Project, rng: np.random.Generator) -> int:
    """A round as the training process ends it, with a model whose first bytes are a checksum of the others."""
    job = project.snapshot(Settings())
    weights = rng.bytes(200_000)
    replace_file(job.request.out, lambda part: part.write_bytes(hashlib.sha256(weights).digest() + weights))
    name = project.stack.plane_name(0)
    findings = Findings({name: {1: Score(0.8, 0.7, 2.0)}}, painted={1: Painted(900, 2)})
    last = Report("done", 10, dice=0.8, held_out=(name,), findings=findings)
    done = project.finish(job.generation, Outcome(job.request.out), last)
    for old in project.rounds[:-5]:  # so that hundreds of kills do not fill the disk
        old.standing.model.unlink(missing_ok=True)
    return done.standing.number


# -- in the process that kills --------------------------------------------------------------------------------------


def torture(
    folder: Path, kills: int, seed: int, longest_s: float = 3.5, lanes: int = 1, end: float = math.inf
) -> Damage:
    """Kill a working process so many times, in `lanes` projects side by side, each opened again and looked at.

    Fewer times when the time `end` (monotonic) comes first.
    """
    shares = [kills // lanes + (lane < kills % lanes) for lane in range(lanes)]
    with ThreadPoolExecutor(lanes) as pool:
        jobs = [(folder / f"lane {lane}", share, seed + 1000 * lane) for lane, share in enumerate(shares) if share]
        total = Damage()
        for damage in pool.map(lambda job: _lane(*job, longest_s, end), jobs):
            total += damage
    return total


def _lane(folder: Path, kills: int, seed: int, longest_s: float, end: float) -> Damage:
    make_project(folder)
    rng, total = np.random.default_rng(seed), Damage()
    for number in takewhile(lambda _: time.monotonic() < end, range(kills)):
        total += kill_once(folder, seed + number, rng.uniform(0, longest_s))
    return total


def kill_once(folder: Path, seed: int, after_s: float) -> Damage:
    """Let a process work for a while, kill it, and look at what it leaves."""
    temporary = folder.with_name(f"{folder.name} temporary")
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    begun = process.stdout.readline()
    time.sleep(after_s)
    killed = time.monotonic()
    process.send_signal(signal.SIGKILL)
    said = [json.loads(line) for line in [begun, *process.stdout] if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    damage = Damage(kills=1, half_written=list(half_written(folder)), strokes=len(said))
    try:
        project = open_project(folder)
    except Exception as error:  # whatever it is, the user could not go on
        damage.unopened.append(f"{type(error).__name__}: {error}")
        return damage
    damage.unopened += [
        sentence for sentence in project.keeper.problems if "round-" not in sentence
    ]  # old ones removed
    compare(project, said, killed, damage)
    project.close()
    damage.half_written += [f"{path} is left over" for path in folder.rglob("*.part*")]
    left = len(list(temporary.glob("napari-semigda-*")))
    damage.half_written += [f"{left} temporary folders are left over"] * (
        left > 1
    )  # the next start removes that of now
    return damage


def compare(project: Project, said: Iterable[list], killed: float, damage: Damage) -> None:
    """What was acknowledged against what is there."""
    there = {plane: painted(mask) for plane, mask in project.masks()}
    damage.half_written += [f"plane {plane} mixes two strokes" for plane, stroke in there.items() if stroke is None]
    rounds = {each.standing.number for each in project.rounds} | {each.number for each in project.keeper._index.rounds}
    for at, what, *facts in said:
        if what == "stroke":
            plane, stroke = facts
            missing = (there.get(plane) or 0) < stroke
        else:
            missing = facts[0] not in rounds
        if missing:
            damage.oldest_lost_s = max(damage.oldest_lost_s, killed - at)
            if killed - at > PROMISED_S:
                damage.lost.append(f"{what} {facts}, acknowledged {killed - at:.1f} s before the kill")


def half_written(folder: Path) -> Iterable[str]:
    """Files that are not whole, as any other program would find them, before the project is opened again."""
    home = folder / "semigda"
    for path in [*home.rglob("*"), *folder.parent.glob("*.semigda")]:
        if not path.is_file() or ".part." in path.name or path.name in ("lock", "opened-by.json"):
            continue
        try:
            whole = _is_whole(path)
        except Exception as error:
            yield f"{path.name}: {type(error).__name__}: {error}"
        else:
            if not whole:
                yield f"{path.name} is not whole"


def _is_whole(path: Path) -> bool:
    kind = path.name.removesuffix(".previous").rsplit(".", maxsplit=1)[-1]
    if kind == "json":
        return json.loads(path.read_text())["schema"] == 1
    if kind == "jsonl":
        return all(json.loads(line) for line in path.read_text().splitlines()[:-1])
    if kind == "tif":
        return painted(tifffile.imread(path)) is not None
    if kind == "semigda":
        content = path.read_bytes()
        return hashlib.sha256(content[32:]).digest() == content[:32]
    return True


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
