"""Starts the viewer of `torture_viewer`, kills it or what it trains with, and looks at what is left."""

import gc
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from itertools import takewhile
from pathlib import Path

import numpy as np
import psutil
import tifffile
from safetensors import safe_open
from torture_kills import PROMISED_S, Damage, digest, make_project, open_project

VIEWER = Path(__file__).with_name("torture_viewer.py")
START_S, LONGEST_S, ORPHAN_S = 120.0, 12.0, 10.0
REAL_EVERY = 4
"""One viewer in so many trains with the real engine, the others with a quick one: what is killed is then busier."""


class Viewer:
    """A viewer in a process of its own, with temporary files beside its project, and what it has said so far."""

    def __init__(self, what: str, study: Path, *arguments: str) -> None:
        command = [sys.executable, str(VIEWER), what, str(study), *arguments]
        temporary = study.with_name("temporary")
        temporary.mkdir(exist_ok=True)
        env = os.environ | {"TMPDIR": str(temporary)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=env)
        self.said: list[list] = []
        self._heard: queue.SimpleQueue[list | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            if line.startswith("[") and line.endswith("]\n"):  # napari prints too
                self.said.append(json.loads(line))
                self._heard.put(self.said[-1])
        self._heard.put(None)

    def wait_for(self, what: str, seconds: float) -> bool:
        """Whether it says something of a kind in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                said = self._heard.get(timeout=left)
            except queue.Empty:
                return False
            if said is None:
                return False
            if said[1] == what:
                return True
        return False

    def last(self, *whats: str):
        """The newest fact of these kinds."""
        return next((facts[0] for _, what, *facts in reversed(self.said) if what in whats), None)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill it, and hear it out."""
        self.process.send_signal(number)
        self.end()

    def end(self) -> None:
        """Hear it out."""
        self.process.wait()
        self._thread.join(10)
        self.process.stdout.close()

    def last_words(self) -> str:
        """The end of what it said in tracebacks."""
        self._log.seek(0)
        return " ".join(self._log.read().decode(errors="replace").split("\n")[-4:])


# -- kills ----------------------------------------------------------------------------------------------------------


def kill_viewers(folder: Path, kills: int, end: float, seed: int = 0) -> Damage:
    """Kill so many viewers, trainers, or both, each in a project that is opened again; until `end` (monotonic)."""
    rng, total = np.random.default_rng(seed), Damage()
    for number in takewhile(lambda _: time.monotonic() < end, range(kills)):
        study = make_project(folder / f"viewer {number}" / "study")
        real = number % REAL_EVERY == REAL_EVERY - 1
        victim = ("viewer", "trainer", "both")[number % 3]
        total += kill_viewer(study, number, victim, rng.uniform(0.5, LONGEST_S * (2 if real else 1)), real)
    return total


def kill_viewer(study: Path, seed: int, victim: str, after_s: float, real: bool) -> Damage:
    """Let a viewer paint for a while, kill what is to be killed, and look at what is left."""
    damage = Damage(kills=1)
    viewer = Viewer("paint", study, str(seed), "real" if real else "fake")
    if not viewer.wait_for("stroke", START_S):
        viewer.kill()
        damage.unopened.append(f"the viewer did not start: {viewer.last_words()}")
        return damage
    time.sleep(after_s)
    offspring = psutil.Process(viewer.process.pid).children(recursive=True)
    if victim != "viewer" and (pid := viewer.last("ready", "trainer")) is not None and psutil.pid_exists(pid):
        os.kill(pid, signal.SIGKILL)
        if victim == "trainer":
            if not viewer.wait_for("stroke", 30):
                damage.lost.append("the viewer took no stroke any more after its trainer was killed")
            time.sleep(1)
            offspring += psutil.Process(viewer.process.pid).children(recursive=True)
    killed = time.monotonic()
    viewer.kill()
    _, left = psutil.wait_procs(offspring, timeout=ORPHAN_S)
    damage.lost += [f"process {process.pid} outlived the viewer" for process in left]
    damage.strokes = sum(what == "stroke" for _, what, *_ in viewer.said)
    damage.half_written += _not_whole(study)
    look(study, viewer.said, killed, damage)
    return damage


def look(study: Path, said: list[list], killed: float, damage: Damage) -> None:
    """Open the project as the dock does, and compare."""
    try:
        project = open_project(study)
    except Exception as error:  # whatever it is, the user could not go on
        damage.unopened.append(f"{type(error).__name__}: {error}")
        return
    damage.unopened += project.keeper.problems
    there = dict(project.masks())
    project.close()
    damage.half_written += [f"{path} is left over" for path in study.rglob("*.part*")]
    accepted: dict[int, set[str]] = {}  # by plane: what may be there
    for at, what, *facts in said:
        if what == "stroke":  # strokes only add
            plane, pixels = facts
            if plane not in there or np.count_nonzero(there[plane]) < pixels:
                _miss(damage, f"stroke on plane {plane}", killed - at)
        elif what == "accepted" and killed - at > PROMISED_S:
            accepted[facts[0]] = {facts[1]}
        elif what in ("accepting", "accepted"):
            accepted.setdefault(facts[0], {digest(np.zeros_like(next(iter(there.values()))))}).add(facts[1])
    for plane, allowed in accepted.items():
        mask = there.get(plane)
        if digest(np.zeros_like(next(iter(there.values()))) if mask is None else mask) not in allowed:
            damage.lost.append(f"the mask accepted on plane {plane} is another")


def _miss(damage: Damage, what: str, age: float) -> None:
    damage.oldest_lost_s = max(damage.oldest_lost_s, age)
    if age > PROMISED_S:
        damage.lost.append(f"{what}, acknowledged {age:.1f} s before the kill")


def _not_whole(study: Path) -> list[str]:
    """Files that no other program could read, before the project is opened again."""
    wrong = []
    for path in (*study.rglob("*"), *study.parent.glob("*.semigda")):
        if not path.is_file() or ".part" in path.name or path.name in ("lock", "opened-by.json"):
            continue
        try:
            _read(path)
        except Exception as error:
            wrong.append(f"{path.name}: {type(error).__name__}: {error}")
    return wrong


def _read(path: Path) -> None:
    kind = path.name.removesuffix(".previous").rsplit(".", maxsplit=1)[-1]
    if kind == "json":
        json.loads(path.read_text())
    elif kind == "jsonl":
        [json.loads(line) for line in path.read_text().splitlines()[:-1]]
    elif kind == "tif":
        tifffile.imread(path)
    elif kind == "semigda" and path.read_bytes()[:1] == b"{":  # of the quick engine
        json.loads(path.read_text())
    elif kind == "semigda":
        with safe_open(path, "np") as file:
            [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a mapping


# -- leaks ----------------------------------------------------------------------------------------------------------


def measure() -> dict[str, float]:
    """What this process and its children hold just now."""
    gc.collect()
    me = psutil.Process()
    return {
        "memory": round(me.memory_info().rss / 2**20, 1),
        "handles": min(_handles(me) for _ in range(10)),
        "threads": threading.active_count(),
        "processes": len(me.children(recursive=True)),
        "shared": len(_shared(me)),
        "temporary": len(list(Path(tempfile.gettempdir()).glob("napari-semigda*"))),
        "trainer": round(sum(child.memory_info().rss for child in me.children()) / 2**20, 1),
    }


def _shared(me: psutil.Process, folder: Path = Path("/dev/shm")) -> list[str]:
    """Names of shared memory, but for what bears the number of a living process that is none of ours first."""
    ours = {me.pid, *(child.pid for child in me.children(recursive=True))}
    others = set(psutil.pids()) - ours
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    numbers = {name: re.search(r"(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z])", name) for name in names}
    return [name for name, number in numbers.items() if number is None or int(number[0]) not in others]


def _handles(me: psutil.Process) -> int:
    """How many are open; a file that is just being saved is closed a moment later."""
    time.sleep(0.05)
    return me.num_fds() if hasattr(me, "num_fds") else me.num_handles()


def watch(folder: Path, what: str, number: int, seconds: float, engine: str) -> list[list]:
    """What a viewer says that does something `number` times, or as often as `seconds` allow."""
    viewer = Viewer(what, make_project(folder / "study"), str(number), engine, str(seconds))
    end = threading.Timer(seconds + START_S, viewer.process.kill)  # it hangs
    end.start()
    viewer.end()
    end.cancel()
    if viewer.process.returncode:
        viewer.said.append([time.monotonic(), "failed", viewer.last_words()])
    return viewer.said
