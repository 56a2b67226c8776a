"""File > Open Sample > SemiGDA: slices of an average brain, some of them with masks (see ``sample/NOTICE.txt``)."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SAMPLE = Path(__file__).parent / "sample"
"""Holds ``images``, ``masks`` and ``truth``, each with one stack ``brain.tif``: (24, 200, 160) uint8."""

CLASSES = {1: "grey matter", 2: "white matter"}

LayerData = tuple[np.ndarray, dict[str, Any], str]


def brain() -> list[LayerData]:
    """Return the slices and the masks of four of them, as napari layer data.

    Returns
    -------
    list of (data, options, layer type)
        An image layer and a labels layer of the same shape, (24, 200, 160) uint8, 5 x 1 x 1 mm.
    """
    masks, options, kind = _layer("masks", "brain masks", "labels")
    # The Train dock reads the class names from here.
    options["metadata"] = {"semigda": {"role": "masks", "classes": CLASSES}}
    return [*brain_unpainted(), (masks, options, kind)]


def brain_unpainted() -> list[LayerData]:
    """Return the slices alone, to start painting from nothing: (24, 200, 160) uint8."""
    image, options, kind = _layer("images", "brain", "image")
    return [(image, options | {"contrast_limits": (0, 255), "colormap": "gray"}, kind)]


def _layer(folder: str, name: str, kind: str) -> LayerData:
    stack = tifffile.imread(SAMPLE / folder / "brain.tif")
    return stack, {"name": name, "scale": (5.0, 1.0, 1.0), "units": "mm", "axis_labels": ("slice", "y", "x")}, kind
