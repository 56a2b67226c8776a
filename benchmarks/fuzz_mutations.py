"""Ways to damage a file on purpose, each a function of a random generator: for `fuzz`.

Bytes are flipped, cut, repeated and overwritten; fields that tell sizes are set to what no honest file says; values of
JSON become null, huge, negative, deep, or lead out of the folder; files become links and folders.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    32,
    64,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    10**6,
    2**31 - 1,
    2**31,
    2**32 - 1,
]
PATHS = [
    "../../secret.png",
    "..",
    ".",
    "/etc/hostname",
    "../secret/secret.png",
    "a/../../secret.png",
    "C:\\x",
    "\\\\x\\y",
]
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        0.5,
        1e308,
        -1e308,
        2**31,
        2**63,
        -(2**63),
        10**30,
        10**400,
        float("nan"),
        float("inf"),
    ),
    *("", "a", "0", "1", "x" * 100_000, "\0", "\ud800", "nan", "#zzzzzz", *PATHS),
    *([], {}, [[]], [None], [0], [-1, -1], [10**6, 10**6], [10**9], {"a": None}, {"0": {}}, [1] * 1000),
]

Mutation = Callable[[random.Random, Path], None]
"""Damages one file in place."""


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Other bytes: flipped, cut, repeated, overwritten, or numbers set in the middle."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = min(rng.randrange(len(data) + 1), rng.choice((len(data), 64, 512)))
        match rng.randrange(7):
            case 0 if data:
                at = min(at, len(data) - 1)
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = data[: rng.randrange(200)]
            case 3:
                data[at : at + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(64))
            case 4:
                code = rng.choice("<>") + rng.choice("HIQ")
                number = rng.choice(NUMBERS)
                packed = struct.pack(code, number % 2 ** (8 * struct.calcsize(code)))
                data[at : at + len(packed)] = packed
            case 5:
                del data[at : at + rng.randrange(1, 100)]
            case 6:
                count = rng.randrange(1, 300)
                data[at : at + count] = rng.choice((b"\0", b"\xff")) * count
    return bytes(data)


def any_bytes(rng: random.Random, path: Path) -> None:
    """`damaged_bytes` of a file."""
    path.write_bytes(damaged_bytes(rng, path.read_bytes()))


def packed_bytes(rng: random.Random, path: Path) -> None:
    """`damaged_bytes` inside a gzip file, which is whole again afterwards; sometimes with gigabytes of zeros behind."""
    inner = damaged_bytes(rng, gzip.decompress(path.read_bytes()))
    if rng.random() < 0.02:
        inner += bytes(1_500_000_000)
        path.write_bytes(gzip.compress(inner, 1))
        return
    path.write_bytes(gzip.compress(inner, 1))


def png_header(rng: random.Random, path: Path) -> None:
    """Another size or kind in the header of a PNG, with a checksum that fits."""
    data = bytearray(path.read_bytes())
    struct.pack_into(rng.choice((">I", ">I", ">B")), data, rng.choice((16, 20, 24, 25)), rng.choice(NUMBERS) % 256)
    if rng.random() < 0.7:
        struct.pack_into(">II", data, 16, rng.choice(NUMBERS[1:]), rng.choice(NUMBERS[1:]))
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    path.write_bytes(data)


def tiff_tags(rng: random.Random, path: Path) -> None:
    """Other values in the tags of a TIFF."""
    import tifffile

    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        pages = list(tif.pages)
        tags = [tag for page in pages for tag in page.tags.values()] if pages else []
    for tag in rng.sample(tags, min(len(tags), rng.choice((1, 1, 2, 3)))):
        number = rng.choice(NUMBERS)
        if tag.code in (256, 257) and rng.random() < 0.5:  # width and length, in whatever type they are
            number = rng.choice((10**6, 65535, 10**5, 2**31 - 1))
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(int(tag.dtype), "I")
        number %= 2 ** (8 * struct.calcsize(code))
        where = tag.offset + 8 if rng.random() < 0.5 else tag.valueoffset
        if rng.random() < 0.2:
            where, code, number = tag.offset + rng.choice((2, 4)), "H", number % 65536
        if where + struct.calcsize(code) <= len(data):
            struct.pack_into(f"<{code}", data, where, number)
    path.write_bytes(data)


def tiff_text(rng: random.Random, path: Path) -> None:
    """Another description of the same length in a TIFF of OME or ImageJ: sizes, files elsewhere, entities."""
    data = path.read_bytes()
    swaps = [
        (b'SizeX="', b'"', lambda: str(rng.choice(NUMBERS)).encode()),
        (b'SizeZ="', b'"', lambda: str(rng.choice(NUMBERS)).encode()),
        (b'DimensionOrder="', b'"', lambda: rng.choice((b"XYZCT", b"AAAAA", b"YX"))),
        (b'FileName="', b'"', lambda: rng.choice(PATHS).encode()),
        (b"<TiffData", b">", lambda: b' IFD="0" PlaneCount="1"><UUID FileName="../secret/secret.tif">urn:uuid:1</UUID'),
        (b"images=", b"\n", lambda: str(rng.choice(NUMBERS)).encode()),
        (b"slices=", b"\n", lambda: str(rng.choice((-1, *NUMBERS))).encode()),
        (b"frames=", b"\n", lambda: str(rng.choice(NUMBERS)).encode()),
        (b"<?xml", b">", lambda: b'?><!DOCTYPE a [<!ENTITY x "' + b"lol" * 30 + b'"><!ENTITY y "&x;&x;&x;">]'),
    ]
    present = [swap for swap in swaps if swap[0] in data]
    if not present:
        return any_bytes(rng, path)
    key, end, new = rng.choice(present)
    start = data.index(key) + len(key)
    stop = data.index(end, start)
    changed = data[:start] + new() + data[stop:]
    surplus = len(changed) - len(data)  # offsets must stay as they are: the blanks at the end of the text give room
    path.write_bytes(changed[: len(data)] if surplus > 0 else changed + b" " * -surplus)
    return None


def nifti_header(rng: random.Random, path: Path) -> None:
    """Other sizes, types and scales in the header of a NIfTI, packed or not."""
    packed = path.suffix == ".gz"
    data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    fields = [(40 + 2 * i, "<h") for i in range(8)] + [(70, "<h"), (72, "<h"), (108, "<f"), (112, "<f"), (116, "<f")]
    fields += [(76 + 4 * i, "<f") for i in range(8)] + [(123, "<B"), (252, "<h"), (254, "<h"), (280, "<f"), (348, "<I")]
    for at, code in rng.sample(fields, rng.choice((1, 2, 3))):
        if code == "<f":
            number: Any = rng.choice((0.0, -1.0, 1e30, 1e-30, float("nan"), float("inf"), 352.0, 1e9))
        else:
            number = rng.choice((-1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 512, 768, 2304, 1792, 30000, 32767))
            number = number % 256 if code == "<B" else abs(number) if code == "<I" else number
        struct.pack_into(code, data, at, number)
    if rng.random() < 0.3:
        struct.pack_into("<8h", data, 40, 3, *rng.choices((32767, 20000, 1, 2), k=3), 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(data), 1) if packed else bytes(data))


def dicom_tags(rng: random.Random, path: Path) -> None:
    """Other sizes and kinds in the header of a DICOM file."""
    import pydicom

    file = pydicom.dcmread(path)
    names = ["Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"]
    names += ["PixelRepresentation", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "InstanceNumber"]
    names += ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "WindowWidth", "PlanarConfiguration"]
    for name in rng.sample(names, rng.choice((1, 2, 3))):
        if rng.random() < 0.2 and name in file:
            delattr(file, name)
        elif name == "PhotometricInterpretation":
            file.PhotometricInterpretation = rng.choice(("MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL_422", "X"))
        elif name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            setattr(file, name, rng.choice(([0, 0], [1e30, 0, 0], [1, 0, 0, 1, 0, 0], [0] * 6, [], "1")))
        elif name in ("RescaleSlope", "RescaleIntercept", "WindowWidth"):
            setattr(file, name, rng.choice(("0", "1e30", "-1", "0.5", "")))
        elif name in ("NumberOfFrames", "InstanceNumber"):
            setattr(file, name, str(rng.choice((-1, 0, 2, 10**6, 2**31 - 1))))
        else:
            setattr(file, name, rng.choice(NUMBERS) % 65536)
    file.save_as(path)


def damaged_json(rng: random.Random, content: Any) -> Any:
    """A copy with one value, or a few, of another type, size or meaning, or gone."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            return rng.choice(VALUES)
        holder, key = rng.choice(places)
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder[key], (int, float)):
                holder[key] = rng.choice((holder[key] + 1, -holder[key], holder[key] * 10**6, str(holder[key]), 1e308))
            case 2 if isinstance(holder[key], str):
                holder[key] = rng.choice((holder[key] * 2, holder[key][::-1], *PATHS))
            case 3 if isinstance(holder, dict):
                holder[rng.choice(("", "0", "-1", "x", "\0", "1e9"))] = holder[key]
            case 4:
                deep: Any = holder[key]
                for _ in range(rng.choice((2, 50))):
                    deep = [deep]
                holder[key] = deep
            case _:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
    return content


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every holder of a value, with the key or number of it."""
    found: list[tuple[Any, Any]] = []
    todo = [content]
    while todo:
        each = todo.pop()
        pairs = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        for key, value in pairs:
            found.append((each, key))
            todo.append(value)
    return found


def json_text(rng: random.Random, content: Any) -> bytes:
    """JSON of `damaged_json`; now and then no JSON at all, or nested a hundred thousand deep."""
    if rng.random() < 0.03:
        return rng.choice(
            (b"[" * 100_000, b'{"a":' * 100_000, b"", b"null", b"\xff\xfe", b"1" * 5000, b"[" * 900 + b"]" * 900)
        )
    text = json.dumps(damaged_json(rng, content)).encode("utf-8", "surrogatepass")
    return damaged_bytes(rng, text) if rng.random() < 0.2 else text


def json_file(rng: random.Random, path: Path) -> None:
    """`json_text` of a JSON file."""
    path.write_bytes(json_text(rng, json.loads(path.read_bytes())))


def safetensors_header(rng: random.Random, path: Path) -> None:
    """Another header of a safetensors file, in its own JSON or in the JSON of ours inside it."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])
    ours = about.get("__metadata__", {}).get("semigda")
    if ours is not None and rng.random() < 0.8:
        about["__metadata__"]["semigda"] = json_text(rng, json.loads(ours)).decode("utf-8", "replace")
        text = json.dumps(about).encode()
    else:
        text = json_text(rng, about)
    length = len(text) if rng.random() < 0.95 else rng.choice((0, 2**63, 10**9, len(text) + 1))
    path.write_bytes(length.to_bytes(8, "little") + text + data[8 + size :])


def other_thing(rng: random.Random, path: Path) -> None:
    """In place of a file a link out of the folder, a link to nowhere or itself, a folder, or nothing."""
    path.unlink()
    match rng.randrange(5):
        case 0:
            path.symlink_to(rng.choice(("../secret/secret.png", "../../secret/secret.png", "/dev/null")))
        case 1:
            path.symlink_to(path.name)
        case 2:
            path.mkdir()
        case 3:
            path.write_bytes(b"")


def swapped(rng: random.Random, path: Path) -> None:
    """The content of another file of the same folder."""
    others = [each for each in path.parent.iterdir() if each.is_file() and each != path]
    if others:
        shutil.copyfile(rng.choice(others), path)
    else:
        any_bytes(rng, path)
