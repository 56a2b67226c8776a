"""Everything that can be wrong with a training request, said before training starts.

Every function here raises EngineError with one sentence that names the plane (or file) and says what to do. Planes are
read one by one and in bands of rows, so that lazy ones (files, dask, zarr) are never in memory all at once.

What counts as a mask:

- whole numbers or booleans, 0..255. Floats are refused even when every value is whole: they are far more often
  probabilities, or masks that were resized with interpolation, than class ids, and a wrong guess trains on nonsense.
- a mask without paint is a legal mask ("nothing here", as an image that was verified to be empty has) unless the
  request is sparse, where 0 means "not annotated". At least one other mask has to hold paint.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from napari_semigda.engine.blocks import worth_reading
from napari_semigda.engine.normalise import MOST_CHANNELS
from napari_semigda.engine.types import MAX_CLASSES, ContrastName, EngineError, Plane, TrainRequest

MIN_SIDE = 16
"""Shortest side in pixels of an image that can be learnt from: two cells of the latent grid."""

HUGE = 1e30
"""No instrument measures as much: such values mark "no data", and nothing else can be told apart beside them."""

_BAND = 16_000_000  # pixels looked at together; ordinary images are one band


def check_request(request: TrainRequest) -> tuple[TrainRequest, tuple[str, ...]]:
    """Refuse a request that cannot be trained on, and warn of planes that will not be used.

    Parameters
    ----------
    request
        A whole round, as the viewer or the command line put it together.

    Returns
    -------
    request : TrainRequest
        The same request: nothing is removed, so indices into `planes` stay valid.
    warnings : tuple of str
        A sentence for each group of planes that is left out: slices of a stack that show nothing.

    Raises
    ------
    EngineError
        One sentence: what is wrong, with which plane or file, and what to do.
    """
    check_settings(request)
    if not request.planes:
        raise EngineError("There is no image to train on: choose an image layer or a folder with images.")
    painted = [plane for plane in request.planes if plane.mask is not None]
    if not painted:
        raise EngineError("No image has a mask: paint two or three images and train again.")
    classes: Counter[int] = Counter()
    for plane in painted:
        check_layout(plane)  # a mask of another shape says more than anything its pixels could
        classes.update(check_mask(plane))
    _check_classes(classes, request.settings.sparse)
    blank = check_images(request.planes)
    return request, _left_out(blank)


def check_settings(request: TrainRequest) -> None:
    """Refuse an output that cannot be written, a missing first model and settings out of range."""
    settings = request.settings
    check_output(request.out)
    if request.init is not None and not Path(request.init).is_file():
        raise EngineError(f"{request.init} is not there: choose the model file of an earlier round, or start afresh.")
    if settings.backbone_source is not None and settings.backbone in ("auto", "compact") and request.init is None:
        raise EngineError(
            f"The compact backbone comes with the package, so {settings.backbone_source} is of no use to it: "
            "choose the backbone tiny or sd as well, or leave the source out."
        )
    if settings.max_steps is None and not settings.minutes > 0:  # "not >" so that nan is refused too
        raise EngineError(f"The training time is {settings.minutes:g} minutes: choose a number above 0.")
    if settings.max_steps is not None and settings.max_steps < 1:
        raise EngineError(f"The number of steps is {settings.max_steps}: choose 1 or more.")
    for what, number in (("devices", settings.devices), ("computers", settings.nodes)):
        if number < 1:
            raise EngineError(f"The number of {what} is {number}: choose 1 or more.")
    if not 0 <= settings.seed < 2**32:
        raise EngineError(f"The seed is {settings.seed}: choose a whole number from 0 to {2**32 - 1}.")
    if not 0 <= settings.unlabelled_weight < np.inf:
        raise EngineError(f"The unlabelled weight is {settings.unlabelled_weight:g}: choose 0 or more (usually 0.3).")
    _check_channels(settings.channels)
    if settings.contrast not in get_args(ContrastName):
        raise EngineError(f"The contrast is {settings.contrast}: choose {' or '.join(get_args(ContrastName))}.")


def _check_channels(channels: tuple[int, ...]) -> None:
    wrong = [each for each in channels if not isinstance(each, int) or each < 1]
    if wrong or len(channels) > MOST_CHANNELS or len(set(channels)) < len(channels):
        told = ", ".join(map(str, channels))
        raise EngineError(f"The channels are {told}: choose up to {MOST_CHANNELS} different ones, counted from 1.")


def check_output(path: Path) -> None:
    """Refuse a file that could not be written at the end of the run; leaves nothing behind."""
    path = Path(path)
    if path.is_dir():
        raise EngineError(f"{path} is a folder: give the name of a model file, for example {path / 'model.semigda'}.")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder that can neither be written nor made. It is not made here, so a later refusal leaves no trace."""
    folder = Path(folder)
    there = folder.absolute()
    try:
        while not there.exists():
            there = there.parent
        if not there.is_dir():
            raise NotADirectoryError
        with tempfile.TemporaryFile(dir=there):  # asking the rights is not enough: disks are full or read-only
            pass
    except OSError as error:
        reason = error.strerror or f"{there} is a file"
        raise EngineError(f"Nothing can be written into {folder} ({reason}): choose another folder.") from error


def check_layout(plane: Plane) -> None:
    """Refuse a plane whose image or mask has a shape or a type that cannot be used, without reading its pixels."""
    shape, dtype = tuple(plane.image.shape), np.dtype(plane.image.dtype)
    name = plane.name
    if 0 in shape:
        raise EngineError(f"{name} has no pixels (its shape is {shape}): remove it.")
    if len(shape) not in (2, 3):
        raise EngineError(
            f"{name} has {len(shape)} dimensions: only flat images, grey or with channels, can be used, so split it."
        )
    if dtype.kind not in "buif":
        raise EngineError(f"{name} holds values of type {dtype}: save it as whole or real numbers.")
    height, width = shape[:2]
    if min(height, width) < MIN_SIDE:
        raise EngineError(
            f"{name} is only {height} x {width} pixels: images must be at least {MIN_SIDE} x {MIN_SIDE}, "
            "so remove it or use a larger one."
        )
    if plane.mask is not None and tuple(plane.mask.shape) != (height, width):
        got = " x ".join(str(side) for side in plane.mask.shape)
        raise EngineError(
            f"The mask of {name} is {got} pixels but the image is {height} x {width}: "
            "give it a mask of the image's height and width."
        )


def check_mask(plane: Plane) -> dict[int, int]:
    """Refuse a mask that does not hold class ids.

    Parameters
    ----------
    plane
        A labelled plane; its mask is (H, W).

    Returns
    -------
    dict of int to int
        How many pixels each id has, 0 included.
    """
    name, dtype = plane.name, np.dtype(plane.mask.dtype)
    if dtype.kind == "f":
        raise EngineError(
            f"The mask of {name} holds decimal numbers ({dtype}): class ids are whole numbers, "
            "so save it as an 8-bit image (in Python: mask.round().astype('uint8'))."
        )
    if dtype.kind not in "bui":
        raise EngineError(f"The mask of {name} holds values of type {dtype}: save it as an 8-bit image.")
    counts: Counter[int] = Counter()
    for _, band in _bands(plane.mask):
        low, high = int(band.min()), int(band.max())
        if low < 0:
            raise EngineError(
                f"The mask of {name} holds the negative label {low}: "
                "use 0 for what is not painted and 1 to 255 for classes."
            )
        if high > 255:
            raise EngineError(
                f"The mask of {name} holds the label {high}, but class ids end at 255: "
                "if its numbers tell single objects apart, give every object of a class the same number."
            )
        counts.update({i: int(n) for i, n in enumerate(np.bincount(band.ravel().astype(np.uint8))) if n})
    return dict(counts)


def check_images(planes: Sequence[Plane]) -> list[Plane]:
    """Refuse images that cannot be learnt from or predicted, reading each once; of a slide in parts, some of these.

    Parameters
    ----------
    planes
        Labelled or not; images are (H, W) or (H, W, C).

    Returns
    -------
    list of Plane
        Blank slices: of one single value, without paint, and with others of their `group`. Scans end in such slices,
        so those without a mask are passed over; every other blank image is refused.
    """
    members = Counter(plane.group for plane in planes if plane.group)
    blank, worth = [], worth_reading([plane.image for plane in planes])
    for index, plane in enumerate(planes):
        check_layout(plane)
        if plane.mask is None and index not in worth:
            continue
        value = _check_pixels(plane)
        if value is None:
            continue
        in_stack = members[plane.group] > 1
        if in_stack and plane.mask is None:
            blank.append(plane)
        elif not in_stack or np.any(plane.mask):  # nothing on a slice that shows nothing is true
            remedy = "its mask cannot be learnt, so clear it" if plane.mask is not None and in_stack else "remove it"
            raise EngineError(f"{plane.name} shows nothing (every pixel is {value:g}): {remedy} and try again.")
    if len(blank) == len(planes) > 0:
        raise EngineError(f"{planes[0].name} and every other image show nothing: choose images with something in them.")
    return blank


def _check_pixels(plane: Plane) -> float | None:
    """Refuse NaN, infinite and huge pixels; return the one value of a constant image, else None."""
    bad, first = 0, None
    low, high = np.inf, -np.inf
    for top, band in _bands(plane.image):
        if band.dtype.kind == "f" and not (finite := np.isfinite(band)).all():
            if first is None:
                row, column = np.argwhere(~finite)[0][:2]
                first = (top + int(row), int(column))
            bad += int(np.count_nonzero(~finite))
        elif not bad:
            # Transparency says nothing about what is seen, so a picture with an alpha channel is judged by its colours.
            seen = band[..., :3] if band.ndim == 3 and band.shape[2] == 4 else band
            low, high = min(low, seen.min()), max(high, seen.max())
    if bad:
        raise EngineError(
            f"{plane.name} has {bad} NaN or infinite pixel value{'s' * (bad > 1)}, the first at row {first[0]}, column "
            f"{first[1]}: replace {'them' if bad > 1 else 'it'} by a number, or remove the image."
        )
    if max(-float(low), float(high)) > HUGE:
        raise EngineError(
            f"{plane.name} has values up to {max(-float(low), float(high)):.2g}, which mark missing pixels rather than "
            "measure anything: replace them by a number near the others, or remove the image."
        )
    return float(low) if low == high else None


def _check_classes(counts: Counter[int], sparse: bool) -> None:
    """Refuse fewer than two things to tell apart, and more classes than can be painted."""
    painted = sorted(class_id for class_id, pixels in counts.items() if class_id and pixels)
    if not painted:
        raise EngineError("Every mask is empty: paint what you look for in two or three images and train again.")
    if len(painted) > MAX_CLASSES:
        raise EngineError(
            f"The masks hold {len(painted)} classes, but {MAX_CLASSES} is the most: merge classes, and if the numbers "
            "tell single objects apart, give every object of a class the same number."
        )
    if len(painted) == 1 and (sparse or not counts[0]):
        remedy = (
            "paint strokes of a second class, for instance background" if sparse else "leave the background unpainted"
        )
        raise EngineError(
            f"The masks hold only one class ({painted[0]}), so there is nothing to tell it from: {remedy}."
        )


def _left_out(blank: Sequence[Plane]) -> tuple[str, ...]:
    """One sentence for each stack that has blank slices."""
    by_group: dict[str, list[str]] = {}
    for plane in blank:
        by_group.setdefault(plane.group, []).append(plane.name)
    return tuple(
        f"{names[0]} shows nothing and is left out."
        if len(names) == 1
        else f"{len(names)} slices of one stack show nothing and are left out: {names[0]} to {names[-1]}."
        for names in by_group.values()
    )


def _bands(array: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Walk down an array-like (H, W, ...) in bands of rows: the first row of each, and its pixels."""
    if not getattr(array, "by_parts", True):  # a file that can only be read whole: once
        array = np.asarray(array)
    height, width = array.shape[:2]
    rows = max(1, _BAND // max(1, width))
    for top in range(0, height, rows):
        yield top, np.asarray(array[top : top + rows])
