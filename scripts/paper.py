"""Train and test with the paper's settings, as far as ours allow, on data in the paper's layout: see docs/paper.md.

    python scripts/paper.py DATA --backbone-source 768-v-ema-first-stage-VAE.ckpt --out out/paper

Leaves the model and ``scores.json`` in the output folder, and prints a line for each test set.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from napari_semigda.console import progress_bar, write_line
from napari_semigda.engine.types import BackboneName, DeviceName, EngineError, Plane, Settings, TrainRequest
from napari_semigda.images import by_stem, images_in

SIDE = 224
ALIGN_EPOCHS, ALIGN_LABELLED = 200, 12  # stage 1: labelled images a step
EPOCHS, LABELLED, UNLABELLED = 350, 2, 2  # stage 2


def picture(path: Path) -> np.ndarray:
    """(224, 224, 3) uint8, squeezed to a square as the paper does."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def mask(path: Path) -> np.ndarray:
    """(224, 224) uint8: 1 where the file is brighter than half, 0 elsewhere."""
    with Image.open(path) as image:
        return (np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 127).astype(np.uint8)


def folder_planes(folder: Path, with_masks: bool) -> list[Plane]:
    """Of ``FOLDER/image`` and ``FOLDER/mask``, by equal stems."""
    images = by_stem(images_in(folder / "image"))
    masks = by_stem(images_in(folder / "mask")) if with_masks else {}
    missing = [path for stem, path in images.items() if with_masks and stem not in masks]
    if missing:
        raise EngineError(f"{missing[0]} has no mask in {folder / 'mask'}: add it, or remove the image.")
    return [Plane(p.name, picture(p), mask(masks[stem]) if with_masks else None) for stem, p in images.items()]


def listed_planes(data: Path, names: list[str], labelled: int) -> list[Plane]:
    """Of ``DATA/images`` and ``DATA/masks``: the first `labelled` of the names with their masks."""
    return [
        Plane(name, picture(data / "images" / name), mask(data / "masks" / name) if i < labelled else None)
        for i, name in enumerate(names)
    ]


def read_data(data: Path, labelled: int | None) -> tuple[list[Plane], dict[str, list[Plane]]]:
    """Images to train on, and test sets by name, whichever of the two layouts it is."""
    if (data / "train.list").is_file():
        train, test = ((data / f"{part}.list").read_text(encoding="utf-8").split() for part in ("train", "test"))
        if labelled is None:
            raise EngineError(f"{data} has one list of training images: say with --labelled how many keep their masks.")
        return listed_planes(data, train, labelled), {data.name: listed_planes(data, test, len(test))}
    pool = folder_planes(data / "labeled", True) + folder_planes(data / "unlabeled", False)
    root = data / "TestDataset"
    sets = [root] if (root / "image").is_dir() else sorted(path for path in root.iterdir() if path.is_dir())
    return pool, {path.name: folder_planes(path, True) for path in sets}


def paper_steps(labelled: int) -> int:
    """Optimiser steps of both stages; an epoch is once through the labelled images."""
    return ALIGN_EPOCHS * max(1, labelled // ALIGN_LABELLED) + EPOCHS * max(1, labelled // LABELLED)


def run(
    data: Annotated[Path, typer.Argument(help="Folder in the layout of the published training files.")],
    out: Annotated[Path, typer.Option(help="Folder for the model and the scores.")] = Path("out/paper"),
    backbone: BackboneName = "sd",
    backbone_source: Annotated[str | None, typer.Option(help="Its weights: file, folder or name on the hub.")] = None,
    labelled: Annotated[int | None, typer.Option(help="Only for train.list: how many keep their masks.")] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the paper's number.")] = None,
    device: DeviceName = "auto",
    seed: int = 42,
) -> None:
    """Train on DATA, then score its test sets at 224 x 224."""
    from napari_semigda.engine.metrics import score, summarise
    from napari_semigda.engine.predict import Predictor
    from napari_semigda.engine.train import Trainer

    pool, tests = read_data(data, labelled)
    count = sum(plane.mask is not None for plane in pool)
    settings = Settings(
        backbone=backbone,
        backbone_source=backbone_source,
        device=device,
        seed=seed,
        unlabelled_weight=0.3,
        max_steps=steps or paper_steps(count),
        crop=SIDE,
        batch=LABELLED + UNLABELLED,
    )
    print(f"{count} labelled and {len(pool) - count} unlabelled images, {settings.max_steps} steps")
    model = out / "model.semigda"
    with progress_bar() as show:
        for report in Trainer().fit(TrainRequest(tuple(pool), model, settings, classes={1: "lesion"})):
            show(report)
    predictor, scores = Predictor(model, device), {}
    for name, planes in tests.items():
        _, overall = summarise(score(predictor.predict(plane).mask, plane.mask, [1]) for plane in planes)
        scores[name] = asdict(overall)
        print(f"{name}: Dice {overall.dice.mean:.4f}, IoU {overall.iou.mean:.4f}, HD95 {overall.hausdorff.mean:.2f} px")
    with (out / "scores.json").open("w", encoding="utf-8") as file:
        write_line(file, {"settings": asdict(settings), "scores": scores})


def main() -> None:
    """Run, and say in one sentence what the user can put right."""
    try:
        typer.run(run)
    except EngineError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
