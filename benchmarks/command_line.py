"""What a user of the command line gets in five minutes: train on 8 painted images, predict, evaluate.

    python benchmarks/command_line.py --data FOLDER [--sets a,b] [--labels 8] [--minutes 5]

For each set: the whole pool of split.json as images, the first N stems' masks as masks, `semigda train` on the CPU by
the wall clock, `semigda predict` on the images of `test`, `semigda evaluate` against their masks. Prints one row a set.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

SEMIGDA = [sys.executable, "-m", "napari_semigda.cli"]


def main(
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    sets: str = "skin_ph2,nuclei_dsb2018",
    labels: int = 8,
    minutes: float = 5.0,
) -> None:
    """Train, predict and evaluate each set through the three commands."""
    print(
        "| set | labelled / unlabelled | test images | Dice | IoU | 95 % Hausdorff (px) | steps | predict, s an image |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            print(one_set(data / name, Path(folder), labels, minutes), flush=True)
    print(f"\n{datetime.date.today().isoformat()}, {os.cpu_count()} CPU cores.")


def one_set(source: Path, folder: Path, labels: int, minutes: float) -> str:
    """One row of the table."""
    split = json.loads((source / "split.json").read_text())
    files = {path.stem: path for path in (source / "images").iterdir()}
    for part, stems in (("images", split["pool"]), ("test", split["test"])):
        _copy([files[stem] for stem in stems], folder / part)
    _copy([source / "masks" / f"{stem}.png" for stem in split["pool"][:labels]], folder / "masks")
    _copy([source / "masks" / f"{stem}.png" for stem in split["test"]], folder / "truth")
    model = folder / "model.semigda"
    train = ["train", "--images", folder / "images", "--masks", folder / "masks", "--out", model, "--device", "cpu"]
    reports = _run([*train, "--minutes", minutes, "--json"]).splitlines()
    begun = time.monotonic()
    _run(["predict", "--model", model, "--images", folder / "test", "--out", folder / "predicted", "--device", "cpu"])
    seconds = (time.monotonic() - begun) / len(split["test"])
    score = json.loads(_run(["evaluate", "--predictions", folder / "predicted", "--truth", folder / "truth", "--json"]))
    overall = score["overall"]
    figures = " | ".join(f"{overall[key]['mean']:.{n}f}" for key, n in (("dice", 3), ("iou", 3), ("hausdorff", 1)))
    unlabelled, steps = len(split["pool"]) - labels, json.loads(reports[-1])["step"]
    return f"| {source.name} | {labels} / {unlabelled} | {len(split['test'])} | {figures} | {steps} | {seconds:.2f} |"


def _copy(paths: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copy(path, folder)


def _run(arguments: list) -> str:
    return subprocess.run([*SEMIGDA, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    typer.run(main)
