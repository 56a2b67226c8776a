"""How much a packed piece of a file unpacks to, found out before memory is taken for it.

Some packings tell it at their beginning, others only on the way: those are unpacked a little at a time and thrown away,
where they are large enough to do harm. What asks for more than the pixels it stands for is no image.
"""

from __future__ import annotations

import bz2
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

from napari_semigda.formats.source import DEFLATE

HARMLESS = 2**29
"""Bytes: what is surely less is not looked into."""
_PIECE = 2**20
_REMEMBERED = 2**12  # chunks
_FILTERS = 8  # times as many bytes as the pixels of a chunk: before they are packed, filters may make them wider
_DENSEST = {"gzip": DEFLATE, "zlib": DEFLATE, "bz2": math.inf, "lzma": math.inf}
_STREAMS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=47),  # whichever of both wrappings
    "zlib": lambda: zlib.decompressobj(wbits=47),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}


def check_unpacked(file: BinaryIO, size: int, packing: str, most: int) -> None:
    """Refuse what unpacks to more than there can be.

    Parameters
    ----------
    file
        At the first of the packed bytes; it is read from there on.
    size
        How many packed bytes there are.
    packing : str
        ``"blosc"``, ``"lz4"``, ``"zstd"``, ``"gzip"``, ``"zlib"``, ``"bz2"`` or ``"lzma"``; others pass.
    most
        Bytes that it stands for; what cannot unpack to more than `HARMLESS` passes anyway.

    Raises
    ------
    ValueError
        It unpacks to more, or cannot be unpacked.
    """
    if packing in _TOLD:
        if (told := _TOLD[packing](file.read(min(size, 32)))) > max(most, HARMLESS):
            raise ValueError(f"a piece of it claims to unpack to {told} bytes, more than its pixels")
    elif size * _DENSEST.get(packing, 0) > HARMLESS and _unpacks_beyond(_STREAMS[packing](), file, size, most):
        raise ValueError("it unpacks to more than its pixels")


def check_chunks(array: Any, folder: Path, areas: Iterable[slice | int]) -> None:
    """Refuse chunks of a zarr array that unpack to more than a chunk, before any of them is read.

    Chunks within shards are not looked at.

    Parameters
    ----------
    array : zarr.Array
        In a folder of this computer.
    folder
        Of the array.
    areas
        What will be read along each axis, without steps backwards.
    """
    packing = _packing(array)
    if not packing or getattr(array, "shards", None):
        return
    most = _FILTERS * math.prod(array.chunks) * array.dtype.itemsize
    touched = [_touched(*each) for each in zip(areas, array.shape, array.chunks, strict=True)]
    for at in product(*touched):
        path = folder / array.metadata.encode_chunk_key(at)
        if path.is_file():  # left out: all of one value
            known = path.stat()
            _check_chunk(path, known.st_size, known.st_mtime_ns, packing, most)


@lru_cache(maxsize=_REMEMBERED)
def _check_chunk(path: Path, size: int, modified: int, packing: str, most: int) -> None:
    """As `check_unpacked`; parts of an image that share a chunk ask once, until the file is another."""
    with path.open("rb") as file:
        check_unpacked(file, size, packing, most)


def _packing(array: Any) -> str:
    """What chunks are packed with in the end."""
    for codec in reversed(array.compressors):
        name = f"{getattr(codec, 'codec_id', '')} {type(codec).__name__}".lower()
        if known := next((each for each in (*_TOLD, *_STREAMS) if each in name), ""):
            return known
    return ""


def _touched(area: slice | int, length: int, chunk: int) -> range:
    """Chunks along an axis that hold a part of it."""
    first, last, _ = area.indices(length) if isinstance(area, slice) else (area % length, area % length + 1, 1)
    return range(first // chunk, math.ceil(last / chunk))


def _unpacks_beyond(stream: Any, file: BinaryIO, size: int, most: int) -> bool:
    """Whether it is more than so many bytes; a piece at a time."""
    packed = file.read(size)
    while packed or not getattr(stream, "needs_input", True):
        if stream.eof:
            return False
        most -= len(stream.decompress(packed, _PIECE))
        packed = getattr(stream, "unconsumed_tail", b"")
        if most < 0:
            return True
    return False


def _told_by_blosc(head: bytes) -> int:
    return struct.unpack_from("<I", head, 4)[0] if len(head) >= 16 else 0


def _told_by_lz4(head: bytes) -> int:
    """As numcodecs packs it: the size comes first."""
    return struct.unpack_from("<I", head)[0] if len(head) >= 4 else 0


def _told_by_zstd(head: bytes) -> int:
    """The content size of a Zstandard frame (RFC 8878, 3.1.1.1); 0 where it is not told."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 5:
        return 0
    kind, single = head[4] >> 6, bool(head[4] & 32)
    start = 5 + (not single) + (0, 1, 2, 4)[head[4] & 3]
    length = (int(single), 2, 4, 8)[kind]
    return int.from_bytes(head[start : start + length], "little") + 256 * (length == 2)


_TOLD: dict[str, Callable[[bytes], int]] = {"blosc": _told_by_blosc, "lz4": _told_by_lz4, "zstd": _told_by_zstd}
