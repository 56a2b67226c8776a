"""A real viewer that works on a project with real strokes and keys: until it is killed, or while its leaks are watched.

    xvfb-run python scripts/torture_viewer.py paint FOLDER SEED fake|real             until it is killed
    xvfb-run python scripts/torture_viewer.py rounds FOLDER COUNT fake|real SECONDS   train and stop so many times
    xvfb-run python scripts/torture_viewer.py soak FOLDER STROKES fake|real SECONDS   paint, predict, accept

It says what happens on stdout, one JSON list a line.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from session import Session
from torture_kills import digest, say
from torture_watch import measure

from napari_semigda.widgets.words import State
from tests import fake_engine

STROKED, ACCEPTED = range(4), range(4, 6)
"""Planes that strokes only ever add to, and planes that only Accept writes to."""
ROWS, COLUMNS, LONG = range(4, 92, 2), range(4, 108, 12), 8
TINY = {"max_steps": 8, "crop": 64, "batch": 2, "device": "cpu"}
STROKES_A_ROUND, STROKES_AN_ACCEPT = 120, 12
"""In eight hours a person paints a stroke every five seconds, accepts once a minute and marks all every ten minutes."""
PATIENCE_S = 600
WARM = 3  # rounds, or accepts, in which what is loaded once is loaded


def begin(folder: Path, fake: bool, **settings) -> Session:
    """A viewer with the project open."""
    session = Session(folder.parent)
    if fake:
        session.dock.runner.close()
        session.dock.runner._command = fake_engine.COMMAND
    session.dock.training.tune = lambda wanted: replace(wanted, **(TINY | settings))
    session.dock.projects.open(folder)
    session.rest(0.5)
    return session


def painted(session: Session, plane: int) -> int:
    """How many pixels of a plane are painted."""
    return int(np.count_nonzero(session.masks.data[plane]))


# -- until it is killed ---------------------------------------------------------------------------------------------


def paint(folder: Path, seed: int, fake: bool) -> None:
    """Strokes most of the time; train, accept, verify and save a model in between."""
    session, rng = begin(folder, fake, **({"max_steps": 15} if fake else {})), np.random.default_rng(seed)
    session.masks.brush_size = 1
    heard: list[str] = []
    session.dock.runner.failed.connect(lambda failure: heard.append(failure.message))
    say("ready", session.dock.runner.pid)
    pid = session.dock.runner.pid
    while True:
        match int(rng.integers(14)):
            case 0 if session.dock.train_button.isEnabled():
                session.press("T")
            case 1 if session.dock.bridge.ours("predicted") is not None:
                accept(session, int(rng.choice(ACCEPTED)))
            case 2:
                plane = int(rng.choice(STROKED))
                session.look_at(plane)
                session.press("D")
            case 3 if session.dock.save_button.isEnabled():
                session.dock.save_model(folder.parent / "export.semigda")
                say("saved a model")
            case _:
                stroke(session, rng)
        if session.dock.runner.pid != pid:
            pid = session.dock.runner.pid
            say("trainer", pid)
        while heard:
            say("failed", heard.pop())


def stroke(session: Session, rng: np.random.Generator) -> None:
    """A short one, where nothing is painted."""
    plane, row, column = int(rng.choice(STROKED)), int(rng.choice(ROWS)), int(rng.choice(COLUMNS))
    if session.dock.bridge.plane_in_view() != plane:
        session.viewer.dims.set_current_step(0, plane)
        session.rest(0.05)
    session.masks.selected_label = 1
    session.hand.stroke(session.masks, (row, column), (row, column + LONG))
    say("stroke", plane, painted(session, plane))


def accept(session: Session, plane: int) -> None:
    """A, on a plane that nothing else writes to."""
    session.viewer.dims.set_current_step(0, plane)
    session.rest(0.05)
    say("accepting", plane, digest(session.dock.bridge.ours("predicted").data[plane]))
    session.press("A")
    say("accepted", plane, digest(session.masks.data[plane]))


# -- while its leaks are watched ------------------------------------------------------------------------------------


def paint_two(session: Session) -> None:
    """Paint two images as a person would, roughly."""
    session.masks.brush_size = 9
    for plane in (0, 1):
        session.look_at(plane)
        for row in range(30, 66, 6):
            session.hand.stroke(session.masks, (row, 30), (row, 60))
    session.rest(0.5)


def run_round(session: Session, stop: bool) -> None:
    """T, and Stop in the middle of every other one; the models of earlier rounds are thrown away."""
    session.wait("the dock to be ready", session.dock.train_button.isEnabled, PATIENCE_S)
    session.press("T")
    if stop:
        session.wait("the training", lambda: session.dock.state is not State.STARTING, PATIENCE_S)
        session.dock.training.stop()
    session.wait("the end", lambda: not session.dock.training.running, PATIENCE_S)
    for old in session.dock.bridge.project.rounds[:-2]:
        old.standing.model.unlink(missing_ok=True)


def rounds(folder: Path, number: int, fake: bool, end: float) -> None:
    """Train and stop, again and again."""
    session = begin(folder, fake, max_steps=3)
    paint_two(session)
    for done in range(-WARM, number + 1):
        over = done == number or time.monotonic() > end
        if done == 0 or (done > 0 and (over or done % 10 == 0)):
            say("measured", done, measure())
        if over:
            break
        run_round(session, stop=done % 2 == 1)
    pid = session.dock.runner.pid
    session.close()  # raises when the process outlives the viewer
    say("closed", not psutil.pid_exists(pid))


def soak(folder: Path, number: int, fake: bool, end: float) -> None:
    """A working day in a hurry."""
    session, rng = begin(folder, fake, max_steps=3), np.random.default_rng(0)
    paint_two(session)
    run_round(session, stop=False)
    for done in range(-WARM * STROKES_AN_ACCEPT, number + 1):
        over = done == number or time.monotonic() > end
        if done == 0 or (done > 0 and (over or done % (2 * STROKES_A_ROUND) == 0)):
            say("measured", done, measure())
        if over:
            break
        stroke(session, rng)
        if done % STROKES_AN_ACCEPT == 0:
            accept(session, int(rng.choice(ACCEPTED)))
        if done % STROKES_A_ROUND == STROKES_A_ROUND - 1:
            session.dock.training.predict()
            session.wait("the masks of all images", lambda: not session.dock.training.running, PATIENCE_S)
    session.close()


if __name__ == "__main__":
    what, where, number, engine, *seconds = sys.argv[1:]
    if what == "paint":
        paint(Path(where), int(number), engine == "fake")
    else:
        act, end = {"rounds": rounds, "soak": soak}[what], time.monotonic() + float(seconds[0])
        act(Path(where), int(number), engine == "fake", end)
