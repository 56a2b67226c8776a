"""One file <-> its planes: what is read as an image, and how masks are written back beside it.

================== ========================== =====================================================
suffix             planes                     masks are written as
================== ========================== =====================================================
.png .jpg .jpeg    one                        STEM.png
.tif .tiff         one a page                 STEM.tif, the same pages, resolution tags kept
.nii .nii.gz       one a slice (last axis)    STEM.nii.gz, affine, header spacing and shape kept
================== ========================== =====================================================

Rows and columns stay as they are stored: of a NIfTI slice, rows are the first axis. To add a format, write its `Format`
(a module each) and name its suffixes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.nifti import NIFTI
from napari_semigda.formats.picture import PICTURE
from napari_semigda.formats.source import Format, LazyImage, Source, replacing, said_plainly
from napari_semigda.formats.tiff import TIFF, float_pages

__all__ = [
    "LazyImage",
    "Source",
    "float_pages",
    "is_image",
    "open_source",
    "output_name",
    "stem_of",
    "write_masks",
    "write_masks_to",
]

_FORMATS = {
    ".png": PICTURE,
    ".jpg": PICTURE,
    ".jpeg": PICTURE,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
}


def is_image(path: Path) -> bool:
    """Whether the name says that the file is an image we read; hidden files are not."""
    return not path.name.startswith(".") and _suffix_of(path) in _FORMATS


def stem_of(path: Path) -> str:
    """The name without suffix: ``x`` for ``x.png`` and for ``x.nii.gz``."""
    return path.name[: len(path.name) - len(_suffix_of(path))]


def output_name(path: Path, *, tiff: bool = False) -> str:
    """Name of the file that the masks of an image file go to; with `tiff`, pictures get TIFF instead of PNG."""
    return stem_of(path) + _output_of(path, tiff).output


def open_source(path: Path) -> Source:
    """Look into an image file without reading its pixels.

    Raises
    ------
    EngineError
        When the file is missing, empty, damaged, or of a kind that is not read; the sentence names it.
    """
    path = Path(path)
    if not path.is_file():
        raise EngineError(f"{path} is not there: check the name.")
    if path.stat().st_size == 0:
        raise EngineError(f"{path} is empty (zero bytes): copy it again, or remove it.")
    with said_plainly(str(path)):
        return _format_of(path).read(path)


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
    """As `write_masks`, straight into a file of one's own choice; with `tiff`, pictures get TIFF instead of PNG."""
    for plane, mask in zip(source.planes, masks, strict=True):
        if mask.shape != plane.shape[:2] or mask.dtype != np.uint8:
            raise EngineError(f"The mask of {plane.name} is {mask.dtype} {mask.shape}, not uint8 {plane.shape[:2]}.")
    _output_of(source.path, tiff).write(path, source, masks)


def _output_of(path: Path, tiff: bool) -> Format:
    output = _format_of(path)
    return TIFF if tiff and output is PICTURE else output


def _suffix_of(path: Path) -> str:
    """The longest suffix that is a format's, in lower case; else the last one."""
    name = path.name.lower()
    return max((suffix for suffix in _FORMATS if name.endswith(suffix)), key=len, default=path.suffix)


def _format_of(path: Path) -> Format:
    try:
        return _FORMATS[_suffix_of(path)]
    except KeyError:
        raise EngineError(f"{path} is no image that can be read ({', '.join(_FORMATS)}): convert it.") from None
