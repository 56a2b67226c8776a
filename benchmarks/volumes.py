"""Smoothing between slices: what it does to Dice, and to masks that jump from slice to slice.

    python benchmarks/volumes.py run --data FOLDER
    python benchmarks/volumes.py table

The slices of `test`, in the order of their names, are one volume; a model is trained on the first 8 masks of the pool
and the slices are predicted with each width. They are taken as they are, and

- ``noise``: with Gaussian noise of a tenth of the range on every slice, as scans have it and an average brain has not;
- ``uneven``: with a slope of brightness of its own on every slice (up to ±30 % at each border);
- ``every third``: two of three left out, as from a scanner with thick slices.

Jumps are pixels whose class differs from both neighbours along the volume, which agree. The true masks have some as
well, more where slices are far apart: fewer than those means that detail is smoothed away.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from cells import RESULTS, engine, foreground, load_set, machine, markdown, mean_and_sd, today, write_section

FOLDER = RESULTS / "volumes"
WIDTHS = (0.0, 0.5, 1.0, 1.5)
KINDS = ("as it is", "noise", "uneven", "every third")
app = typer.Typer(add_completion=False)


@app.command()
def run(
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    name: Annotated[str, typer.Option("--set", help="one whose test images are the slices of one volume")] = (
        "brain_tissue_mri"
    ),
    minutes: Annotated[float, typer.Option(help="of training, in processor time")] = 2.0,
    model: Annotated[Path | None, typer.Option(help="a model trained on the set")] = None,
    seed: int = 0,
    note: Annotated[str, typer.Option(help="on the machine")] = "",
) -> None:
    """Measure; keeps the figures."""
    pool, test, _ = load_set(data / name, 8)
    with tempfile.TemporaryDirectory() as folder:
        path = model or train(pool, Path(folder) / "m.semigda", minutes, seed)
        figures = {kind: measure(path, sorted(test, key=lambda plane: plane.name), kind, seed) for kind in KINDS}
    circumstances = {"date": today(), "engine": engine(), "machine": ", ".join(filter(None, (machine(), note)))}
    FOLDER.mkdir(parents=True, exist_ok=True)
    cell = {"set": name, "seed": seed, "minutes": None if model else minutes, **circumstances, "kinds": figures}
    (FOLDER / f"{name}-seed{seed}.json").write_text(json.dumps(cell, indent=1) + "\n")


def train(pool, out: Path, minutes: float, seed: int) -> Path:
    """A model of the first 8 masks of the pool."""
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import Settings, TrainRequest

    settings = Settings(minutes=minutes, clock="cpu", device="cpu", seed=seed)
    for _ in Trainer().fit(TrainRequest(tuple(pool), out, settings)):
        pass
    return out


def measure(model: Path, test, kind: str, seed: int) -> dict:
    """Dice and jumps of a volume for each width."""
    from napari_semigda.engine.metrics import dice, mean_foreground
    from napari_semigda.engine.predict import Predictor
    from napari_semigda.engine.volume import smoothed

    rng, ids = np.random.default_rng(seed), foreground(test)
    chosen = [
        replace(plane, image=spoilt(plane.image, kind, rng)) for plane in test[:: 3 if kind == "every third" else 1]
    ]
    planes = [replace(plane, mask=None, volume="scan") for plane in chosen]
    figures = {"slices": len(planes), "jumps of the truth": jumps([plane.mask for plane in chosen])}
    by_itself = Predictor(model, "cpu")
    seen = {plane.name: by_itself.see(plane) for plane in planes}
    by_itself.see = lambda plane: seen[plane.name]  # once for all widths
    for width in WIDTHS:
        predictor = smoothed(by_itself, planes, width)
        masks = [predictor.predict(plane, i).mask for i, plane in enumerate(planes)]
        scores = [mean_foreground(dice(mask, plane.mask, ids)) for mask, plane in zip(masks, chosen, strict=True)]
        figures[str(width)] = {"dice": float(np.nanmean(scores)), "jumps": jumps(masks)}
        print(kind, width, figures[str(width)], flush=True)
    return figures


def spoilt(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """An 8-bit slice as a worse scanner would give it."""
    values = image.astype(np.float64)
    if kind == "noise":
        values += rng.normal(0, 25.5, image.shape)
    elif kind == "uneven":
        rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
        down, across = rng.uniform(-0.3, 0.3, 2)
        values *= 1 + down * rows + across * columns
    return values.clip(0, 255).astype(np.uint8)


def jumps(masks) -> float:
    """Pixels in a thousand whose class is another one than both neighbours have."""
    stack = np.stack(masks)
    before, here, behind = stack[:-2], stack[1:-1], stack[2:]
    return float(1000 * np.mean((before == behind) & (here != before)))


@app.command()
def table() -> None:
    """Write the table of what was measured into README.md."""
    cells = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    header = ["set", "slices", *(f"width {width:g}" if width else "off" for width in WIDTHS), "jumps of the truth"]
    rows = []
    for name in sorted({cell["set"] for cell in cells}):
        mine = [cell["kinds"] for cell in cells if cell["set"] == name]
        for kind in KINDS:
            found = [
                f"{mean_and_sd([each[kind][str(w)]['dice'] for each in mine])}; "
                f"{mean_and_sd([each[kind][str(w)]['jumps'] for each in mine], 1)}"
                for w in WIDTHS
            ]
            true = mean_and_sd([each[kind]["jumps of the truth"] for each in mine][:1], 1)
            rows.append([name, f"{mine[0][kind]['slices']}, {kind}", *found, true])
    said = sorted({(cell["date"], cell["machine"], cell["engine"]) for cell in cells})
    told = "; ".join(f"{date} on {computer}; engine {version}" for date, computer, version in said)
    note = "Dice; jumps in a thousand pixels, ± over seeds. Widths in slices."
    write_section("volumes", ["", *markdown(header, rows), "", f"{note} Taken {told}.", ""])


if __name__ == "__main__":
    app()
