"""Whether correction rounds drift: is a model corrected k times as good as one trained from the start?

    python benchmarks/drift.py run --data FOLDER [--sets a,b] [--minutes 5] [--seeds 0]
    python benchmarks/drift.py table

The user of this benchmark paints 4 images and trains for `minutes`; then three times paints 2 more and trains a
correction, which takes a fifth of that. Painted masks are the true ones. After every round the better of the model in
use and the new one stays in use, as in the viewer. Against it stand models trained from the start on all 10 masks: one
for as long as all four rounds together, one for as long as the first round.

Cells lie in benchmarks/results/drift/; Dice is the mean over images and foreground classes of `test`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from cells import (
    RESULTS,
    SETS,
    Place,
    foreground,
    grid,
    load_set,
    markdown,
    read_cells,
    run_missing,
    taken,
    write_cell,
    write_section,
)

FIRST, MORE, CORRECTIONS = 4, 2, 3  # painted images, painted before each correction, corrections
LAST = FIRST + MORE * CORRECTIONS
WAYS = ("corrected", "from-start-all-time", "from-start-first-time")
DRIFT = RESULTS / "drift"

app = typer.Typer(add_completion=False)


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
def cell(data: Path, place: str, folder: Path, steps: int | None = None) -> None:
    """Run one cell (one process, one thread)."""
    import torch

    from napari_semigda.engine.metrics import dice, mean_foreground
    from napari_semigda.engine.planner import CORRECTION
    from napari_semigda.engine.predict import Predictor
    from napari_semigda.engine.types import Settings

    torch.set_num_threads(1)
    place = Place.parse(place)
    pool, test, _ = load_set(data / place.set, place.labels)
    ids = foreground(test)

    def test_dice(model: Path) -> float:
        predictor = Predictor(model, "cpu")
        return float(np.nanmean([mean_foreground(dice(predictor.predict(p).mask, p.mask, ids)) for p in test]))

    settings = Settings(minutes=place.minutes, seed=place.seed, clock="cpu", device="cpu", max_steps=steps)
    with tempfile.TemporaryDirectory() as models:
        if place.arm == "corrected":
            rounds = correct(pool, settings, Path(models), test_dice)
        else:
            share = 1 + CORRECTIONS * CORRECTION if place.arm == "from-start-all-time" else 1.0
            rounds = train_once(pool, share_of(settings, share), Path(models), test_dice)
    write_cell(place, {"dice": rounds[-1]["dice"], "rounds": rounds}, folder)
    print(place, " -> ".join(f"{r['dice']:.4f}" for r in rounds), flush=True)


@app.command()
def run(
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    sets: Annotated[str, typer.Option(help="names, with commas between them")] = ",".join(SETS),
    minutes: Annotated[str, typer.Option(help="of the first round")] = "5",
    seeds: str = "0",
    jobs: Annotated[int, typer.Option(help="cells at a time")] = 2,
    rehearse: Annotated[int | None, typer.Option(help="so many steps a first round; results go elsewhere")] = None,
) -> None:
    """Run every cell that has no result yet."""
    places = grid(data, sets=sets, labels=str(LAST), minutes=minutes, seeds=seeds, arms=",".join(WAYS))
    failed = run_missing(__file__, data, places, DRIFT, jobs, rehearse)
    if not rehearse:
        table()
    raise typer.Exit(1 if failed else 0)


@app.command()
def table() -> None:
    """Write the table of all cells into benchmarks/README.md."""
    write_section("drift", drift_section(read_cells(DRIFT)))


def drift_section(cells: list[dict]) -> list[str]:
    """Markdown: Dice after every round, and of models trained from the start."""
    if not cells:
        return ["Not yet taken."]
    rounds = [f"round {number + 1}" for number in range(CORRECTIONS + 1)]
    header = ["set", "minutes", "seeds", *rounds, *(way.replace("-", " ") for way in WAYS[1:]), "corrected - best"]
    groups = sorted({(c["minutes"], c["set"]) for c in cells})
    rows = [_row(name, minutes, [c for c in cells if (c["minutes"], c["set"]) == (minutes, name)])
            for minutes, name in groups]  # fmt: skip
    return [*markdown(header, filter(None, rows)), "", f"Dice on test, CPU minutes. {taken(cells)}"]


def _row(name: str, minutes: float, cells: Sequence[dict]) -> list[str] | None:
    """One set, over the seeds that have all three ways."""
    here = {(c["seed"], c["arm"]): c for c in cells}
    seeds = [s for s in sorted({seed for seed, _ in here}) if all((s, way) in here for way in WAYS)]
    if not seeds:
        return None
    rounds = np.mean([[r["dice"] for r in here[s, WAYS[0]]["rounds"]] for s in seeds], axis=0)
    rivals = np.mean([[here[s, way]["dice"] for way in WAYS[1:]] for s in seeds], axis=0)
    figures = [f"{value:.3f}" for value in (*rounds, *rivals)]
    return [name, f"{minutes:g}", str(len(seeds)), *figures, f"**{rounds[-1] - max(rivals):+.3f}**"]


if __name__ == "__main__":
    app()
