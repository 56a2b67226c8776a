"""Accuracy of SemiGDA and its rivals on folders of images with masks.

    python benchmarks/accuracy.py run --data FOLDER [--sets a,b] [--arms x,y] [--labels 8] [--seeds 0] [--minutes 5]
    python benchmarks/accuracy.py table

A cell is one set, number of labels, seed, budget and arm. Each runs in a process of its own with one thread, counts
CPU seconds (a busy machine does not change a result) and leaves a JSON file in benchmarks/results/; cells that are
there are not run again. `table` writes them into benchmarks/README.md.

A set is a folder with images/, masks/ (same stems, 8-bit class ids) and split.json: {"test": [stems], "pool": [stems]}.
The first N stems of the pool are labelled, the rest is unlabelled; `test` never trains. Dice and 95 % Hausdorff are
means over images and foreground classes, on `test` and on the unlabelled part of the pool.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
ARMS = ("forest", "unet", "encoder-unet", "mean-teacher", "semigda-supervised", "semigda")
SETS = ("skin_ph2", "glands_glas", "nuclei_dsb2018", "hippocampus_mri", "brain_tissue_mri", "membranes_em_isbi2012")
POOL_SCORED = 40  # most unlabelled pool images scored a cell, evenly spread

app = typer.Typer(add_completion=False)


def cell_path(name: str, labels: int, seed: int, minutes: float, arm: str) -> Path:
    """Where a cell's result lies."""
    return RESULTS / f"{name}-{labels}labels-{minutes:g}min-seed{seed}-{arm}.json"


def load_set(folder: Path, labels: int):
    """The pool with its first `labels` masks, then the planes scored of `test` and of the unlabelled pool."""
    from skimage.io import imread

    from napari_semigda.engine.types import Plane

    split = json.loads((folder / "split.json").read_text())
    files = {path.stem: path for path in (folder / "images").iterdir()}

    def plane(stem: str, with_mask: bool) -> Plane:
        mask = imread(folder / "masks" / f"{stem}.png") if with_mask else None
        return Plane(stem, imread(files[stem]), mask)

    pool = [plane(stem, i < labels) for i, stem in enumerate(split["pool"])]
    unlabelled = split["pool"][labels:]
    spread = sorted({int(i) for i in np.linspace(0, len(unlabelled) - 1, POOL_SCORED)})
    return pool, [plane(s, True) for s in split["test"]], [plane(unlabelled[i], True) for i in spread]


def train_arm(arm: str, pool: list, settings, folder: Path):
    """Train one arm; returns plane -> mask, the number of steps, and the held-out Dice where the arm has one."""
    if arm == "forest":
        from rivals import train_forest

        return *train_forest(pool, settings), None
    if not arm.startswith("semigda"):
        from rivals import train_network

        return *train_network(arm, pool, settings), None
    from dataclasses import replace

    from napari_semigda.engine.predict import Predictor
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import TrainRequest

    if arm == "semigda-supervised":
        settings = replace(settings, unlabelled_weight=0.0)
    last = list(Trainer().fit(TrainRequest(tuple(pool), folder / "model.semigda", settings)))[-1]
    predictor = Predictor(folder / "model.semigda")
    return lambda plane: predictor.predict(plane).mask, last.step, last.dice


@app.command()
def cell(data: Path, name: str, labels: int, seed: int, minutes: float, arm: str) -> None:
    """Run one cell (one process, one thread)."""
    import torch

    from napari_semigda.engine.metrics import score
    from napari_semigda.engine.types import Settings

    torch.set_num_threads(1)
    pool, test, unlabelled = load_set(data / name, labels)
    begun, begun_cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(minutes=minutes, seed=seed, clock="cpu", device="cpu")
        segment, steps, held_out = train_arm(arm, pool, settings, Path(folder))
        trained, trained_cpu = time.monotonic() - begun, time.process_time() - begun_cpu
        ids = sorted({int(v) for p in test for v in np.unique(p.mask)} - {0})
        results = {}
        for part, planes in (("test", test), ("pool", unlabelled)):
            scores = [score(segment(p), p.mask, ids) for p in planes]
            results[part] = {
                "images": len(scores),
                "dice": _spread([s.dice for row in scores for s in row.values()], len(ids)),
                "hausdorff95": _spread([s.hausdorff for row in scores for s in row.values()], len(ids)),
                "dice_by_class": {c: float(np.nanmean([row[c].dice for row in scores])) for c in ids},
            }
    result = {
        "set": name, "labels": labels, "seed": seed, "minutes": minutes, "arm": arm, "steps": steps,
        "held_out_dice": held_out, "cpu_seconds": round(trained_cpu, 1), "wall_seconds": round(trained, 1), **results,
        "date": datetime.date.today().isoformat(), "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    cell_path(name, labels, seed, minutes, arm).write_text(json.dumps(result, indent=1) + "\n")
    print(name, arm, f"test Dice {results['test']['dice']['mean']:.4f}, {steps} steps", flush=True)


@app.command()
def run(
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    sets: str = ",".join(SETS),
    arms: str = ",".join(ARMS),
    labels: str = "8",
    seeds: str = "0",
    minutes: str = "5",
    jobs: int = 2,
) -> None:
    """Run every cell that has no result yet."""
    todo = [
        (n, int(k), int(s), float(m), a)
        for s, k, m, n, a in product(*(v.split(",") for v in (seeds, labels, minutes, sets, arms)))
    ]
    missing = [c for c in todo if not cell_path(*c).exists()]
    print(f"{len(todo) - len(missing)} cells are there, {len(missing)} to run")

    def start(one) -> int:
        command = [sys.executable, __file__, "cell", str(data), *map(str, one)]
        return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode

    with ThreadPoolExecutor(jobs) as workers:
        failed = sum(code != 0 for code in workers.map(start, missing))
    table()
    raise typer.Exit(1 if failed else 0)


@app.command()
def table() -> None:
    """Write the table of all cells into benchmarks/README.md, between its markers."""
    cells = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))]
    lines = []
    for labels, minutes in sorted({(c["labels"], c["minutes"]) for c in cells}):
        group = [c for c in cells if (c["labels"], c["minutes"]) == (labels, minutes)]
        lines += [f"\n#### {labels} labelled images, {minutes:g} CPU minutes, one thread\n", *_table(group)]
    text = README.read_text()
    begin, end = "<!-- accuracy:begin -->", "<!-- accuracy:end -->"
    head, tail = text.split(begin)[0], text.split(end)[1]
    README.write_text(f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}{tail}")


def _table(cells: list[dict]) -> list[str]:
    arms = [a for a in ARMS if any(c["arm"] == a for c in cells)]
    lines = [f"| set | seeds | {' | '.join(arms)} |", "|---|---|" + "---|" * len(arms)]
    for name in [n for n in SETS if any(c["set"] == n for c in cells)]:
        here = [c for c in cells if c["set"] == name]
        columns = [_entry([c for c in here if c["arm"] == a]) for a in arms]
        lines.append(f"| {name} | {len({c['seed'] for c in here})} | {' | '.join(columns)} |")
    dates = sorted({c["date"] for c in cells})
    note = f"Dice on test (on the unlabelled pool; 95 % Hausdorff in pixels on test). Taken {dates[0]} to {dates[-1]}, "
    return [*lines, "", note + f"{cells[0]['machine']}."]


def _entry(cells: list[dict]) -> str:
    if not cells:
        return "–"
    mean = [np.mean([c[part][key]["mean"] for c in cells]) for part, key in
            (("test", "dice"), ("pool", "dice"), ("test", "hausdorff95"))]  # fmt: skip
    return f"**{mean[0]:.3f}** ({mean[1]:.3f}; {mean[2]:.1f})"


def _spread(values: list[float], classes: int) -> dict[str, float]:
    """Mean over images of the mean over classes, with the standard deviation over images."""
    rows = np.asarray(values, dtype=float).reshape(-1, classes)
    per_image = np.asarray([np.nanmean(r) if np.isfinite(r).any() else np.nan for r in rows])
    return {"mean": float(np.nanmean(per_image)), "sd": float(np.nanstd(per_image))}


if __name__ == "__main__":
    app()
