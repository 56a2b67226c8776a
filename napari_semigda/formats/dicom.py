"""DICOM: a file with one or many frames, or a folder with the slices of one series, ordered by where they lie.

Masks are NIfTI on the grid that ITK makes of the same series (first axis along a row, slices in the order of their
places), so that viewers lay them on the images; TIFF could not say where they lie, and DICOM's own segmentations would
carry the patient along. Only the tags named here are ever read, none of which tells who was scanned, and what pydicom
says about a damaged file is not passed on, because it may quote from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.dicom_series import Slice, affine_of, one_volume
from napari_semigda.formats.dicom_values import Values, values_of, window_of
from napari_semigda.formats.nifti import save_volume
from napari_semigda.formats.source import (
    DEFLATE,
    Bounded,
    Format,
    LazyImage,
    Source,
    check_claim,
    check_room,
    plane_names,
    said_plainly,
)

SUFFIXES = (".dcm", ".dicom", ".ima")
_GEOMETRY = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "ImagerPixelSpacing")
_DEPTH = ("SliceThickness", "SpacingBetweenSlices")
_TAGS = [
    *("SOPClassUID", "SeriesInstanceUID", "InstanceNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth"),
    *("VOILUTFunction", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *_GEOMETRY, *_DEPTH),
    *(
        f"{colour}PaletteColorLookupTable{what}"
        for colour in ("Red", "Green", "Blue")
        for what in ("Data", "Descriptor")
    ),
]
_PREAMBLE = 132  # bytes; the last four of them say DICM
_ENOUGH = 50  # files without a suffix that are looked into before a folder counts as none of DICOM


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name, or by its first bytes where its name has no ending of letters."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix.strip(".0123456789") or path.name == "DICOMDIR":
        return False
    try:
        if not path.is_file() or path.stat().st_size < _PREAMBLE:
            return False  # pipes, and what Linux shows of itself as files, keep whoever reads them waiting for ever
        with path.open("rb") as file:
            return file.read(_PREAMBLE)[-4:] == b"DICM"
    except OSError:
        return False


def is_series(folder: Path) -> bool:
    """Whether a folder holds DICOM files; found out without reading all of them."""
    looked = 0
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_file():
            continue
        if is_dicom(path):
            return True
        looked += 1
        if looked == _ENOUGH:
            break
    return False


def is_one_series(paths: Sequence[Path]) -> bool:
    """Whether images that lie side by side are the slices of one DICOM volume, and not images of their own.

    Raises
    ------
    EngineError
        When they are the slices of several, or lie among other images.
    """
    by_series: dict[str, list[Path]] = {}
    for path in paths:
        head = _head(path) if is_dicom(path) and path.is_file() else {}
        if "ImagePositionPatient" in head:
            by_series.setdefault(str(head.get("SeriesInstanceUID", "")), []).append(path)
    if all(len(files) == 1 for files in by_series.values()):
        return False  # radiographs, or one slice each
    if len(by_series) == 1 and sum(map(len, by_series.values())) == len(paths):
        return True
    example = next(files for files in by_series.values() if len(files) > 1)
    raise EngineError(
        f"{example[0]} and {example[1].name} are slices of one series that lies among other images: move the slices of "
        "every series into a folder of their own, which then counts as one image."
    )


def open_series(paths: Sequence[Path]) -> Source:
    """The slices of one series, chosen file by file, in the order of their places; called as their folder is.

    Raises
    ------
    EngineError
        When they are not one volume.
    """
    with said_plainly(str(paths[0].parent)):
        return _read_files(paths[0].parent, tuple(sorted(paths)))


def _read(path: Path) -> Source:
    if not path.is_dir():
        return _read_files(path, (path,))
    files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    stamps = tuple((file, *file.stat()[6:9]) for file in files if is_dicom(file))
    return _read_folder(path, stamps)


@lru_cache(maxsize=8)
def _read_folder(path: Path, stamps: tuple[tuple[Path, int, int, int], ...]) -> Source:
    """Kept while no file changes: somebody who looks at one slice wants the next one soon."""
    return _read_files(path, tuple(stamp[0] for stamp in stamps))


def _read_files(path: Path, files: tuple[Path, ...]) -> Source:
    heads = {file: _head(file) for file in files}
    images = {file: head for file, head in heads.items() if head.get("Rows") and head.get("Columns")}
    if not images:
        raise EngineError(f"{path} holds no picture (a report, an index or measurements): choose a file with pixels.")
    for file, head in images.items():
        _check_decoder(file, head)
    slices = one_volume(path, [frame for file, head in images.items() for frame in _frames(file, head)])
    values = [values_of(each.head, each.shared) for each in slices]
    dtype = np.result_type(*{each.dtype for each in values})
    names = plane_names(path.name, DICOM.word, len(slices))
    first = slices[0]
    shape = (int(first.head.Rows), int(first.head.Columns), *((3,) if values[0].colour else ()))
    planes = tuple(
        LazyImage(name, shape, dtype, partial(_load, each.path, each.frame, value))
        for name, each, value in zip(names, slices, values, strict=True)
    )
    affine = affine_of(slices)
    depth = float(np.linalg.norm(affine[:3, 2])) if first.is_placed and len(slices) > 1 else None
    window = window_of(first.head, first.shared)
    return Source(
        path, planes, first.spacing, None, depth=depth, affine=affine, window=window, axis="z" * (depth is not None)
    )


def _head(path: Path) -> Any:
    """The tags that are wanted, without pixels."""
    import pydicom

    with _discreetly(path):
        with Bounded(path) as file:
            head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        if "SOPClassUID" not in head and "Rows" not in head:
            raise ValueError("it tells nothing of itself")
        for tag in _GEOMETRY:
            if tag in head and not head[tag].value:  # present and empty
                del head[tag]
        return head


def _frames(path: Path, head: Any) -> Iterator[Slice]:
    """One slice, or those of a file with several."""
    count = _count(path, head)
    each = head.get("PerFrameFunctionalGroupsSequence") or []
    shared = (head.get("SharedFunctionalGroupsSequence") or [None])[0]
    for i in range(count):
        groups = [group for group in (each[i] if i < len(each) else None, shared) if group is not None]
        yield Slice(path, i if count > 1 else None, head, groups)


def _count(path: Path, head: Any) -> int:
    """Frames of a file, no more than lie in it."""
    with _discreetly(path):
        count = int(head.get("NumberOfFrames") or 1)
        values = int(head.Rows) * int(head.Columns) * int(head.get("SamplesPerPixel") or 1)
        syntax, stored = head.file_meta.get("TransferSyntaxUID"), path.stat().st_size
        if syntax is not None and syntax.is_encapsulated:  # each frame an item of its own, which takes eight bytes
            check_claim(path, count, 8, stored)
            check_room(path.name, (values,), np.uint8)
        else:
            deflated = syntax is not None and syntax.is_deflated
            bits = values * int(head.get("BitsAllocated") or 1)
            bits = bits * 2 // 3 if "422" in str(head.get("PhotometricInterpretation")) else bits
            check_claim(path, max(count, 0), bits // 8, stored * (DEFLATE if deflated else 1))
        if count < 1:
            raise ValueError("it has fewer than one frame")
        return count


def _check_decoder(path: Path, head: Any) -> None:
    from pydicom.pixels import get_decoder

    syntax = head.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise EngineError(
            f"{path} is compressed as {syntax.name}, which cannot be unpacked here: run pip install python-gdcm, or "
            "export it again without compression."
        )


def _load(path: Path, frame: int | None, values: Values) -> np.ndarray:
    from pydicom.pixels import pixel_array

    with _discreetly(path), Bounded(path) as file:
        return values.apply(pixel_array(file, index=frame))


@contextmanager
def _discreetly(path: Path) -> Iterator[None]:
    """Whatever pydicom has to say about a file stays here: it may quote the patient's name."""
    logger = logging.getLogger("pydicom")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    except (EngineError, MemoryError):
        raise
    except Exception as error:
        reason = type(error).__name__
        raise EngineError(f"{path} cannot be read, it may be damaged ({reason}): copy it again or remove it.") from None
    finally:
        logger.disabled = disabled


def _write(path: Path, source: Source, masks: Sequence[np.ndarray]) -> None:
    volume = np.stack(masks, axis=-1).swapaxes(0, 1)
    save_volume(path, volume, source.affine[:, [1, 0, 2, 3]])


DICOM = Format(_read, _write, ".nii.gz", "slice")
