"""JSON that may come from a stranger: read so that everything wrong with it is a ValueError."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text.

    Raises
    ------
    ValueError
        When it is none, in no encoding of Unicode, or nested deeper than Python goes.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def value_of(item: Any, key: str, *kinds: type) -> Any:
    """One value of a JSON object, of one of the types wanted; ValueError for everything else."""
    if not isinstance(item, dict) or key not in item:
        raise ValueError(f"{key} is missing")
    value = item[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{key} is {value!r:.40}")
    return value


def list_of(item: Any, key: str, *kinds: type) -> list[Any]:
    """A list of a JSON object, all of whose values are of the types wanted; ValueError for everything else."""
    values = value_of(item, key, list)
    return [value_of({key: value}, key, *kinds) for value in values]


def number_of(item: Any, key: str, least: float, most: float, whole: bool = False) -> Any:
    """A number of a JSON object within limits; ValueError for everything else."""
    value = value_of(item, key, *((int,) if whole else (int, float)))
    if not least <= value <= most:  # nan is not, either
        raise ValueError(f"{key} is {value!r:.40}, not {least:g} to {most:g}")
    return value
