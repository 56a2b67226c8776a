"""Do suggested images teach more than random ones? A simulation with an oracle who paints.

    python benchmarks/which_next.py run --data FOLDER [--sets a,b] [--seeds 0,1,2] [--rounds 5] [--per-round 2]
                                        [--minutes 2] [--start 2] [--ways suggested,doubtful,random] [--jobs 2]
    python benchmarks/which_next.py table

A course begins with `start` random images of the pool painted and a round of training. Then the oracle paints the true
masks of `per-round` more images, the next round goes on from the weights before, and so on. Who chooses them:

- ``suggested``: `engine.ranking.suggest`, as the Review dock does: doubt x novelty;
- ``doubtful``: doubt alone, to see what novelty is worth;
- ``random``: a draw from what is left.

All ways share the first round, its weights included, and the budget of the rounds that follow. After every round Dice
is taken on `test`, which never trains, and on what is left of the pool. The latter flatters a way that takes the hard
images out of the pool: `test` decides.

The courses of a set and a seed run in a process of their own with one thread, count CPU seconds, and leave a JSON file
each in benchmarks/results/which_next/ after every round; finished ones are not run again. `table` writes them into
benchmarks/README.md. Sets are as for accuracy.py.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from cells import ALL, RESULTS, SETS, engine, load_set, machine, markdown, read_cells, taken, today, write_section

COURSES = RESULTS / "which_next"
WAYS = ("suggested", "doubtful", "random")

app = typer.Typer(add_completion=False)


class Course:
    """What is painted so far on one set, and the model of it.

    Parameters
    ----------
    pool, test
        Planes with their true masks; those of `pool` are shown to the engine as they are painted.
    settings
        Of every round.
    folder
        Where the models go.
    """

    def __init__(self, pool: list, test: list, settings: Any, folder: Path) -> None:
        self.pool, self.test, self.settings, self.folder = pool, test, settings, folder
        self.rng = np.random.default_rng(settings.seed)
        self.classes = sorted({int(v) for plane in test for v in np.unique(plane.mask)} - {0})
        self.painted: list[int] = []
        self.model: Path | None = None

    def branch(self, folder: Path) -> Course:
        """The same up to now, going on by itself."""
        other = copy.copy(self)
        other.folder, other.painted = folder, list(self.painted)
        other.rng = np.random.default_rng(self.settings.seed + 1)
        folder.mkdir()
        return other

    def paint_at_random(self, count: int) -> None:
        """Paint `count` images that are not painted."""
        left = [i for i in range(len(self.pool)) if i not in self.painted]
        self.painted += [int(i) for i in self.rng.choice(left, min(count, len(left)), replace=False)]

    def train(self) -> dict[str, Any]:
        """One round on what is painted now, and how well its model does."""
        from napari_semigda.engine.predict import Predictor
        from napari_semigda.engine.train import Trainer
        from napari_semigda.engine.types import TrainRequest

        shown = [plane if i in self.painted else replace(plane, mask=None) for i, plane in enumerate(self.pool)]
        out = self.folder / f"round-{len(self.painted)}.semigda"
        last = list(Trainer().fit(TrainRequest(tuple(shown), out, self.settings, init=self.model)))[-1]
        self.model = out
        predictor = Predictor(out)
        self._seen = [predictor.predict(replace(plane, mask=None), i) for i, plane in enumerate(self.pool)]
        left = [i for i in range(len(self.pool)) if i not in self.painted]
        return {
            "labelled": len(self.painted),
            "painted": [self.pool[i].name for i in self.painted],
            "steps": last.step,
            "test": self._dice([predictor.predict(plane).mask for plane in self.test], self.test),
            "pool": self._dice([self._seen[i].mask for i in left], [self.pool[i] for i in left]),
        }

    def paint_next(self, way: str, count: int) -> None:
        """Paint the true masks of `count` images that are chosen in one of `WAYS`."""
        from napari_semigda.engine.ranking import doubt_score, suggest

        if way == "random":
            self.paint_at_random(count)
            return
        doubts = {p.index: doubt_score(p.doubt, p.mask) for p in self._seen if p.index not in self.painted}
        looks = {p.index: p.description for p in self._seen} if way == "suggested" else {}
        self.painted += suggest(doubts, looks, self.painted)[:count]

    def _dice(self, masks: list, planes: list) -> float:
        """Mean over images of the mean over classes."""
        from napari_semigda.engine.metrics import average, dice, mean_foreground

        pairs = zip(masks, planes, strict=True)
        return average(mean_foreground(dice(mask, plane.mask, self.classes)) for mask, plane in pairs).mean


def course_path(name: str, way: str, seed: int, start: int, per_round: int, rounds: int, minutes: float) -> Path:
    """Where the result of a course lies."""
    return COURSES / f"{name}-{start}+{rounds}x{per_round}-{minutes:g}min-seed{seed}-{way}.json"


@app.command()
def courses(  # noqa: PLR0913, PLR0917 - a command line
    data: Path, name: str, seed: int, ways: str, start: int, per_round: int, rounds: int, minutes: float,
    max_steps: int = 0,
) -> None:  # fmt: skip
    """Run the courses of one set and seed (one process, one thread)."""
    import torch

    from napari_semigda.engine.types import Settings

    torch.set_num_threads(1)
    settings = Settings(minutes=minutes, seed=seed, clock="cpu", device="cpu", max_steps=max_steps or None)
    plan = {"set": name, "seed": seed, "start": start, "per_round": per_round, "rounds": rounds, "minutes": minutes}
    plan |= {"max_steps": max_steps, "date": today(), "machine": machine(), "engine": engine()}
    COURSES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        beginning = Course(*load_set(data / name, ALL)[:2], settings, Path(folder))
        beginning.paint_at_random(start)
        first = beginning.train()
        for way in ways.split(","):
            course, curve = beginning.branch(Path(folder) / way), [first]
            for _ in range(rounds):
                course.paint_next(way, per_round)
                curve.append(course.train())
                path = course_path(name, way, seed, start, per_round, rounds, minutes)
                path.write_text(json.dumps(plan | {"way": way, "curve": curve}, indent=1) + "\n")
                point = curve[-1]
                print(name, way, f"seed {seed}: {point['labelled']} painted, test Dice {point['test']:.4f}", flush=True)


@app.command()
def run(  # noqa: PLR0913, PLR0917 - a command line
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    sets: str = "hippocampus_mri,glands_glas",
    ways: str = ",".join(WAYS),
    seeds: str = "0,1,2",
    start: int = 2,
    per_round: int = 2,
    rounds: int = 5,
    minutes: float = 2,
    max_steps: Annotated[int, typer.Option(help="so many steps a round whatever the time, to try the program")] = 0,
    jobs: int = 2,
) -> None:
    """Run every course that is not finished yet, then write the table."""
    plan = (start, per_round, rounds, minutes)
    todo = []
    for seed, name in product(seeds.split(","), sets.split(",")):
        paths = {way: course_path(name, way, int(seed), *plan) for way in ways.split(",")}
        missing = [
            way for way, path in paths.items() if not path.exists() or not complete(json.loads(path.read_text()))
        ]
        if missing:
            todo.append((name, seed, ",".join(missing), *plan))
    print(f"{sum(len(each[2].split(',')) for each in todo)} courses to run")

    def begin(one) -> int:
        command = [sys.executable, __file__, "courses", str(data), *map(str, one), "--max-steps", str(max_steps)]
        return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode

    with ThreadPoolExecutor(jobs) as workers:
        failed = sum(code != 0 for code in workers.map(begin, todo))
    table()
    raise typer.Exit(1 if failed else 0)


def complete(course: dict) -> bool:
    """Whether a course has come to its end."""
    return len(course["curve"]) > course["rounds"]


@app.command()
def table() -> None:
    """Write the finished courses into benchmarks/README.md, between the markers; rounds cut short are left out."""
    done = [course for course in read_cells(COURSES) if complete(course) and not course["max_steps"]]
    lines: list[str] = []
    keys = ("start", "per_round", "rounds", "minutes")
    for start, per_round, rounds, minutes in sorted({tuple(c[key] for key in keys) for c in done}):
        group = [c for c in done if tuple(c[key] for key in keys) == (start, per_round, rounds, minutes)]
        lines += [f"\n#### {per_round} images a round, {minutes:g} CPU minutes a round, one thread\n"]
        lines += _table(group, [start + per_round * number for number in range(rounds + 1)])
    write_section("which-next", lines)


def _table(courses: list[dict], labelled: list[int]) -> list[str]:
    rows = []
    for name in [n for n in SETS if any(c["set"] == n for c in courses)]:
        curves = {way: {c["seed"]: c["curve"] for c in courses if (c["set"], c["way"]) == (name, way)} for way in WAYS}
        for way in [way for way in WAYS if curves[way]]:
            entries = [_entry(curves[way].values(), at) for at in range(len(labelled))]
            rows.append([name, way, str(len(curves[way])), *entries, _gain(curves[way], curves["random"])])
    painted = [f"{count} painted" for count in labelled]
    table = markdown(["set", "chosen", "seeds", *painted, "mean of the curve, less random"], rows)
    return [*table, "", f"Dice on test (on what is left of the pool). {taken(courses)}"]


def _entry(curves: Any, at: int) -> str:
    points = [curve[at] for curve in curves]
    return f"**{np.mean([p['test'] for p in points]):.3f}** ({np.mean([p['pool'] for p in points]):.3f})"


def _gain(curves: dict[int, list], random: dict[int, list]) -> str:
    """Mean test Dice after the rounds that were chosen for, less that of random choice; seed by seed."""
    shared = sorted(curves.keys() & random.keys())
    if not shared or curves is random:
        return "–"
    heights = [[np.mean([point["test"] for point in way[seed][1:]]) for seed in shared] for way in (curves, random)]
    gains = np.subtract(*heights)
    return f"{gains.mean():+.3f} (" + ", ".join(f"{gain:+.3f}" for gain in gains) + ")"


if __name__ == "__main__":
    app()
