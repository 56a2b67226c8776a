"""Accuracy of SemiGDA, of SemiGDA with parts taken out, and of its rivals, on folders of images with masks.

    python benchmarks/accuracy.py run --data FOLDER                       the short grid
    python benchmarks/accuracy.py run --data FOLDER --arms wide --labels 4,8,16,all --seeds 0,1 --minutes 1,5,20
    python benchmarks/accuracy.py table                                   tables and plots from what is there

A cell is one set, number of labels, seed, budget and arm. Each runs in a process of its own with one thread, counts
CPU seconds (a busy machine does not change a result; with --device cuda wall seconds) and leaves a JSON file in
benchmarks/results/; cells that are there are not run again. Tables go into benchmarks/README.md, plots into
benchmarks/plots/.

Dice and 95 % Hausdorff are means over images and foreground classes, on `test` and on the unlabelled part of the pool
(at most 40 of its images); see cells.py for the sets. On `test` also Dice of each branch alone and the AUROC with which
their disagreement and the product's doubt rank wrong pixels. With ``--labels all`` every mask of the pool is painted:
the ceiling.

Walk through: `run` starts `cell` for what is missing -> `train_arm` -> `answers.figures` -> a JSON file -> `table`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from cells import (
    FORESTS,
    RESULTS,
    RIVALS,
    SETS,
    SHORT,
    WIDE,
    Place,
    foreground,
    grid,
    load_set,
    read_cells,
    run_missing,
    write_cell,
    write_section,
)

app = typer.Typer(add_completion=False)


def train_arm(arm: str, pool: list, settings, folder: Path):
    """Train one arm; plane -> `Answer`, the number of steps, and the held-out Dice where the arm has one."""
    if arm in FORESTS:
        from rivals import train_forest

        return *train_forest(arm, pool, settings), None
    if arm in RIVALS:
        from rivals import train_network

        return *train_network(arm, pool, settings), None
    return train_semigda(arm, pool, settings, folder)


def train_semigda(arm: str, pool: list, settings, folder: Path):
    """Train the product, or the product with a part taken out."""
    from ablations import ABLATIONS, train_ablated
    from answers import look_with

    from napari_semigda.engine.checkpoint import load_model
    from napari_semigda.engine.device import pick_device
    from napari_semigda.engine.header import read_header
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import TrainRequest

    if arm == "semigda-supervised":
        settings = replace(settings, unlabelled_weight=0.0)
    request = TrainRequest(tuple(pool), folder / "model.semigda", settings)
    if arm in ABLATIONS:
        model, last = train_ablated(ABLATIONS[arm], request)
    else:
        last = list(Trainer().fit(request))[-1]
        model, _ = load_model(request.out, pick_device(settings.device))
    return look_with(model, read_header(request.out)), last.step, last.dice


@app.command()
def cell(data: Path, place: str, folder: Path, steps: int | None = None) -> None:
    """Run one cell (one process, one thread)."""
    import torch
    from answers import figures

    from napari_semigda.engine.device import describe_device, pick_device
    from napari_semigda.engine.types import Settings

    torch.set_num_threads(1)
    place = Place.parse(place)
    pool, test, unlabelled = load_set(data / place.set, place.labels)
    clock = "cpu" if place.device == "cpu" else "wall"
    settings = Settings(minutes=place.minutes, seed=place.seed, clock=clock, device=place.device, max_steps=steps)
    begun, begun_cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as models:
        look, steps_done, held_out = train_arm(place.arm, pool, settings, Path(models))
    trained, trained_cpu = time.monotonic() - begun, time.process_time() - begun_cpu
    ids = foreground(test)
    result = {
        "steps": steps_done,
        "held_out_dice": held_out,
        "cpu_seconds": round(trained_cpu, 1),
        "wall_seconds": round(trained, 1),
        "test": figures(look, test, ids, branches=True),
        "pool": figures(look, unlabelled, ids) if unlabelled else None,
    }
    if place.device != "cpu":
        result["machine"] = describe_device(pick_device(place.device))
    write_cell(place, result, folder)
    print(place, f"test Dice {result['test']['dice']['mean']:.4f}, {steps_done} steps", flush=True)


@app.command()
def run(  # noqa: PLR0913, PLR0917 - the axes of the grid
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    sets: str = ",".join(SETS),
    arms: Annotated[str, typer.Option(help="names, or short, or wide")] = "short",
    labels: Annotated[str, typer.Option(help="numbers, or all")] = "8",
    seeds: str = "0",
    minutes: str = "5",
    device: str = "cpu",
    jobs: Annotated[int, typer.Option(help="cells at a time")] = 2,
    rehearse: Annotated[int | None, typer.Option(help="so many steps a cell; results go to out/rehearsal")] = None,
) -> None:
    """Run every cell that has no result yet."""
    arms = {"short": ",".join(SHORT), "wide": ",".join(WIDE)}.get(arms, arms)
    places = grid(data, device, sets=sets, labels=labels, minutes=minutes, seeds=seeds, arms=arms)
    failed = run_missing(__file__, data, places, RESULTS, jobs, rehearse)
    if not rehearse:
        table()
    raise typer.Exit(1 if failed else 0)


@app.command()
def table() -> None:
    """Draw the plots, and write them and the tables of all cells into benchmarks/README.md."""
    from accuracy_tables import accuracy_section
    from plots import draw_plots

    cells = read_cells()
    write_section("accuracy", [*accuracy_section(cells), *draw_plots(cells)])


if __name__ == "__main__":
    app()
