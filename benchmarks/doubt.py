"""Does doubt find what is wrong? The product's doubt against the mere disagreement of the two branches.

    python benchmarks/doubt.py run --data FOLDER [--sets a,b] [--labels 8] [--seeds 0] [--minutes 2] [--jobs 2]
    python benchmarks/doubt.py table

A model is trained as in accuracy.py and predicts at most 40 images of `test`. The Review dock uses doubt in three ways,
and each is measured on those masks:

- **pixels** (the layer, the maps): AUROC with which it ranks wrong pixels above right ones;
- **images** (the table, what is suggested): Spearman's correlation of the images' `doubt_score` with 1 - Dice, and the
  means of both, which should be alike as the score is shown as an estimate of that;
- **places** (Next doubtful): share of wrong pixels in a box of an eighth of the image around the first place.

Walk through: `run` starts `cell` for what is missing -> `look_at_doubt` -> a JSON file -> `table`.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import accuracy
import numpy as np
import typer
from cells import (
    RESULTS,
    SETS,
    Place,
    evenly,
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

DOUBT = RESULTS / "doubt"
MOST = 40  # images that are looked at
PIXELS = 4000  # of each, for the ranking of wrong ones
BOX = 8  # a box around a place is so manieth part of the image a side
KINDS = ("disagreement", "doubt")  # of an `Answer`

app = typer.Typer(add_completion=False)


def look_at_doubt(look: Callable, planes: Sequence, ids: Sequence[int]) -> dict:
    """Figures of each of `KINDS`.

    Parameters
    ----------
    look
        Plane -> `Answer`.
    planes
        With masks.
    ids
        Foreground classes.
    """
    from answers import ranking
    from scipy.ndimage import uniform_filter
    from scipy.stats import spearmanr

    from napari_semigda.engine.metrics import dice, mean_foreground
    from napari_semigda.engine.ranking import doubt_score, doubtful_regions

    rng = np.random.default_rng(0)
    errors, wrongs = [], []
    found = {kind: {"pixels": [], "scores": [], "places": []} for kind in KINDS}
    for plane in planes:
        answer = look(plane)
        wrong = answer.mask != np.asarray(plane.mask)
        nearby = uniform_filter(wrong.astype(np.float32), max(3, max(wrong.shape) // BOX))
        chosen = rng.choice(wrong.size, min(wrong.size, PIXELS), replace=False)
        errors.append(1 - mean_foreground(dice(answer.mask, plane.mask, ids)))
        wrongs.append(wrong.ravel()[chosen])
        for kind in KINDS:
            doubt = getattr(answer, kind)
            first = doubtful_regions(doubt, most=1)
            found[kind]["pixels"].append(doubt.ravel()[chosen])
            found[kind]["scores"].append(doubt_score(doubt, answer.mask))
            found[kind]["places"].append(float(nearby[first[0].row, first[0].column]) if first else 0.0)
    return {"error": statistics.fmean(errors)} | {
        kind: {
            "auroc": ranking(np.concatenate(figures["pixels"]), np.concatenate(wrongs)),
            "spearman": float(spearmanr(figures["scores"], errors).statistic),
            "score": statistics.fmean(figures["scores"]),
            "place": statistics.fmean(figures["places"]),
        }
        for kind, figures in found.items()
    }


@app.command()
def cell(data: Path, place: str, folder: Path, steps: int | None = None) -> None:
    """Run one cell (one process, one thread)."""
    import torch

    from napari_semigda.engine.types import Settings

    torch.set_num_threads(1)
    place = Place.parse(place)
    pool, test, _ = load_set(data / place.set, place.labels)
    settings = Settings(minutes=place.minutes, seed=place.seed, clock="cpu", device="cpu", max_steps=steps)
    with tempfile.TemporaryDirectory() as models:
        look, steps_done, _ = accuracy.train_arm(place.arm, pool, settings, Path(models))
    figures = look_at_doubt(look, evenly(test, MOST), foreground(test))
    write_cell(place, {"steps": steps_done, **figures}, folder)
    print(place, ", ".join(f"{kind} {figures[kind]['auroc']:.3f}" for kind in KINDS), flush=True)


@app.command()
def run(
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    sets: str = ",".join(SETS),
    labels: str = "8",
    seeds: str = "0",
    minutes: str = "2",
    jobs: Annotated[int, typer.Option(help="cells at a time")] = 2,
    rehearse: Annotated[int | None, typer.Option(help="so many steps a cell; results go to out/rehearsal")] = None,
) -> None:
    """Run every cell that has no result yet."""
    places = grid(data, sets=sets, labels=labels, minutes=minutes, seeds=seeds, arms="semigda")
    failed = run_missing(__file__, data, places, DOUBT, jobs, rehearse)
    if not rehearse:
        table()
    raise typer.Exit(1 if failed else 0)


@app.command()
def table() -> None:
    """Write the table of all cells into benchmarks/README.md."""
    write_section("doubt", doubt_section(read_cells(DOUBT)))


def doubt_section(cells: Sequence[dict]) -> list[str]:
    """Markdown: of each set and budget, what the disagreement finds and what the doubt does."""
    if not cells:
        return ["Not yet taken."]
    groups: dict[tuple, list[dict]] = {}
    for each in cells:
        groups.setdefault((SETS.index(each["set"]), each["set"], each["labels"], each["minutes"]), []).append(each)
    figures = {"auroc": 2, "spearman": 2, "place": 3, "score": 3}
    rows = []
    for (_, name, labels, minutes), group in sorted(groups.items()):
        both = [
            " / ".join(mean_and_sd([c[kind][figure] for c in group], digits) for kind in KINDS)
            for figure, digits in figures.items()
        ]
        error = mean_and_sd([c["error"] for c in group])
        rows.append([name, f"{labels}, {minutes:g}", str(len(group)), *both, error])
    header = [
        *("set", "labelled, minutes", "seeds", "wrong pixels, AUROC", "poor masks, Spearman"),
        *("wrong around the first place", "score", "1 - Dice"),
    ]
    return [*markdown(header, rows), "", f"Disagreement / doubt. {taken(cells)}"]


if __name__ == "__main__":
    app()
