"""What is in a folder of images, and whether it is still what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats import LazyImage, is_image, names_of_planes, open_source, stem_of
from napari_semigda.formats.fingerprint import contents, size_and_date
from napari_semigda.store.index import Entry
from napari_semigda.store.stack import StackPlane


def image_names(folder: Path) -> list[str]:
    """Names of the images right in a folder, 2 before 10."""
    from skimage.io.collection import alphanumeric_key

    return sorted((path.name for path in folder.iterdir() if is_image(path)), key=alphanumeric_key)


def look_at(path: Path) -> Entry:
    """What there is to know of an image file without reading its pixels.

    Raises
    ------
    EngineError
        When it is missing or damaged.
    """
    source = open_source(path)
    size, date = size_and_date(path)
    dtype = np.result_type(*{plane.dtype for plane in source.planes}).name
    shapes = [tuple(int(side) for side in plane.shape) for plane in source.planes]
    spacing = source.spacing
    if spacing is not None and source.unit == "um":  # a project tells all sizes in millimetres
        spacing = (spacing[0] / 1000, spacing[1] / 1000)
    window = None if source.window is None else (float(source.window[0]), float(source.window[1]))
    return Entry(path.name, size, date, dtype, shapes, spacing, window=window)


def refresh(folder: Path, known: list[Entry]) -> tuple[list[Entry], list[Entry], list[str]]:
    """Compare what a project knows with what is there.

    Returns
    -------
    present : list of Entry
        Those that can be opened, up to date, with one for each new image.
    absent : list of Entry
        Those that are missing or damaged; they are not forgotten.
    problems : list of str
        A sentence for each kind of thing that is wrong.
    """
    by_name = {entry.file: entry for entry in known}
    entries: list[Entry] = []
    absent: list[Entry] = []
    changed, damaged, doubles = [], [], []
    stems: dict[str, str] = {}
    names = image_names(folder)
    for name in names:
        entry, path = by_name.pop(name, None), folder / name
        if (twin := stems.setdefault(stem_of(path), name)) != name:
            doubles.append(f"{name} ({twin})")
            continue
        if entry is not None and entry.bytes == _bytes_of(path):
            entries.append(entry)  # a copied folder has other dates: the checksum tells, later
            continue
        try:
            now = look_at(path)
        except EngineError as error:
            damaged.append(str(error))
            absent += [] if entry is None else [entry]
            continue
        if entry is not None:
            changed.append(name)
            now.verified, now.skipped, now.empty = entry.verified, entry.skipped, entry.empty
        entries.append(now)
    problems = [changed_sentence(changed)] if changed else []
    if by_name:
        problems.append(
            f"{_some(list(by_name))} {_is(by_name)} not in {folder} any more: put {_them(by_name)} back; "
            "the masks are kept and the other images are open."
        )
    if damaged:
        problems.append(f"{damaged[0]}" + (f" And {len(damaged) - 1} more like it." if len(damaged) > 1 else ""))
    if doubles:
        problems.append(
            f"{_some(doubles)} {_is(doubles)} left out, because the name in brackets is the same but for the ending: "
            "rename one of the two."
        )
    return entries, [*absent, *by_name.values()], problems


def _bytes_of(path: Path) -> int | None:
    """None of a link to nowhere."""
    try:
        return size_and_date(path)[0]
    except OSError:
        return None


def changed_sentence(names: list[str]) -> str:
    """On images that are not what they were."""
    return f"{_some(names)} changed since the project was last open: look whether the masks still fit."


def planes_of(folder: Path, entry: Entry) -> Iterator[StackPlane]:
    """The planes of an image file, none read."""
    path, several = folder / entry.file, len(entry.planes) > 1
    names = names_of_planes(entry.file, len(entry.planes))
    for number, (name, shape) in enumerate(zip(names, entry.planes, strict=True)):
        image = LazyImage(
            name, shape, np.dtype(entry.dtype), partial(_load, path, number), partial(_part, path, number, shape)
        )
        file = entry.file if several else ""
        yield StackPlane(name, file, image, entry.window, file)


def _load(path: Path, number: int) -> np.ndarray:
    return np.asarray(open_source(path).planes[number])


def _part(path: Path, number: int, shape: tuple[int, ...], key: Any) -> np.ndarray:
    plane = open_source(path).planes[number]
    if tuple(plane.shape) != tuple(shape):
        raise ValueError(f"it holds {plane.shape} values instead of {shape}")
    return plane[key]


def check(folder: Path, entries: list[Entry], done: Callable[[list[str], bool], object]) -> Iterator[None]:
    """Compute checksums where date or size say that the one known may not hold; a step is one block of a file.

    Parameters
    ----------
    folder, entries
        The images; entries are brought up to date.
    done
        Told at the end: the names of images that changed, and whether any entry did.
    """
    changed: list[str] = []
    updated = False
    for entry in entries:
        path = folder / entry.file
        try:
            size, date = size_and_date(path)
            if entry.checksum and (size, date) == (entry.bytes, entry.modified):
                continue
            digest = hashlib.blake2b(digest_size=16)
            for block in contents(path):
                digest.update(block)
                yield
        except OSError:  # it went away meanwhile, which is said when it is looked at
            continue
        if entry.checksum and entry.checksum != digest.hexdigest():
            changed.append(entry.file)
        entry.bytes, entry.modified, entry.checksum = size, date, digest.hexdigest()
        updated = True
    done(changed, updated)


def _some(names: list[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is(names: object) -> str:
    return "is" if len(names) == 1 else "are"


def _them(names: object) -> str:
    return "it" if len(names) == 1 else "them"
