"""Scribbles as a person would paint them, made from a full mask.

Strokes follow the middle of what they mark (its skeleton), begin at random and stay inside; every class gets some,
background included. They are laid with a round brush until the share of the picture is used up. People also slip over
edges, which these strokes never do.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import label
from skimage.morphology import skeletonize

NOT_ANNOTATED = 0
LENGTH = 1 / 6  # of a stroke, in sides of the picture
BRUSH = 1 / 100  # its radius; at least 1.5 pixels


def scribble(mask: np.ndarray, share: float, background: int, rng: np.random.Generator) -> np.ndarray:
    """Paint strokes on a part of the pixels.

    Parameters
    ----------
    mask
        (H, W) class ids, 0 is background.
    share
        Part of all pixels to be painted, 0..1; each class gets it in proportion to the root of its area, so that small
        ones are not passed over, and never more than it has.
    background
        Id for strokes on the background: 0 means "not annotated" in scribbles.
    rng
        Where strokes begin.

    Returns
    -------
    np.ndarray
        (H, W) uint8, 0 where nothing is painted; at most `share` of the pixels are.
    """
    painted = np.zeros(mask.shape, np.uint8)
    ids, areas = np.unique(mask, return_counts=True)
    budgets = share * mask.size * np.sqrt(areas) / np.sqrt(areas).sum()
    for class_id, budget in zip(ids, budgets, strict=True):
        strokes = _strokes(mask == class_id, int(budget), rng)
        painted[strokes] = background if class_id == 0 else class_id
    return painted


def _strokes(region: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: at most `budget` pixels of the region, in strokes along its skeleton."""
    side = min(region.shape)
    # The border of the picture is an end of the region too, else background strokes would run along it.
    middle = skeletonize(np.pad(region, 1))[1:-1, 1:-1]
    middle = middle if middle.any() else region
    painted = np.zeros(region.shape, bool)
    left = budget
    for row, column in rng.permutation(np.argwhere(middle)):
        reach = round(LENGTH * side / 2)
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        pieces = label(middle[rows, columns], connectivity=2)
        piece = pieces == pieces[row - rows.start, column - columns.start]
        stroke = (distance_transform_edt(~piece) < max(1.5, BRUSH * side)) & region[rows, columns]
        pixels = np.argwhere(stroke & ~painted[rows, columns]) + np.array([rows.start, columns.start])
        if len(pixels) > left:  # lifted early: what lies nearest to its start stays
            pixels = pixels[np.argsort(np.square(pixels - (row, column)).sum(1))[:left]]
        painted[tuple(pixels.T)] = True
        left -= len(pixels)
        if left <= 0:
            break
    return painted
