"""From the numbers stored in a DICOM file to values: Hounsfield units, brightness, red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Values(NamedTuple):
    """What is done to the stored numbers of a frame."""

    dtype: np.dtype
    """Of the result."""
    slope: float = 1.0
    intercept: float = 0.0
    inverted: float | None = None
    """Darkest plus brightest value where the least number is shown white (MONOCHROME1), so that bright means much."""
    head: Any = None
    """For tables: those of a palette, or in place of slope and intercept."""
    colour: bool = False
    """Whether the result has red, green and blue."""

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """(H, W) or (H, W, 3) as stored, colours as RGB already -> the same as `dtype`."""
        if self.colour and self.head is not None:
            return _palette(stored, self.head)
        if self.head is not None:
            from pydicom.pixels import apply_modality_lut

            stored = apply_modality_lut(stored, self.head)
        if (self.slope, self.intercept) != (1.0, 0.0):
            stored = stored * np.float64(self.slope) + self.intercept
        if self.inverted is not None:
            stored = self.inverted - stored.astype(np.float64)
        return stored.astype(self.dtype, copy=False)


def values_of(head: Any, groups: Sequence[Any]) -> Values:
    """Tell from a header what its numbers mean.

    Parameters
    ----------
    head
        The tags of a file.
    groups
        What a file of many frames says of this frame, and of all, in this order.
    """
    interpretation = str(head.get("PhotometricInterpretation", "MONOCHROME2"))
    if interpretation == "PALETTE COLOR":
        return Values(np.dtype(np.uint8), head=head, colour=True)
    bits, signed = int(head.get("BitsStored", 8)), bool(head.get("PixelRepresentation", 0))
    if int(head.get("SamplesPerPixel", 1)) > 1:
        return Values(np.dtype(np.uint8 if bits <= 8 else np.uint16), colour=True)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    table = head.get("ModalityLUTSequence")
    slope, intercept = 1.0, 0.0
    if table:
        low, high = 0, 2 ** int(table[0].LUTDescriptor[2]) - 1
    else:
        told = _told(head, groups, "PixelValueTransformationSequence", "RescaleSlope")
        if told is not None:
            slope, intercept = float(told.RescaleSlope or 1), float(told.get("RescaleIntercept") or 0)
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    inverted = low + high if interpretation == "MONOCHROME1" else None
    whole = slope.is_integer() and intercept.is_integer()
    return Values(
        _holding(low, high) if whole else np.dtype(np.float32), slope, intercept, inverted, head if table else None
    )


def window_of(head: Any, groups: Sequence[Any]) -> tuple[float, float] | None:
    """The values to show as black and white that a header recommends, where that is said without a curve.

    It is for looking only. Pixels keep all their values, because windows differ between the slices of a scan, hide what
    another class may need, and measured intensities must be those of the scanner.
    """
    if str(head.get("VOILUTFunction", "LINEAR")) == "SIGMOID" or head.get("PhotometricInterpretation") == "MONOCHROME1":
        return None
    told = _told(head, groups, "FrameVOILUTSequence", "WindowWidth")
    if told is None or not told.get("WindowCenter"):
        return None
    centre, width = (float(np.atleast_1d(told.get(tag))[0]) for tag in ("WindowCenter", "WindowWidth"))
    return (centre - width / 2, centre + width / 2) if width >= 1 and np.isfinite(centre + width) else None


def _holding(low: float, high: float) -> np.dtype:
    """The smallest type for whole numbers of a range."""
    kinds = (np.iinfo(name) for name in ("uint8", "uint16", "int16", "int32", "uint32", "int64"))
    return next((kind.dtype for kind in kinds if kind.min <= low and high <= kind.max), np.dtype(np.float64))


def _told(head: Any, groups: Sequence[Any], sequence: str, tag: str) -> Any | None:
    """The header, or the part of it that speaks of a frame, that has a tag with a value."""
    for part in (*(group[sequence].value[0] for group in groups if group.get(sequence)), head):
        if part.get(tag) is not None and part.get(tag) != "":
            return part
    return None


def _palette(stored: np.ndarray, head: Any) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(stored, head)[..., :3]
    bits = int(head.RedPaletteColorLookupTableDescriptor[2])
    return (colours >> (bits - 8)).astype(np.uint8) if bits > 8 else colours.astype(np.uint8)
