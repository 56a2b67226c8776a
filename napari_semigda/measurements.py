"""What is in the masks, in numbers: a table of objects and one of totals.

An object is a piece of one class whose pixels touch, corners included; single pixels count. Lengths and areas are told
in pixels, and beside them in millimetres or micrometres where the file knows its spacing: the name of a column says
its unit (px, mm, um; areas px, mm2, um2).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.formats.source import replacing

OBJECTS, TOTALS = "measurements.csv", "totals.csv"
Row = dict[str, Any]

_PLACE = ("file", "plane", "class", "class_name")
_AREAS = ("area_px", "area_mm2", "area_um2")
_UNITS = ("px", "mm", "um")
_SIZES = (*_AREAS, *(f"{size}_{unit}" for size in ("perimeter", "equivalent_diameter") for unit in _UNITS))
_CENTRE = tuple(f"centroid_{axis}_{unit}" for unit in _UNITS for axis in ("row", "column"))
_SUMS = ("planes", "planes_with_it", "objects", *_AREAS, "area_percent")
_RGB = ("_red", "_green", "_blue")
_NUMBERED = tuple(f"_channel_{number}" for number in range(1, 9))
_COLOURS = ("", *_RGB, *_NUMBERED)
_INTENSITIES = tuple(f"intensity_{what}{colour}" for colour in _COLOURS for what in ("mean", "min", "max"))
_MEANS = tuple(f"intensity_mean{colour}" for colour in _COLOURS)
OBJECT_COLUMNS = (*_PLACE[:2], "object", *_PLACE[2:], *_SIZES, *_CENTRE, *_INTENSITIES)
TOTAL_COLUMNS = (_PLACE[0], *_PLACE[2:], *_SUMS, *_MEANS)


def measure(
    mask: np.ndarray,
    image: np.ndarray,
    classes: Mapping[int, str],
    spacing: tuple[float, float] | None = None,
    unit: str = "mm",
) -> list[Row]:
    """Measure every object of a plane.

    Parameters
    ----------
    mask
        (H, W) uint8 class ids; 0 is background.
    image
        (H, W) or (H, W, C); transparency is not measured. Three or four channels are colours, of others the first eight
        are measured.
    classes
        Names by class id.
    spacing
        Height and width of a pixel in `unit`, where known.
    unit
        ``"mm"`` or ``"um"``.

    Returns
    -------
    list of dict
        By column: plain numbers and text, fit for JSON. Objects are counted from 1 in reading order; a centroid is
        measured from the centre of the first pixel. Perimeters are told in that unit only where pixels are square,
        because scikit-image estimates them for square ones.
    """
    from skimage.measure import label, regionprops_table

    if not mask.any():
        return []
    channels = _channels(image)
    told = regionprops_table(
        label(mask, background=0, connectivity=2),  # pixels of two classes never join
        np.dstack([mask, *channels]),
        properties=(
            *("label", "area", "perimeter", "equivalent_diameter_area", "centroid"),
            *("intensity_mean", "intensity_min", "intensity_max"),
        ),
    )
    ids = told["intensity_max-0"].astype(int)  # every pixel of an object has its class
    columns = {
        "object": told["label"],
        "class": ids,
        "class_name": np.array([classes.get(n, f"class {n}") for n in ids.tolist()]),
        "area_px": told["area"].astype(int),
        "perimeter_px": told["perimeter"],
        "equivalent_diameter_px": told["equivalent_diameter_area"],
        "centroid_row_px": told["centroid-0"],
        "centroid_column_px": told["centroid-1"],
        **(_in_unit(told, spacing, unit) if spacing is not None else {}),
    }
    for number, colour in enumerate(_colours(channels), start=1):
        for what in ("mean", "min", "max"):
            columns[f"intensity_{what}{colour}"] = told[f"intensity_{what}-{number}"]
    lists = {name: values.tolist() for name, values in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _in_unit(told: Mapping[str, np.ndarray], spacing: tuple[float, float], unit: str) -> dict[str, np.ndarray]:
    height, width = spacing
    square = bool(np.isclose(height, width, rtol=1e-3))
    return {
        f"area_{unit}2": told["area"] * height * width,
        f"equivalent_diameter_{unit}": told["equivalent_diameter_area"] * np.sqrt(height * width),
        f"centroid_row_{unit}": told["centroid-0"] * height,
        f"centroid_column_{unit}": told["centroid-1"] * width,
        **({f"perimeter_{unit}": told["perimeter"] * height} if square else {}),
    }


def _channels(image: np.ndarray) -> list[np.ndarray]:
    """What intensities are measured of: grey, red, green and blue, or channels; (H, W) each."""
    if image.dtype == bool:
        image = image.astype(np.uint8)
    if image.ndim == 2:
        return [image]
    return [image[..., i] for i in range(3 if image.shape[2] == 4 else min(image.shape[2], len(_NUMBERED)))]


def _colours(channels: list[np.ndarray]) -> tuple[str, ...]:
    return {1: _COLOURS[:1], 3: _RGB}.get(len(channels), _NUMBERED[: len(channels)])


def total(
    rows: Iterable[Row],
    classes: Mapping[int, str],
    pixels: int,
    planes: int,
    spacing: tuple[float, float] | None = None,
    unit: str = "mm",
) -> list[Row]:
    """Sums of a file's objects for every class of the model, those that are nowhere in the file included.

    Parameters
    ----------
    rows
        Of all its planes, from `measure`, each with the number of its ``plane``.
    classes
        Names by class id, in the order of the rows; 0 is left out.
    pixels, planes
        How many the file has.
    spacing, unit
        As for `measure`.
    """
    rows = list(rows)
    return [
        {"class": number, "class_name": name, "planes": planes}
        | _sums([row for row in rows if row["class"] == number], pixels, spacing, unit)
        for number, name in classes.items()
        if number
    ]


def _sums(rows: list[Row], pixels: int, spacing: tuple[float, float] | None, unit: str) -> Row:
    area = sum(row["area_px"] for row in rows)
    sums: Row = {
        "planes_with_it": len({row["plane"] for row in rows}),
        "objects": len(rows),
        "area_px": area,
        "area_percent": 100 * area / pixels,
    }
    if spacing is not None:
        sums[f"area_{unit}2"] = area * spacing[0] * spacing[1]
    for mean in _MEANS:
        if rows and mean in rows[0]:
            sums[mean] = sum(row[mean] * row["area_px"] for row in rows) / area
    return sums


def write_table(path: Path, columns: tuple[str, ...], rows: Callable[[], Iterable[Row]]) -> None:
    """Write rows as CSV, whole or not at all.

    Parameters
    ----------
    path
        Where to.
    columns
        All there may be, in order. Those that no row knows are left out, and a row is empty where it knows nothing.
        Decimals are cut to 9 digits.
    rows
        Gives the rows, twice: there may be more of them than fit into memory.

    Raises
    ------
    EngineError
        When the file cannot be written.
    """
    known = {column for row in rows() for column in row}
    used = [column for column in columns if column in known] or columns
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, used, restval="")
        writer.writeheader()
        for row in rows():
            writer.writerow({name: f"{x:.9g}" if isinstance(x, float) else x for name, x in row.items()})
