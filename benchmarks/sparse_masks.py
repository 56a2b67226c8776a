"""Scribbles against full masks: Dice when 5 % of the pixels are painted, at the same minutes.

    python benchmarks/sparse_masks.py run --data FOLDER [--sets a,b] [--labels 8] [--seeds 0] [--minutes 5] [--share 5]
    python benchmarks/sparse_masks.py table

The same images are labelled as in accuracy.py, with strokes (scribbles.py) in place of whole masks; everything else is
the product's own. Cells lie in benchmarks/results/sparse/, the full masks' are accuracy.py's cells of whole SemiGDA and
are run where they are missing. Goal: at least 90 % of the Dice of full masks on three sets.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import accuracy
import numpy as np
import typer
from cells import (
    RESULTS,
    Place,
    foreground,
    grid,
    load_set,
    markdown,
    mean_and_sd,
    read_cells,
    run_missing,
    taken,
    write_cell,
    write_section,
)

SPARSE = RESULTS / "sparse"
ARM = "sparse"  # and the share in per cent: sparse5
GOAL = 0.9

app = typer.Typer(add_completion=False)


def scribbled(pool: list, share: float, seed: int) -> tuple[list, int, float]:
    """The pool with strokes in place of its masks, the id of background strokes, and the share painted in the end."""
    from scribbles import scribble

    rng = np.random.default_rng(seed)
    background = foreground([p for p in pool if p.mask is not None])[-1] + 1
    painted = [p if p.mask is None else replace(p, mask=scribble(p.mask, share, background, rng)) for p in pool]
    return painted, background, statistics.fmean(float((p.mask > 0).mean()) for p in painted if p.mask is not None)


@app.command()
def cell(data: Path, place: str, folder: Path, steps: int | None = None) -> None:
    """Run one cell (one process, one thread)."""
    import torch
    from answers import Answer, figures

    from napari_semigda.engine.types import Settings

    torch.set_num_threads(1)
    place = Place.parse(place)
    pool, test, _ = load_set(data / place.set, place.labels)
    share = float(place.arm.removeprefix(ARM)) / 100
    pool, background, painted = scribbled(pool, share, place.seed)
    settings = Settings(minutes=place.minutes, seed=place.seed, clock="cpu", device="cpu", sparse=True, max_steps=steps)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as models:
        look, steps_done, held_out = accuracy.train_arm("semigda", pool, settings, Path(models))

    def look_without_background(plane) -> Answer:
        mask = look(plane).mask
        return Answer(np.where(mask == background, 0, mask))

    result = {
        "steps": steps_done,
        "held_out_dice": held_out,
        "painted": painted,
        "cpu_seconds": round(time.process_time() - begun, 1),
        "test": figures(look_without_background, test, foreground(test)),
    }
    write_cell(place, result, folder)
    print(place, f"test Dice {result['test']['dice']['mean']:.4f}, {painted:.1%} painted", flush=True)


@app.command()
def run(
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    sets: str = "skin_ph2,glands_glas,hippocampus_mri",
    labels: str = "8",
    seeds: str = "0",
    minutes: str = "5",
    share: Annotated[str, typer.Option(help="per cent of the pixels")] = "5",
    jobs: Annotated[int, typer.Option(help="cells at a time")] = 2,
    rehearse: Annotated[int | None, typer.Option(help="so many steps a cell; results go to out/rehearsal")] = None,
) -> None:
    """Run every cell that has no result yet, of full masks too."""
    axes = {"sets": sets, "labels": labels, "seeds": seeds, "minutes": minutes}
    full, sparse = (grid(data, arms=arm, **axes) for arm in ("semigda", ",".join(ARM + s for s in share.split(","))))
    failed = run_missing(accuracy.__file__, data, full, RESULTS, jobs, rehearse)
    failed += run_missing(__file__, data, sparse, SPARSE, jobs, rehearse)
    if not rehearse:
        table()
    raise typer.Exit(1 if failed else 0)


@app.command()
def table() -> None:
    """Write the table of all cells into benchmarks/README.md."""
    write_section("sparse", sparse_section(read_cells(SPARSE), read_cells()))


def sparse_section(sparse: list[dict], full: list[dict]) -> list[str]:
    """Markdown: Dice with full masks and with scribbles of the same sets, labels, minutes and seeds."""
    if not sparse:
        return ["Not yet taken."]
    whole = {_key(c): _dice(c) for c in full if c["arm"] == "semigda"}
    groups: dict[tuple, list[tuple[dict, float]]] = {}
    for cell in sparse:
        if _key(cell) in whole:
            group = cell["set"], cell["labels"], cell["minutes"], cell["arm"]
            groups.setdefault(group, []).append((cell, whole[_key(cell)]))
    rows, reached = [], 0
    for (name, labels, minutes, _), both in groups.items():
        ratios = [_dice(c) / best for c, best in both]
        reached += statistics.fmean(ratios) >= GOAL
        columns = [100 * c["painted"] for c, _ in both], [best for _, best in both], [_dice(c) for c, _ in both], ratios
        figures = [mean_and_sd(values, digits) for values, digits in zip(columns, (1, 3, 3, 2), strict=True)]
        rows.append([name, f"{labels}, {minutes:g}", str(len(both)), *figures])
    header = ["set", "labelled, minutes", "seeds", "% painted", "Dice, full masks", "Dice, scribbles", "ratio"]
    return [*markdown(header, rows), "", f"{reached} of {len(rows)} rows reach {GOAL:.0%}. {taken(sparse)}"]


def _key(cell: dict) -> tuple:
    return cell["set"], cell["labels"], cell["minutes"], cell["seed"]


def _dice(cell: dict) -> float:
    return cell["test"]["dice"]["mean"]


if __name__ == "__main__":
    app()
