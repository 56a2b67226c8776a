"""``project.json``: what a project knows, besides pixels.

Version 1::

    {"schema": 1,
     "classes": [{"id": 1, "name": "nucleus", "colour": "#e69f00"}],
     "scribbles": false,
     "images": [{"file": "ax01.png", "bytes": 48213, "modified": 1790000000000000000, "checksum": "9f2c...",
                 "dtype": "uint8", "planes": [[200, 160]], "spacing": null, "window": null,
                 "verified": [], "skipped": [], "empty": []}],
     "rounds": [{"number": 1, "model": "round-1.semigda", "dice": 0.91, "held_out": ["ax07.png"],
                 "dice_by_class": {"1": 0.91}, "dice_by_image": {"ax07.png": 0.91}, "labelled": 4,
                 "seconds": 64.0, "stopped": false, "date": "2026-11-23T10:00:00+00:00", "settings": {...},
                 "before": null, "kept_before": false, "findings": {...}}],
     "in_use": 1}

Classes are in the user's order. `scribbles`, whether unpainted means "not annotated", is left out by older versions.
File names are plain names: images lie in the project's folder, models in its ``semigda/rounds``. Everything read from
here is checked, because the file may come from a stranger.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from napari_semigda.classes import LONGEST_NAME, Classes, PaintClass, first_classes
from napari_semigda.colours import is_colour
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.strangers import list_of, parse_json
from napari_semigda.engine.strangers import value_of as _of
from napari_semigda.engine.types import EngineError, Settings
from napari_semigda.store.files import PREVIOUS, plain_name, set_aside

SCHEMA = 1
MAX_BYTES = 64 * 2**20
NAME = "project.json"


class NewerError(EngineError):
    """The project is of a version to come, and nothing of it may be touched."""


@dataclass
class Entry:
    """One image file."""

    file: str
    bytes: int
    modified: int  # nanoseconds; with `bytes` it tells whether the checksum still holds
    dtype: str
    planes: list[tuple[int, ...]]  # shape of each
    spacing: tuple[float, float] | None = None
    checksum: str = ""  # not computed yet
    verified: set[int] = field(default_factory=set)  # planes whose masks are the truth
    skipped: set[int] = field(default_factory=set)  # planes that were suggested and not wanted
    empty: set[int] = field(default_factory=set)  # planes without paint that truly hold none of the classes
    window: tuple[float, float] | None = None  # values to show as black and white, where the file recommends them


@dataclass
class RoundEntry:
    """One finished training."""

    number: int
    model: str
    dice: float | None = None
    held_out: tuple[str, ...] = ()
    dice_by_class: dict[int, float] = field(default_factory=dict)
    labelled: int = 0
    seconds: float = 0.0
    stopped: bool = False
    date: str = ""
    settings: Settings = field(default_factory=Settings)
    dice_by_image: dict[str, float] = field(default_factory=dict)
    before: int | None = None  # number of the round in use until then
    kept_before: bool = False  # that one stayed in use, because this one was worse
    findings: Findings = field(default_factory=Findings)


@dataclass
class Index:
    """Everything in ``project.json``."""

    classes: Classes = field(default_factory=first_classes)
    scribbles: bool = False
    images: list[Entry] = field(default_factory=list)
    rounds: list[RoundEntry] = field(default_factory=list)
    in_use: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        classes = [{"id": each.number, "name": each.name, "colour": each.colour} for each in self.classes]
        images = [
            vars(entry) | {kind: sorted(getattr(entry, kind)) for kind in ("verified", "skipped", "empty")}
            for entry in self.images
        ]
        rounds = [
            vars(entry) | {"settings": asdict(entry.settings), "findings": entry.findings.to_json()}
            for entry in self.rounds
        ]
        return {
            "schema": SCHEMA,
            "classes": classes,
            "scribbles": self.scribbles,
            "images": images,
            "rounds": rounds,
            "in_use": self.in_use,
        }


def read_index(folder: Path) -> tuple[Index, str]:
    """Read ``project.json`` of a folder, or the version before when it is damaged.

    Returns
    -------
    index : Index
        What it says.
    problem : str
        A sentence when it is the version before; else empty.

    Raises
    ------
    EngineError
        When the file is of a newer version, or when both versions are missing or damaged.
    """
    path = folder / NAME
    try:
        return _read(path), ""
    except (OSError, ValueError) as error:
        reason = _reason(error)
    try:
        index = _read(folder / (NAME + PREVIOUS))
    except (OSError, ValueError):
        raise EngineError(
            f"{path} cannot be read ({reason}), nor can the version before: choose New project for {folder.parent}; "
            "the masks painted there are then taken over."
        ) from None
    set_aside(path, "damaged")
    return (
        index,
        f"{path} is damaged ({reason}): the version before was opened, look whether the class names are right.",
    )


def painted_how(masks: Path) -> tuple[Classes, bool]:
    """Classes and style of painting of the project that a folder of masks is part of; none when it is of no project."""
    try:
        index = _read(Path(masks).absolute().parent / NAME)
    except (OSError, ValueError, EngineError):
        return (), False
    return index.classes, index.scribbles


def peek(folder: Path) -> Index:
    """What ``project.json`` of a folder says, for a look from outside: nothing is touched; empty when it is damaged."""
    for name in (NAME, NAME + PREVIOUS):
        with suppress(OSError, ValueError, EngineError):
            return _read(folder / name)
    return Index()


def _read(path: Path) -> Index:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("it is too large")
    content = parse_json(path.read_bytes())
    schema = _of(content, "schema", int)
    if schema > SCHEMA:
        raise NewerError(f"{path} was written by a newer version of napari-semigda: update napari-semigda to open it.")
    images = [_entry(item) for item in _of(content, "images", list)]
    if len({entry.file for entry in images}) < len(images):
        raise ValueError("an image is named twice")
    rounds = [_round(item) for item in _of(content, "rounds", list)]
    classes = tuple(_class(item) for item in _of(content, "classes", list))
    if len({each.number for each in classes}) < len(classes):
        raise ValueError("a class is named twice")
    return Index(
        classes or first_classes(),
        _of({"scribbles": False} | content, "scribbles", bool),
        images,
        rounds,
        _of(content, "in_use", int, type(None)),
    )


def _class(item: Any) -> PaintClass:
    colour = _of(item, "colour", str)
    if not is_colour(colour):
        raise ValueError(f"{colour!r:.40} is no colour")
    return PaintClass(_small(_of(item, "id", int), 1), _of(item, "name", str)[:LONGEST_NAME], colour.lower())


def _entry(item: Any) -> Entry:
    planes = [tuple(_size(side) for side in shape) for shape in list_of(item, "planes", list)]
    if any(len(shape) not in (2, 3) for shape in planes):
        raise ValueError("planes have two or three sides")
    dtype = _of(item, "dtype", str)
    if dtype not in (
        "bool",
        "float16",
        "float32",
        "float64",
        *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
    ):
        raise ValueError(f"{dtype} is no type of pixels")
    return Entry(
        plain_name(_of(item, "file", str)),
        _of(item, "bytes", int),
        _of(item, "modified", int),
        dtype,
        planes,
        _pair(item, "spacing"),
        _of(item, "checksum", str),
        *(
            {_place(plane) for plane in _of({"empty": []} | item, kind, list)}
            for kind in ("verified", "skipped", "empty")
        ),
        _pair({"window": None} | item, "window"),  # unknown to versions before
    )


def _round(item: Any) -> RoundEntry:
    settings, known = _of(item, "settings", dict), {each.name for each in fields(Settings)} - {"channels"}
    channels = {"channels": [_small(number, 1) for number in _of({"channels": []} | settings, "channels", list)]}
    dice = _of(item, "dice", float, int, type(None))
    return RoundEntry(
        _of(item, "number", int),
        plain_name(_of(item, "model", str)),
        None if dice is None else _number(dice),
        tuple(_of({"": name}, "", str) for name in _of(item, "held_out", list)),
        {int(number): _number(dice) for number, dice in _of(item, "dice_by_class", dict).items() if dice is not None},
        _of(item, "labelled", int),
        _number(_of(item, "seconds", float, int)),
        _of(item, "stopped", bool),
        _of(item, "date", str),
        Settings(**{name: _setting(name, value) for name, value in settings.items() if name in known} | channels),
        {name: _number(dice) for name, dice in _of({"dice_by_image": {}} | item, "dice_by_image", dict).items()},
        _of({"before": None} | item, "before", int, type(None)),
        _of({"kept_before": False} | item, "kept_before", bool),
        Findings.from_json(item.get("findings", {})),
    )


def _setting(name: str, value: Any) -> Any:
    """A value of the type that the setting has; those that may be left out are numbers or texts."""
    default = getattr(Settings(), name)
    kinds = (type(default),) if default is not None else (type(None), int, str)
    return _of({name: value}, name, *kinds, *((int,) if kinds == (float,) else ()))


def _pair(item: Any, key: str) -> tuple[float, float] | None:
    pair = _of(item, key, list, type(None))
    if pair is None:
        return None
    if len(pair) != 2:
        raise ValueError(f"{key} is {pair!r:.40}")
    return _number(pair[0]), _number(pair[1])


def _checked(good: Callable[[Any], bool]) -> Callable[..., Any]:
    def check(value: Any, *arguments: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not good(value, *arguments):
            raise ValueError(f"{value!r:.40} is out of range")
        return value

    return check


_size = _checked(lambda value: isinstance(value, int) and 0 < value < 2**31)
_small = _checked(lambda value, least: isinstance(value, int) and least <= value <= 255)
_place = _checked(lambda value: isinstance(value, int) and 0 <= value < 2**31)
_number = _checked(lambda value: abs(value) <= sys.float_info.max)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return " ".join(str(error).split())[:120]
