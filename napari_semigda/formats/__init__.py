"""One file <-> its planes: what is read as an image, and how masks are written back beside it.

========================= ============================ ================================================
name                      planes                       masks are written as
========================= ============================ ================================================
.png .jpg .jpeg           one                          STEM.png
.tif .tiff                one a page                   STEM.tif, the same pages, resolution tags kept
.nii .nii.gz              one a slice (third axis)     STEM.nii.gz, affine, header spacing, shape kept
.dcm .dicom .ima,         one a frame                  STEM.nii.gz, which lies on the image
or DICOM without ending
a folder of DICOM slices  one a slice, by their place  FOLDER.nii.gz, which lies on the images
.zarr .ome.zarr (folder)  one for each t and z         STEM.ome.zarr, under labels/masks
========================= ============================ ================================================

Masks of large images come in block by block (`growing_masks`): chunks of the OME-Zarr itself, else of a store that the
file is written from once they are complete; a TIFF then has compressed tiles and coarser levels.

Rows and columns stay as they are stored: of a NIfTI slice, rows are the first axis. To add a format, write its `Format`
(a module each) and name its suffixes here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_semigda.engine.blocks import is_large
from napari_semigda.engine.types import EngineError
from napari_semigda.formats import dicom, growing, omezarr
from napari_semigda.formats.growing import MaskPlane
from napari_semigda.formats.nifti import NIFTI
from napari_semigda.formats.omezarr import ZARR
from napari_semigda.formats.picture import PICTURE
from napari_semigda.formats.source import Format, LazyImage, Source, plane_names, replacing, said_plainly
from napari_semigda.formats.tiff import TIFF, float_pages

__all__ = [
    "KINDS",
    "LazyImage",
    "MaskPlane",
    "Source",
    "float_pages",
    "growing_masks",
    "is_image",
    "is_zarr",
    "names_of_planes",
    "open_source",
    "output_name",
    "stem_of",
    "write_grown",
    "write_masks",
    "write_masks_to",
]

KINDS = "PNG, JPEG, TIFF, NIfTI, DICOM or OME-Zarr"
"""What is read, for sentences."""

_FORMATS = {
    ".png": PICTURE,
    ".jpg": PICTURE,
    ".jpeg": PICTURE,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
    ".zarr": ZARR,
    ".ome.zarr": ZARR,
} | dict.fromkeys(dicom.SUFFIXES, dicom.DICOM)


def is_image(path: Path) -> bool:
    """Whether a file is an image we read, by its name, or a folder is, by what lies in it; hidden ones are not."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_zarr(path) or (_format_of(path) is dicom.DICOM and dicom.is_series(path))
    return (bool(_suffix_of(path)) and not is_zarr(path)) or dicom.is_dicom(path)


def is_zarr(path: Path) -> bool:
    """Whether a folder is an OME-Zarr, by its name."""
    return _format_of(path) is ZARR


def stem_of(path: Path) -> str:
    """The name without suffix: ``x`` for ``x.png`` and for ``x.nii.gz``; what only DICOM has stays, as in ``1.2.3``."""
    return path.name[: len(path.name) - len(_suffix_of(path))]


def output_name(path: Path, *, tiff: bool = False) -> str:
    """Name of the file that the masks of an image file go to; with `tiff`, pictures and OME-Zarr get TIFF."""
    return stem_of(path) + _output_of(path, tiff).output


def names_of_planes(name: str, count: int) -> list[str]:
    """What messages call the planes of an image file, or of a folder of slices, of that name."""
    return plane_names(name, _FORMATS.get(_suffix_of(Path(name)), dicom.DICOM).word, count)


def open_source(path: Path) -> Source:
    """Look into an image file without reading its pixels.

    Parameters
    ----------
    path
        A file, an OME-Zarr, or a folder with the slices of one DICOM series.

    Raises
    ------
    EngineError
        When the file is missing, empty, damaged, or of a kind that is not read; the sentence names it.
    """
    path = Path(path)
    if not path.exists():
        raise EngineError(f"{path} is not there: check the name.")
    if path.is_file() and path.stat().st_size == 0:
        raise EngineError(f"{path} is empty (zero bytes): copy it again, or remove it.")
    if not is_image(path):
        told = "holds no slices of a DICOM series: choose a file" if path.is_dir() else "is no image that can be read"
        raise EngineError(f"{path} {told} ({', '.join(_FORMATS)}){'' if path.is_dir() else ': convert it'}.")
    with said_plainly(str(path)):
        source = _format_of(path).read(path)
    for plane in source.planes:
        if 0 in plane.shape:
            raise EngineError(f"{plane.name} has no pixels (its shape is {plane.shape}): remove it.")
        if plane.dtype.kind not in "buif":
            raise EngineError(f"{plane.name} holds values of type {plane.dtype}: save it as whole or real numbers.")
    if not source.planes:
        raise EngineError(f"{path} holds no images: remove it.")
    planes = [_placed(plane, path, number) for number, plane in enumerate(source.planes)]
    return replace(source, planes=tuple(planes))


def _placed(plane: LazyImage, path: Path, number: int) -> LazyImage:
    """A plane that another process can read from the file by itself, where that is better than a copy."""
    if not (plane.by_parts and is_large(plane.shape)):
        return plane
    return replace(plane, place={"file": str(Path(path).absolute()), "plane": number})


def write_masks(source: Source, folder: Path, masks: Sequence[np.ndarray]) -> Path:
    """Write the masks of all planes of a file, whole or not at all.

    Parameters
    ----------
    source
        The image file that the masks belong to.
    folder
        Where to; the name is `output_name`, and a file of that name is replaced in one step.
    masks
        One (H, W) uint8 mask of class ids for each plane, in order.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    EngineError
        When a mask does not fit its plane, or the file cannot be written.
    """
    path = Path(folder) / output_name(source.path)
    with replacing(path) as temporary:
        write_masks_to(temporary, source, masks)
    return path


def write_masks_to(path: Path, source: Source, masks: Sequence[np.ndarray], *, tiff: bool = False) -> None:
    """As `write_masks`, straight into a file of one's own choice; with `tiff`, pictures and OME-Zarr get TIFF."""
    for plane, mask in zip(source.planes, masks, strict=True):
        if mask.shape != plane.shape[:2] or mask.dtype != np.uint8:
            raise EngineError(f"The mask of {plane.name} is {mask.dtype} {mask.shape}, not uint8 {plane.shape[:2]}.")
    output = _output_of(source.path, tiff)
    output.write(path, source, masks if output.by_parts else [np.asarray(mask) for mask in masks])


def growing_masks(source: Source, store: Path) -> list[MaskPlane]:
    """Masks of a file that are written block by block.

    Parameters
    ----------
    source
        The image file that the masks belong to.
    store
        A folder for them until they are complete, made where it is not there; in the folder that `write_grown` is to
        write to, or below.

    Returns
    -------
    list of MaskPlane
        One for each plane, all 0 at first: ``mask[rows, columns] = block``.
    """
    kind = omezarr if _format_of(source.path) is ZARR else growing
    if not store.exists():
        kind.begin(store, source)
    return kind.planes(store, source)


def write_grown(source: Source, folder: Path, store: Path) -> Path:
    """As `write_masks`, from the store of masks that have grown. That of an OME-Zarr is moved, others stay."""
    if _format_of(source.path) is not ZARR:
        masks = growing.planes(store, source)
        growing.finish(masks)
        return write_masks(source, folder, masks)
    path = Path(folder) / output_name(source.path)
    omezarr.finish(store, source)
    with replacing(path) as temporary:
        os.replace(store, temporary)
    return path


def _output_of(path: Path, tiff: bool) -> Format:
    output = _format_of(path)
    return TIFF if tiff and output in (PICTURE, ZARR) else output


def _suffix_of(path: Path) -> str:
    """The longest suffix that is a format's, in lower case; else none."""
    name = path.name.lower()
    return max((suffix for suffix in _FORMATS if name.endswith(suffix)), key=len, default="")


def _format_of(path: Path) -> Format:
    """Of something that is an image: what has no suffix of the others is DICOM."""
    return _FORMATS.get(_suffix_of(path), dicom.DICOM)
