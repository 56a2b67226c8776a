"""The classes a user paints: number, name and colour of each, in the user's order.

The number is what the pixels of a mask hold, here and in every file; it stays with a class whatever its name, colour
and place in the list. A list of classes is a tuple that never changes: an edit makes another one, so that taking an
edit back means going back to the list before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_semigda.colours import COUNT, class_hex
from napari_semigda.engine.header import class_colours, class_names, read_header
from napari_semigda.engine.types import MAX_CLASSES, EngineError

LONGEST_NAME = 200
BACKGROUND = "background"
"""Name of the class that scribbles of background are painted with."""


@dataclass(frozen=True)
class PaintClass:
    """One class."""

    number: int
    """1..255."""
    name: str
    colour: str
    """``"#rrggbb"``."""


Classes = tuple[PaintClass, ...]


def plain_name(number: int) -> str:
    """What a class is called that nobody has named."""
    return f"class {number}"


def first_classes() -> Classes:
    """What painting begins with."""
    return named({1: plain_name(1)})


def named(names: Mapping[int, str], known: Iterable[PaintClass] = ()) -> Classes:
    """Classes of these numbers and names, in this order; those `known` keep their colours."""
    colours = {number: colour for number, colour in colours_of(known).items() if number in names}
    for number in names:
        colours.setdefault(number, _free_colour(number, colours.values()))
    return tuple(PaintClass(number, name, colours[number]) for number, name in names.items())


def colours_of(classes: Iterable[PaintClass]) -> dict[int, str]:
    """``"#rrggbb"`` by class id."""
    return {each.number: each.colour for each in classes}


def of_model(header: Mapping[str, Any]) -> Classes:
    """The classes that a model finds, as its file says; background is none of them."""
    names, colours = class_names(header), class_colours(header)
    return tuple(PaintClass(number, name, colours[number]) for number, name in names.items() if number)


@lru_cache(maxsize=64)
def taught(model: Path) -> tuple[frozenset[int], bool] | None:
    """Numbers of the classes that a model finds, and whether it learnt from scribbles; None when it cannot be read."""
    with suppress(EngineError, KeyError, TypeError):  # what is wrong with it is said when it is used
        header = read_header(model)
        return frozenset(each["id"] for each in header["classes"]) - {0}, bool(header["sparse"])
    return None


def with_found(classes: Classes, painted: Iterable[int] = (), names: Mapping[int | str, str] | None = None) -> Classes:
    """Append classes for numbers that are painted without one, or come with names; names the user gave stay."""
    known = {each.number: each.name for each in classes}
    for number, name in (names or {}).items():
        if known.get(int(number), plain_name(int(number))) == plain_name(int(number)):
            known[int(number)] = str(name)
    found = sorted(number for number in painted if number <= 255 and number not in known)
    return named(known | {number: plain_name(number) for number in found}, classes)


def find(classes: Classes, number: int) -> PaintClass | None:
    """The class of a number, if there is one."""
    return next((each for each in classes if each.number == number), None)


def add(classes: Classes, name: str = "", taken: Collection[int] = ()) -> tuple[Classes, PaintClass]:
    """Append a class with the lowest free number and a colour that no other class has.

    Parameters
    ----------
    classes
        Those there are.
    name
        Of the new one; "class N" by default.
    taken
        Numbers that mean something else to a model in use, and are not given again.

    Returns
    -------
    classes, new
        All of them, and the new one.

    Raises
    ------
    EngineError
        When there are as many classes as can be trained.
    """
    if len(classes) >= MAX_CLASSES:
        raise EngineError(f"There are {MAX_CLASSES} classes, which is the most: delete one that is not needed.")
    used = {each.number for each in classes} | set(taken)
    number = next(n for n in range(1, 256) if n not in used)
    colour = _free_colour(number, {each.colour for each in classes})
    new = PaintClass(number, _free_name(classes, name or plain_name(number)), colour)
    return (*classes, new), new


def rename(classes: Classes, number: int, name: str) -> Classes:
    """Give a class another name; nothing but spaces gives it back "class N".

    Raises
    ------
    EngineError
        When another class is called that: tables and models could not tell the two apart.
    """
    name = " ".join(name.split())[:LONGEST_NAME] or plain_name(number)
    if any(each.name == name and each.number != number for each in classes):
        raise EngineError(f"There is a class called {name} already: give this one another name.")
    return tuple(replace(each, name=name) if each.number == number else each for each in classes)


def recolour(classes: Classes, number: int, colour: str) -> Classes:
    """Give a class another colour; a class that has it already gets the old one in exchange."""
    old = find(classes, number).colour
    swapped = {each.number: old for each in classes if each.colour == colour} | {number: colour}
    return tuple(replace(each, colour=swapped.get(each.number, each.colour)) for each in classes)


def move(classes: Classes, number: int, by: int) -> Classes:
    """Move a class `by` places down the list, or up when negative; at the end of the list it stays."""
    order = list(classes)
    at = order.index(find(classes, number))
    order.insert(min(max(at + by, 0), len(order) - 1), order.pop(at))
    return tuple(order)


def without(classes: Classes, number: int) -> Classes:
    """All but one.

    Raises
    ------
    EngineError
        When it is the only one.
    """
    if len(classes) == 1:
        raise EngineError("This is the only class, and there is nothing to paint without one: rename it instead.")
    return tuple(each for each in classes if each.number != number)


def _free_colour(number: int, shown: Collection[str]) -> str:
    """The colour that class `number` has by default, or the first one that is not `shown`."""
    order = (class_hex(n) for n in (number, *range(1, COUNT + 1)))
    return next((each for each in order if each not in shown), class_hex(number))


def _free_name(classes: Classes, wanted: str) -> str:
    """`wanted`, with a number behind it when a class is called that."""
    names = {each.name for each in classes}
    return next(name for name in (wanted, *(f"{wanted} ({n})" for n in range(2, 258))) if name not in names)
