"""Strokes go on in the picture: what random walks surely take to the strokes of one class is taken to be of it.

Walks begin at each unpainted pixel and seldom cross an edge; the class whose strokes most of them reach first is the
pixel's (Grady, "Random Walks for Image Segmentation", 2006; scikit-image). They know nothing of objects that nobody
painted, and lose thin tissue between thick. So they are believed only where a network that has learnt from the strokes
alone finds most of each class where they do. Not in the paper; only scribbles need it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader

SIDE = 128
"""Pixels along the longer side of the pictures that are walked in: a tenth of a second each."""
ASKED = 8
"""Images at most that a network is asked about."""
_SURE = 0.8  # share of the walks from a pixel that must reach one class
_EDGES = 2500.0  # how seldom edges are crossed; see `skimage.segmentation.random_walker`
_AGREED = 0.8  # of what the network takes to a class, at least: hippocampus .89, skin .82, glands .76, others less
_MOST = 64  # images whose strokes are spread


def spread_strokes(planes: Sequence[Plane], reader: PlaneReader, table: ClassTable) -> tuple[Plane, ...]:
    """Planes whose strokes have been spread; what was painted stays as it is.

    Parameters
    ----------
    planes
        All planes of a request, some with strokes.
    reader
        Reads them.
    table
        Their classes; 0 in a mask means that nobody painted there.
    """
    painted = [i for i, plane in enumerate(planes) if plane.mask is not None]
    spread = list(planes)
    for i in painted[:: -(-len(painted) // _MOST) or 1]:
        mask = np.asarray(planes[i].mask)
        spread[i] = replace(planes[i], mask=_enlarged(walk(*_small(i, planes[i], reader, table)), mask, table))
    return tuple(spread)


def walk(picture: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Where strokes surely go on.

    Parameters
    ----------
    picture
        (h, w, 3) in [0, 1].
    strokes
        (h, w) class indices, -1 where nobody painted.

    Returns
    -------
    ndarray
        (h, w) class indices, -1 where no class is sure.
    """
    from skimage.segmentation import random_walker

    classes = np.unique(strokes[strokes >= 0])
    if len(classes) < 2 or (strokes >= 0).all() or not picture.std():
        return strokes
    seeds = np.where(strokes < 0, 0, np.searchsorted(classes, strokes) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of quicker solvers that are not installed
        shares = random_walker(picture, seeds, _EDGES, mode="cg_j", return_full_prob=True, channel_axis=-1)
    spread = np.where(shares.max(0) > _SURE, classes[shares.argmax(0)], -1)
    return np.where(strokes >= 0, strokes, spread)


def agree(examples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], class_ids: Sequence[int]) -> bool:
    """Whether what was spread can be believed.

    Parameters
    ----------
    examples
        (H, W) class ids of images: painted, spread, and what a network finds.
    class_ids
        All classes.
    """
    found = dict.fromkeys(class_ids, 0)
    same = dict.fromkeys(class_ids, 0)
    for painted, spread, network in examples:
        new = (spread > 0) & (painted == 0)
        for class_id in class_ids:
            there = network[new] == class_id
            found[class_id] += np.count_nonzero(there)
            same[class_id] += np.count_nonzero(there & (spread[new] == class_id))
    return any(found.values()) and all(same[class_id] >= _AGREED * found[class_id] for class_id in class_ids)


def _small(index: int, plane: Plane, reader: PlaneReader, table: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """A small picture of a plane, and its strokes on that: -1 also where those of two classes meet."""
    picture = reader.whole(index, min(1.0, SIDE / max(plane.size)))
    mask = torch.from_numpy(np.array(plane.mask, np.uint8))
    painted = torch.stack([mask == class_id for class_id in table.ids]).float()
    there = F.adaptive_max_pool2d(painted, picture.shape[-2:]) > 0
    strokes = torch.where(there.sum(0) == 1, there.int().argmax(0), -1)
    return picture.permute(1, 2, 0).numpy(), strokes.numpy()


def _enlarged(spread: np.ndarray, mask: np.ndarray, table: ClassTable) -> np.ndarray:
    """(H, W) class ids of what was spread, under what was painted."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(mask.shape, spread.shape, strict=True))
    ids = np.where(spread < 0, 0, table.to_ids(np.maximum(spread, 0))).astype(mask.dtype)
    return np.where(mask > 0, mask, ids[np.ix_(rows, columns)])
