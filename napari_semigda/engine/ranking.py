"""Which image to correct next: whose mask is most in doubt, and not ten images alike.

An image's doubt is an estimate of ``1 - Dice`` between its mask and the truth. A mean over all pixels would
rank images by how much foreground they hold, because background is most of an image and hardly ever in doubt; a ratio
to the size of the structures is comparable between large and small ones, and is the figure that masks are judged by.

Suggestions are picked greedily: doubt x novelty, where novelty is the distance to the nearest image that is painted,
skipped or picked already, and counts as full from the typical distance between two images on. So an oddity at the far
end of the set is not preferred to an ordinary new image, and a neighbouring slice of a painted one comes late however
doubtful it is.

numpy and scipy only: the viewer uses this too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist, pdist

NOISE = 0.2
"""Doubt below this is everywhere and means nothing: one class has at least .8 more of the probability than the next."""
_LEAST_AREA = 2e-3  # of an image: specks of doubt and of mask smaller than this hardly count
_CELLS = 8  # a description looks at an image as 8 x 8 cells
_BINS = 8
_SAMPLE = 256  # images that the typical distance is taken from
_LOOK_AT = 512  # pixels a side that regions are looked for in


def doubt_score(doubt: np.ndarray, mask: np.ndarray) -> float:
    """How wrong the mask of one image may be.

    A pixel with doubt d is wrong with probability d / 2, if the network is as right as it thinks; it is wrong about
    twice as often (`benchmarks/doubt.py`), so d is what is counted.

    Parameters
    ----------
    doubt
        (H, W) in [0, 1], see `consensus.doubt_of`.
    mask
        (H, W) predicted class ids. 0 is background; where there is none (scribbles), the most frequent class is.

    Returns
    -------
    float
        0 where nothing is in doubt, towards 1 where all of the mask is.
    """
    doubt = np.asarray(doubt, np.float32)
    wrong = float(doubt[doubt > NOISE].sum())
    counts = np.bincount(np.ravel(mask))
    structures = int(counts.sum() - (counts[0] or counts.max()))
    # Dice compares with the sum of both masks: about twice this one, and never less than what they differ by.
    both = max(2.0 * structures, wrong)
    return wrong / (both + _LEAST_AREA * doubt.size)


def describe(picture: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """What an image and its masks look like, in a few numbers whose distance says how alike two images are.

    Parameters
    ----------
    picture
        (C, H, W) in [0, 1].
    foreground
        (H, W) in [0, 1]: probability of anything but background.

    Returns
    -------
    ndarray
        (64 + 8 C + 64,) float32: the picture in 8 x 8 cells, how often which brightness occurs in each channel, and
        the foreground in 8 x 8 cells. Each part weighs about the same.
    """
    picture = np.asarray(picture, np.float32)
    counts = [np.histogram(channel, _BINS, (0, 1))[0] / channel.size for channel in picture]
    parts = (_cells(picture.mean(0)) / _CELLS, np.concatenate(counts) / np.sqrt(len(picture)))
    return np.concatenate([*parts, _cells(np.asarray(foreground, np.float32)) / _CELLS]).astype(np.float32)


def _cells(values: np.ndarray) -> np.ndarray:
    """Means over an 8 x 8 grid, (64,)."""
    rows, columns = (np.linspace(0, side, _CELLS + 1).astype(int) for side in values.shape)
    bands = zip(rows[:-1], np.maximum(rows[1:], rows[:-1] + 1), strict=True)
    spans = list(zip(columns[:-1], np.maximum(columns[1:], columns[:-1] + 1), strict=True))
    return np.array([values[top:bottom, left:right].mean() for top, bottom in bands for left, right in spans])


def suggest(
    doubts: Mapping[int, float], descriptions: Mapping[int, np.ndarray], known: Iterable[int], most: int = 30
) -> list[int]:
    """Order images by how much correcting them promises.

    Parameters
    ----------
    doubts
        `doubt_score` of each image that may be suggested, by its number.
    descriptions
        `describe` of these and of the known ones; an image without one counts as new.
    known
        Images that need no look-alike: painted or skipped ones.
    most
        So many are picked one after the other; the rest is put in order at the end, without regard to each other.

    Returns
    -------
    list of int
        All numbers of `doubts`, best first; equal ones in ascending order.
    """
    numbers = sorted(doubts)
    typical = _typical_distance(descriptions)
    length = len(next(iter(descriptions.values()), [0]))
    nothing = np.full(length, np.nan)  # a distance to it is nan, which fmin passes over
    points = np.array([descriptions.get(i, nothing) for i in numbers], float).reshape(len(numbers), length)
    seen = np.array([descriptions[i] for i in known if i in descriptions]).reshape(-1, length)
    novelty = np.ones(len(numbers))
    if len(seen):
        novelty = np.fmin(novelty, cdist(points, seen).min(1) / typical)
    doubt = np.array([doubts[i] for i in numbers])
    picked: list[int] = []
    left = np.ones(len(numbers), bool)
    while left.any() and len(picked) < most:
        best = int(np.argmax(np.where(left, doubt * novelty, -1)))  # the first of equal ones
        picked.append(best)
        left[best] = False
        novelty = np.fmin(novelty, cdist(points, points[[best]])[:, 0] / typical)
    rest = np.flatnonzero(left)
    order = [*picked, *rest[np.argsort(-(doubt * novelty)[rest], kind="stable")]]
    return [numbers[at] for at in order]


def _typical_distance(descriptions: Mapping[int, np.ndarray]) -> float:
    """Median distance between two of the images; 1 when there is none, so that nothing is divided by zero."""
    some = list(descriptions.values())[:: max(1, len(descriptions) // _SAMPLE)]
    typical = float(np.median(pdist(np.stack(some)))) if len(some) > 1 else 0.0
    return typical or 1.0


@dataclass(frozen=True)
class Region:
    """A place that is in doubt."""

    row: int
    column: int
    """The pixel most in doubt, which lies in the region whatever its shape."""
    weight: float
    """Doubt summed over the region, in pixels."""


def doubtful_regions(doubt: np.ndarray, most: int = 4) -> tuple[Region, ...]:
    """The places of an image that are worth looking at, most doubtful first.

    Parameters
    ----------
    doubt
        (H, W) in [0, 1].
    most
        How many at most.

    Returns
    -------
    tuple of Region
        Those that hold at least a tenth of the doubt of the first; none where all is well.
    """
    step = max(1, -(-max(doubt.shape) // _LOOK_AT))
    coarse = np.asarray(doubt[::step, ::step], np.float32)
    smooth = ndimage.gaussian_filter(coarse, max(1.0, max(coarse.shape) / 100))
    labels, count = ndimage.label(smooth > max(NOISE / 2, smooth.max(initial=0) / 2))
    if not count:
        return ()
    numbers = range(1, count + 1)
    weights = ndimage.sum_labels(coarse, labels, numbers) * step**2
    peaks = ndimage.maximum_position(smooth, labels, numbers)
    found = [
        Region(int(row) * step, int(column) * step, float(weight))
        for (row, column), weight in zip(peaks, weights, strict=True)
    ]
    found.sort(key=lambda region: -region.weight)
    return tuple(region for region in found[:most] if region.weight >= found[0].weight / 10)
