"""Whether correction rounds drift: is a model corrected k times as good as one trained from the start?

    python benchmarks/drift.py run --data FOLDER [--set a,b] [--minutes 5] [--seed 0]
    python benchmarks/drift.py table

The user of this benchmark paints 4 images and trains for `minutes`; then three times paints 2 more and trains a
correction, which takes a fifth of that. Painted masks are the true ones. After every round the better of the model in
use and the new one stays in use, as in the viewer. Against it stand models trained from the start on all 10 masks: one
for as long as all four rounds together, one for as long as the first round.

A cell is one set, seed, time and way. Each runs in a process of its own with one thread, counts CPU seconds and leaves
a JSON file in benchmarks/results/drift/; cells that are there are not run again. With --max-steps (a rehearsal: steps
of the first round in place of minutes) they go to out/rehearsal/drift/. Sets are those of accuracy.py; Dice is the mean
over images and foreground classes of `test`.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from accuracy import load_set
from cells import README, RESULTS, SETS

FIRST, MORE, CORRECTIONS = 4, 2, 3  # painted images, painted before each correction, corrections
LAST = FIRST + MORE * CORRECTIONS
WAYS = ("corrected", "from-start-all-time", "from-start-first-time")
REHEARSAL = Path(__file__).parents[1] / "out" / "rehearsal"
Data = Annotated[Path, typer.Option(help="folder of the sets")]

app = typer.Typer(add_completion=False)


def cell_path(folder: Path, name: str, minutes: float, seed: int, way: str) -> Path:
    """Where a cell's result lies."""
    return folder / f"{name}-{minutes:g}min-seed{seed}-{way}.json"


def painted(pool: Sequence, count: int) -> tuple:
    """The planes of the pool when only the first `count` are painted."""
    return tuple(plane if i < count else replace(plane, mask=None) for i, plane in enumerate(pool))


def share_of(settings, share: float):
    """The settings for a share of the first round's time, or of its steps in a rehearsal."""
    steps = settings.max_steps and max(1, round(settings.max_steps * share))
    return replace(settings, minutes=settings.minutes * share, max_steps=steps)


def correct(pool: Sequence, settings, folder: Path, test_dice) -> list[dict]:
    """A first round and its corrections: what each of them reached, and whether it was kept."""
    from napari_semigda.engine.exchange import Standing
    from napari_semigda.engine.planner import CORRECTION
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import TrainRequest

    rounds, in_use = [], None
    for number in range(CORRECTIONS + 1):
        planes = painted(pool, FIRST + MORE * number)
        out = folder / f"round-{number + 1}.semigda"
        mine = settings if in_use is None else share_of(settings, CORRECTION)
        request = TrainRequest(planes, out, mine, None if in_use is None else in_use.model)
        last = list(Trainer().fit(request))[-1]
        new = Standing(out, last.dice, last.held_out, number + 1)
        kept_before = in_use is not None and in_use.beats(new)
        in_use = in_use if kept_before else new
        rounds.append(
            {
                "labels": FIRST + MORE * number,
                "steps": last.step,
                "cpu_seconds": round(last.elapsed, 1),
                "held_out_dice": last.dice,
                "new_model_in_use": not kept_before,
                "dice": test_dice(in_use.model),
            }
        )
    return rounds


def train_once(pool: Sequence, settings, folder: Path, test_dice) -> list[dict]:
    """One model on all masks."""
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import TrainRequest

    out = folder / "model.semigda"
    last = list(Trainer().fit(TrainRequest(painted(pool, LAST), out, settings)))[-1]
    figures = {"labels": LAST, "steps": last.step, "cpu_seconds": round(last.elapsed, 1), "held_out_dice": last.dice}
    return [figures | {"dice": test_dice(out)}]


@app.command()
def cell(
    data: Path, name: str, minutes: float, seed: int, way: str, folder: Path, max_steps: int | None = None
) -> None:
    """Run one cell (one process, one thread)."""
    import torch

    from napari_semigda.engine.metrics import dice, mean_foreground
    from napari_semigda.engine.planner import CORRECTION
    from napari_semigda.engine.predict import Predictor
    from napari_semigda.engine.types import Settings

    torch.set_num_threads(1)
    pool, test, _ = load_set(data / name, LAST)
    ids = sorted({int(v) for p in test for v in np.unique(p.mask)} - {0})

    def test_dice(model: Path) -> float:
        predictor = Predictor(model, "cpu")
        return float(np.nanmean([mean_foreground(dice(predictor.predict(p).mask, p.mask, ids)) for p in test]))

    settings = Settings(minutes=minutes, seed=seed, clock="cpu", device="cpu", max_steps=max_steps)
    with tempfile.TemporaryDirectory() as models:
        if way == "corrected":
            rounds = correct(pool, settings, Path(models), test_dice)
        else:
            share = 1 + CORRECTIONS * CORRECTION if way == "from-start-all-time" else 1.0
            rounds = train_once(pool, share_of(settings, share), Path(models), test_dice)
    result = {
        "set": name, "minutes": minutes, "seed": seed, "way": way, "dice": rounds[-1]["dice"], "rounds": rounds,
        "date": datetime.date.today().isoformat(), "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = cell_path(folder, name, minutes, seed, way)
    path.with_suffix(".part").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".part").replace(path)
    print(name, way, " -> ".join(f"{r['dice']:.4f}" for r in rounds), flush=True)


@app.command()
def run(
    data: Data,
    sets: Annotated[str, typer.Option("--set", "--sets", help="names, with commas between them")] = ",".join(SETS),
    minutes: Annotated[str, typer.Option(help="of the first round")] = "5",
    seeds: Annotated[str, typer.Option("--seed", "--seeds")] = "0",
    jobs: int = 2,
    max_steps: Annotated[int | None, typer.Option(help="a rehearsal: steps of the first round")] = None,
) -> None:
    """Run every cell that has no result yet, then write the table (not in a rehearsal)."""
    folder = (RESULTS if max_steps is None else REHEARSAL) / "drift"
    todo = [
        (name, float(time), int(seed), way)
        for seed, time, name, way in product(seeds.split(","), minutes.split(","), sets.split(","), WAYS)
    ]
    missing = [one for one in todo if not cell_path(folder, *one).exists()]
    print(f"{len(todo) - len(missing)} cells are there, {len(missing)} to run", flush=True)

    def start(one: tuple) -> int:
        command = [sys.executable, __file__, "cell", str(data), *map(str, one), str(folder)]
        command += [] if max_steps is None else ["--max-steps", str(max_steps)]
        return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode

    with ThreadPoolExecutor(jobs) as workers:
        failed = sum(code != 0 for code in workers.map(start, missing))
    if max_steps is None:
        table()
    else:
        print("\n".join(_lines(folder)))
    raise typer.Exit(1 if failed else 0)


@app.command()
def table() -> None:
    """Write the table of all cells into benchmarks/README.md, between its markers."""
    text = README.read_text()
    begin, end = "<!-- drift:begin -->", "<!-- drift:end -->"
    head, tail = text.split(begin)[0], text.split(end)[1]
    README.write_text(f"{head}{begin}\n" + "\n".join(_lines(RESULTS / "drift")) + f"\n{end}{tail}")


def _lines(folder: Path) -> list[str]:
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    rounds = [f"round {number + 1}" for number in range(CORRECTIONS + 1)]
    header = ["set", "seeds", *rounds, *(way.replace("-", " ") for way in WAYS[1:]), "corrected against the best"]
    lines = []
    for minutes in sorted({c["minutes"] for c in cells}):
        group = [c for c in cells if c["minutes"] == minutes]
        lines += [f"\n#### First round {minutes:g} CPU minutes, one thread\n", f"| {' | '.join(header)} |"]
        lines += ["|---" * len(header) + "|", *filter(None, (_row(name, group) for name in SETS)), ""]
        dates = sorted({c["date"] for c in group})
        lines.append(f"Dice on test. Taken {dates[0]} to {dates[-1]}, {group[0]['machine']}.")
    return lines


def _row(name: str, cells: Sequence[dict]) -> str | None:
    """One set, over the seeds that have all three ways."""
    here = {(c["seed"], c["way"]): c for c in cells if c["set"] == name}
    seeds = [s for s in sorted({seed for seed, _ in here}) if all((s, way) in here for way in WAYS)]
    if not seeds:
        return None
    rounds = np.mean([[r["dice"] for r in here[s, WAYS[0]]["rounds"]] for s in seeds], axis=0)
    rivals = np.mean([[here[s, way]["dice"] for way in WAYS[1:]] for s in seeds], axis=0)
    figures = [f"{value:.3f}" for value in (*rounds, *rivals)]
    return f"| {name} | {len(seeds)} | {' | '.join(figures)} | **{rounds[-1] - max(rivals):+.3f}** |"


if __name__ == "__main__":
    app()
