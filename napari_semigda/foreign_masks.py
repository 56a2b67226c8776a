"""Masks as published sets and other programs save them: under names of their own, and even as JPEG."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np

from napari_semigda.engine.types import EngineError

_BLURRED = 32  # grey values by which black or white may be off in a JPEG ...
_BETWEEN = 0.02  # ... but for this share of the pixels, along borders


def by_image(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, Path]:
    """Masks by the stem of their image.

    Parameters
    ----------
    images, masks
        Files by stem.

    Returns
    -------
    dict
        The masks as they are where any has the stem of an image, or no one ending makes them fit images. Else, of
        ``a_mask`` and ``b_mask`` with images ``a`` and ``b``, under ``a`` and ``b``.
    """
    if images.keys() & masks.keys():
        return dict(masks)
    endings = {_ending(stem, images) for stem in masks} - {""}
    if len(endings) != 1:
        return dict(masks)
    (ending,) = endings
    return {stem.removesuffix(ending): path for stem, path in masks.items()}


def _ending(stem: str, images: Container[str]) -> str:
    """What a mask is called beyond the longest name of an image that it begins with; nothing where there is none."""
    places = (at for at in reversed(range(1, len(stem))) if not stem[at].isalnum() and stem[:at] in images)
    return stem[next(places, len(stem)) :]


def ids_of_jpeg(pixels: np.ndarray, path: Path) -> np.ndarray:
    """The class ids, 0 and 255, of a mask that was black and white before a JPEG blurred it.

    Parameters
    ----------
    pixels
        (H, W) or (H, W, 3) uint8.
    path
        What a message calls it.

    Returns
    -------
    ndarray
        (H, W) uint8.

    Raises
    ------
    EngineError
        When it holds anything but black and white: then nobody can tell what the ids were.
    """
    lowest, highest = (pixels, pixels) if pixels.ndim == 2 else (pixels.min(-1), pixels.max(-1))
    black, white = highest <= _BLURRED, lowest >= 255 - _BLURRED
    faint = not white.any() and highest.any()  # ids from 1 on, perhaps
    if faint or 1 - (black | white).mean() > _BETWEEN:
        raise EngineError(f"The mask {path} is a JPEG, which blurs class ids: save masks as PNG, TIFF or NIfTI.")
    return np.where(lowest >= 128, 255, 0).astype(np.uint8)
