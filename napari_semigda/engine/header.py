"""What a `.semigda` model file says of itself: JSON in its metadata, read without its weights and without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from napari_semigda.colours import class_hex, is_colour
from napari_semigda.engine.types import EngineError

SCHEMA = 1
KEY = "semigda"


def read_header(path: Path) -> dict[str, Any]:
    """The JSON of a model file, without its weights.

    Raises
    ------
    EngineError
        When the file is missing, damaged, not a model of this program, or from a newer version.
    """
    if not Path(path).is_file():
        raise EngineError(f"There is no model file {path}. Check the name, or train a model first.")
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(KEY)
        header = json.loads(text) if text is not None else None
    except (OSError, SafetensorError, ValueError) as error:
        raise EngineError(f"{path} is damaged or not a SemiGDA model. Choose a .semigda file.") from error
    if not isinstance(header, dict) or not isinstance(header.get("schema"), int):
        raise EngineError(f"{path} is not a SemiGDA model. Choose a .semigda file made by this program.")
    if header["schema"] > SCHEMA:
        raise EngineError(
            f"{path} was made by a newer napari-semigda ({header.get('version', 'unknown')}). Update yours to use it."
        )
    return header


def class_names(header: Mapping[str, Any]) -> dict[int, str]:
    """Names by class id in the order the user gave them, background first; without such an order, by id."""
    names = {each["id"]: each["name"] for each in header["classes"]}
    order = [number for number in header.get("class_order", ()) if number in names]
    return {number: names[number] for number in dict.fromkeys((*([0] if 0 in names else ()), *order, *names))}


def class_colours(header: Mapping[str, Any]) -> dict[int, str]:
    """``"#rrggbb"`` by class id; models of before colours were kept have those that classes get by themselves."""
    classes = [each for each in header["classes"] if each["id"]]
    return {each["id"]: each["colour"] if is_colour(each.get("colour")) else class_hex(each["id"]) for each in classes}


def copy_with_classes(model: Path, target: Path, names: Mapping[int, str], colours: Mapping[int, str]) -> None:
    """Copy a model file with classes called and coloured as they are now; what it learnt stays as it is.

    Parameters
    ----------
    model
        A `.semigda` file.
    target
        The copy, written over.
    names, colours
        By class id, in the user's order; classes of the model that are not among them keep theirs.

    Raises
    ------
    EngineError
        As `read_header`.
    OSError
        When the copy cannot be written.
    """
    header = read_header(model)
    for each in header["classes"]:
        each["name"] = names.get(each["id"], each["name"])
        if each["id"] in colours:
            each["colour"] = colours[each["id"]]
    ids = {each["id"] for each in header["classes"]}
    header["class_order"] = [number for number in names if number in ids]
    with model.open("rb") as source, target.open("wb") as copy:
        # safetensors: eight bytes for the length of a JSON header, the header, tensors at places counted from its end
        about = json.loads(source.read(int.from_bytes(source.read(8), "little")))
        about["__metadata__"][KEY] = json.dumps(header)
        text = json.dumps(about).encode()
        text += b" " * (-len(text) % 8)
        copy.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(source, copy)
