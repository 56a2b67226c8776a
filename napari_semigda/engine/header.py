"""What a `.semigda` model file says of itself: JSON in its metadata, read without its weights and without torch."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from napari_semigda.colours import class_hex, is_colour
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.strangers import list_of, number_of, parse_json, value_of
from napari_semigda.engine.types import EngineError

SCHEMA = 3  # 2: narrower skip adapters; 3: branch C joins its features by normalised convolutions
KEY = "semigda"
_OLDER = {"adapter_kernel": 3, "fusion": "residual"}  # what files of schema 1 and 2 do not say
_LONGEST_NAME = 10_000  # of a class, in characters


def read_header(path: Path) -> dict[str, Any]:
    """The JSON of a model file, without its weights.

    Raises
    ------
    EngineError
        When the file is missing, damaged, not a model of this program, from a newer version, or says of itself what no
        model can be.
    """
    if not Path(path).is_file():
        raise EngineError(f"There is no model file {path}. Check the name, or train a model first.")
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(KEY)
        header = parse_json(text) if text is not None else None
    except (OSError, SafetensorError, ValueError) as error:
        raise EngineError(f"{path} is damaged or not a SemiGDA model. Choose a .semigda file.") from error
    if not isinstance(header, dict) or type(header.get("schema")) is not int:
        raise EngineError(f"{path} is not a SemiGDA model. Choose a .semigda file made by this program.")
    if header["schema"] > SCHEMA:
        version = str(header.get("version", "unknown"))[:20]
        raise EngineError(f"{path} was made by a newer napari-semigda ({version}). Update yours to use it.")
    try:
        _check(header)
    except ValueError as error:
        raise EngineError(f"{path} is damaged ({error}). Choose another copy of it, or train it again.") from error
    return header


def network_of(header: dict[str, Any]) -> dict[str, Any]:
    """The sizes and kinds of the network that a model file holds, as `SemiGDA` takes them; older files say less."""
    return {name: (_OLDER | header)[name] for name in ("mapper_width", *_OLDER)}


def _check(header: dict[str, Any]) -> None:
    """Refuse with a ValueError what would not be a model: sizes and names are used without looking at them again."""
    classes = list_of(header, "classes", dict)
    numbers = [number_of(each, "id", 0, 255, whole=True) for each in classes]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError("its classes are none, or two are one")
    for each in classes:
        if len(value_of(each, "name", str)) > _LONGEST_NAME:
            raise ValueError("the name of a class has no end")
    list_of({"class_order": []} | header, "class_order", int)
    value_of(header, "sparse", bool)
    value_of(header, "backbone", str)
    for name in ("version", "backbone_source", "backbone_digest"):
        value_of({name: None} | header, name, str, type(None))
    if number_of(header, "class_count", 1, 256, whole=True) != len(numbers):
        raise ValueError("it finds another number of classes than it names")
    number_of(header, "mapper_width", 1, 128, whole=True)
    if number_of(_OLDER | header, "adapter_kernel", 1, 3, whole=True) not in (1, 3):
        raise ValueError("its adapters are of an unknown kind")
    if value_of(_OLDER | header, "fusion", str) not in ("residual", "normalised"):
        raise ValueError("its branch C is of an unknown kind")
    number_of({"v_share": 0.5} | header, "v_share", 0, 1)
    view = value_of(header, "view", dict)
    number_of(view, "scale", 1e-4, 16)
    if number_of(view, "crop", 32, 4096, whole=True) % 32:
        raise ValueError("its crops are no multiples of 32 pixels")
    for pose in list_of({"poses": []} | view, "poses", int):
        number_of({"pose": pose}, "pose", 0, 7, whole=True)
    number_of({"structure_width": 1} | header, "structure_width", 0, 1e6)
    if "input" in header:
        _check_input(value_of(header, "input", dict))
    value_of({"plan": {}} | header, "plan", dict)
    value_of({"libraries": {}} | header, "libraries", dict)
    _check_training(value_of({"training": {}} | header, "training", dict))


def _check_input(reading: dict[str, Any]) -> None:
    """Of how images are read: channels, and what is black and white."""
    channels = list_of(reading, "channels", int)
    if not 1 <= len(channels) <= 3:
        raise ValueError("it sees none or too many channels")
    for channel in channels:
        number_of({"channel": channel}, "channel", 0, 1e6, whole=True)
    for name in ("pictures", "joint"):
        value_of(reading, name, bool)
    ranges, familiar = (list_of({"familiar": []} | reading, name, list) for name in ("ranges", "familiar"))
    if len(ranges) > len(channels) or len(familiar) not in (0, len(ranges)):
        raise ValueError("it has other ranges than channels")
    for pair in (*ranges, *familiar):
        if len(pair) != 2:
            raise ValueError("a range is from black to white")
        for value in pair:
            number_of({"range": value}, "range", -1e38, 1e38)


def _check_training(training: dict[str, Any]) -> None:
    """Of what is told about the training, that which sentences are made of; an old model may tell less."""
    for name in ("rounds", "steps", "labelled", "unlabelled"):
        number_of({name: 0} | training, name, 0, 1e12, whole=True)
    for name in ("held_out", "trained_on"):
        list_of({name: []} | training, name, str)
    for name in ("seconds", "dice"):
        if training.get(name) is not None:
            number_of(training, name, -1e12, 1e12)
    value_of({"settings": {}} | training, "settings", dict)
    value_of({"device": ""} | training, "device", str)
    by_class = value_of({"dice_by_class": {}} | training, "dice_by_class", dict)
    for number, dice in by_class.items():
        if dice is not None and not (isinstance(dice, float) and math.isnan(dice)):  # no image held out shows the class
            number_of(by_class, number, 0, 1)
    Findings.from_json(training.get("findings", {}))


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
