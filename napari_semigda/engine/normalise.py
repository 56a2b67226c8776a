"""From any pixel type to what the networks see: three channels in [0, 1]."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

PERCENTILES = (0.5, 99.5)
_SAMPLE = 512  # pixels a side that the percentiles are read from: enough for a robust tail


class Contrast(NamedTuple):
    """The grey values that become 0 and 1, chosen a plane."""

    low: float
    high: float


def find_contrast(image: Any) -> Contrast:
    """Robust range of a plane: RGB bytes keep their own, everything else is stretched by percentiles.

    Parameters
    ----------
    image
        (H, W) or (H, W, C), any real dtype; read through a stride, so a huge array is not loaded.
    """
    colour = len(image.shape) == 3 and image.shape[2] >= 3
    if colour and np.dtype(image.dtype) == np.uint8:
        return Contrast(0.0, 255.0)
    steps = [max(1, n // _SAMPLE) for n in image.shape[:2]]
    sample = np.asarray(image[:: steps[0], :: steps[1]], dtype=np.float32)
    if colour:
        sample = sample[..., :3]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, PERCENTILES) if sample.size else (0.0, 1.0)
    if high <= low and sample.size:  # fewer than 0.5 % of the pixels differ, as on a nearly empty slice
        low, high = float(sample.min()), float(sample.max())
    return Contrast(float(low), float(high))


def to_unit(pixels: np.ndarray, contrast: Contrast) -> np.ndarray:
    """(h, w) or (h, w, C) pixels -> (3, h, w) float32 in [0, 1]; grey is repeated, an alpha channel dropped."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    span = contrast.high - contrast.low
    unit = (pixels[..., :3].astype(np.float32) - contrast.low) / (span if span > 0 else 1.0)
    unit = np.clip(unit, 0.0, 1.0)
    if unit.shape[2] != 3:
        unit = np.repeat(unit[..., :1], 3, axis=2)
    return np.ascontiguousarray(unit.transpose(2, 0, 1))
