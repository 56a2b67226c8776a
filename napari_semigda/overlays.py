"""Masks to look at: the image with the classes in their colours and an outline round each."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np

from napari_semigda.colours import class_hex, rgb
from napari_semigda.engine.normalise import to_picture

OPACITY = 0.35  # of a class's colour inside its outline: what is underneath stays to be judged
_SHOWN = (0.5, 99.5)  # percentiles of an image that become black and white


def overlay(image: np.ndarray, mask: np.ndarray, colours: Mapping[int, str] | None = None) -> np.ndarray:
    """A picture of an image and its mask.

    Parameters
    ----------
    image
        (H, W) or (H, W, C), of any real type; finite. Transparency is left out. 8-bit colours are shown as they are,
        anything else is stretched from dark to bright, each of up to three channels by itself.
    mask
        (H, W) uint8 class ids; 0 is left as it is.
    colours
        ``"#rrggbb"`` by class id; the others have those that classes get by themselves.

    Returns
    -------
    ndarray
        (H, W, 3) uint8.
    """
    from skimage.segmentation import find_boundaries

    shown = _displayed(image)
    known = colours or {}
    table = np.array([rgb(known.get(number, class_hex(number))) for number in range(256)]) / 255
    inside, outline = mask > 0, find_boundaries(mask, mode="inner")
    shown[inside] += OPACITY * (table[mask[inside]] - shown[inside])
    shown[outline] = table[mask[outline]]
    return np.round(shown * 255).astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    """A (H, W, 3) uint8 picture as the content of a PNG file."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def _displayed(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float in [0, 1]."""
    if image.ndim == 3 and image.shape[2] > 1:
        return to_picture(image) / 255
    if image.ndim == 3 and image.dtype == np.uint8:
        return np.broadcast_to(image / 255, (*image.shape[:2], 3)).copy()
    values = image.astype(np.float64)
    low, high = np.percentile(values, _SHOWN)
    if low == high:  # a few bright specks on a ground of one value
        low, high = values.min(), values.max()
    values = ((values - low) / ((high - low) or 1)).clip(0, 1)
    grey = values[..., None] if values.ndim == 2 else values
    return np.broadcast_to(grey, (*grey.shape[:2], 3)).copy()
