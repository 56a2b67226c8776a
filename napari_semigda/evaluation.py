"""Predicted masks against true ones, folder by folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_semigda.engine.check import check_mask
from napari_semigda.engine.metrics import Score, Summary, score, summarise
from napari_semigda.engine.types import EngineError, Plane
from napari_semigda.foreign_masks import by_image
from napari_semigda.formats import Source, open_source
from napari_semigda.images import by_stem, images_in, read_mask

MAPS = ("_probabilities", "_uncertainty")
"""Endings of the stems of maps that `semigda predict` writes beside masks."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a folder of predictions."""

    by_class: dict[int, Summary]
    """Every class id but 0 that is in any mask, ascending."""
    overall: Summary
    """Mean over the classes of an image, then over images."""
    images: int
    """Planes compared: pages and slices count one by one."""
    unit: str
    """Of the Hausdorff distance: "mm" when all true masks tell their spacing in it (NIfTI, some TIFFs), else "px"."""
    missing: tuple[str, ...]
    """True masks without a prediction: they are in no figure."""
    unexpected: tuple[str, ...]
    """Predictions without a true mask."""
    strange_classes: tuple[int, ...]
    """Class ids that were predicted but are in no true mask: perhaps the numbers mean something else there."""


def evaluate_folders(predictions: Path, truth: Path, ignore: int | None = None) -> Evaluation:
    """Score the predictions that have a true mask of the same stem, one file after the other.

    Parameters
    ----------
    predictions, truth
        Folders of PNG, TIFF or NIfTI masks.
    ignore
        A value of the true masks that means "not annotated".

    Raises
    ------
    EngineError
        When a file cannot be read or is no mask, a pair differs in shape, or there is no pair at all.
    """
    predicted = by_stem(images_in(predictions))
    true = by_image(predicted, by_stem(images_in(truth)))
    stems = [stem for stem in true if stem in predicted]
    if not stems:
        raise EngineError(f"No mask in {predictions} has the name of one in {truth}: give the folder predicted into.")
    sources = {stem: open_source(true[stem]) for stem in stems}
    spacings = {stem: source.spacing if source.unit == "mm" else None for stem, source in sources.items()}
    unit = "mm" if all(spacings.values()) else "px"
    scores: list[dict[int, Score]] = []
    guessed: set[int] = set()
    existing: set[int] = set()
    for stem in stems:
        for guess, mask in _pairs(predicted[stem], sources[stem]):
            here = [set(np.unique(values).tolist()) - {0, ignore} for values in (guess, mask)]
            guessed |= here[0]
            existing |= here[1]
            spacing = spacings[stem] if unit == "mm" else None
            scores.append(score(guess, mask, sorted(here[0] | here[1]), spacing, ignore))
    by_class, foreground = summarise(scores)
    return Evaluation(
        by_class,
        foreground,
        images=len(scores),
        unit=unit,
        missing=tuple(path.name for stem, path in true.items() if stem not in predicted),
        unexpected=tuple(p.name for stem, p in predicted.items() if stem not in true and not stem.endswith(MAPS)),
        strange_classes=tuple(sorted(guessed - existing)),
    )


def _pairs(prediction: Path, truth: Source) -> list[tuple[np.ndarray, np.ndarray]]:
    """The planes of two mask files, in pairs of one shape."""
    masks = [read_mask(prediction, truth), read_mask(truth.path)]
    for path, planes in zip((prediction, truth.path), masks, strict=True):
        for mask in planes:
            check_mask(Plane(str(path), mask, mask))
    shapes = [[mask.shape for mask in planes] for planes in masks]
    if shapes[0] != shapes[1]:
        told = [f"{len(planes)} of {planes[0][0]} x {planes[0][1]} pixels" for planes in shapes]
        raise EngineError(
            f"{prediction} and {truth.path} do not fit: {told[0]} against {told[1]}; predict that image again."
        )
    return list(zip(*masks, strict=True))
