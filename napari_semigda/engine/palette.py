"""Class ids <-> colours <-> scores: how a mask becomes a picture that an autoencoder can see, and back.

The paper paints background black and lesion white, and reads the decoded picture's channel mean. Here every class
has a colour of its own; a class's score is a softmax over negative squared distances to those colours, which for
black and white *is* the published form (see `scores`).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_semigda.engine.types import MAX_CLASSES, EngineError

MAX_COLOURS = MAX_CLASSES + 1
"""Classes a user can paint, and background."""

CONFIDENCE = 6.0
"""Logit between a class and its nearest rival where the decoded colour is exactly the class's own (p = 0.9975)."""


def palette(count: int) -> Tensor:
    """Colours of `count` classes; a longer palette begins with the shorter one, so adding a class recolours none.

    Black, white, the other corners of the colour cube, then the point of a lattice that is farthest from those taken.

    Parameters
    ----------
    count : int
        2 to 33, background included.

    Returns
    -------
    Tensor
        (count, 3) float32 in [-1, 1].

    Raises
    ------
    EngineError
        If `count` is outside 2..33.
    """
    if not 2 <= count <= MAX_COLOURS:
        raise EngineError(
            f"{count} classes (background included) cannot be told apart by colour; use 2 to {MAX_COLOURS}."
        )
    return _COLOURS[:count].clone()


def sharpness(count: int) -> float:
    """Tau of `scores`: `CONFIDENCE` over the squared distance of the two closest colours (0.5 for two classes)."""
    return CONFIDENCE / _CLOSEST_SQUARED[count]


def paint(mask: Tensor, count: int) -> Tensor:
    """Paint class indices with their colours.

    Parameters
    ----------
    mask : Tensor
        (B, H, W) int64 in 0..count-1.
    count : int
        Number of classes, background included.

    Returns
    -------
    Tensor
        (B, 3, H, W) float32 in [-1, 1].
    """
    if mask.ndim != 3:
        raise ValueError(f"a mask batch is (B, H, W), got {tuple(mask.shape)}")
    return F.embedding(mask.long(), palette(count).to(mask.device)).permute(0, 3, 1, 2).contiguous()


def scores(decoded: Tensor, count: int) -> Tensor:
    """Log-probability of every class from decoded colours: log-softmax of -tau x squared distance to the palette.

    With black and white this is ``sigmoid(12 tau m)`` of the channel mean m, so foreground wins exactly where the
    published ``clamp((m + 1) / 2, 0, 1) >= 0.5`` says so (on an exact tie, argmax says background); unlike the clamp it
    has a gradient everywhere.

    Parameters
    ----------
    decoded : Tensor
        (B, 3, H, W) float of any precision, roughly in [-1, 1].
    count : int
        Number of classes, background included.

    Returns
    -------
    Tensor
        (B, count, H, W) float32 log-probabilities.
    """
    if decoded.ndim != 4 or decoded.shape[1] != 3:
        raise ValueError(f"decoded colours are (B, 3, H, W), got {tuple(decoded.shape)}")
    tau = sharpness(count)
    decoded = decoded.float()  # mixed precision ends here: its steps near p = 1 are wider than what pseudo-masks ask
    if count == 2:
        # Rounded as the published form rounds it, so that the two agree on every pixel.
        foreground = 12 * tau * (2 * ((decoded.mean(1) + 1) / 2) - 1)
        return torch.stack((F.logsigmoid(-foreground), F.logsigmoid(foreground)), 1)  # (B, 2, H, W)
    colours = palette(count).type_as(decoded)  # and not `to`: a traced graph would remember this computer's device
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, and |x|^2 is common to all classes: a softmax does not see it.
    with torch.autocast(decoded.device.type, enabled=False):
        logits = 2 * tau * colours @ decoded.flatten(2) - tau * colours.square().sum(1)[:, None]  # (B, K, H W)
    return F.log_softmax(logits, 1).unflatten(2, decoded.shape[2:])


def _arrange_colours() -> np.ndarray:
    """All colours in order, (33, 3) float32: cube corners, then the points of ever finer lattices, farthest first."""
    corners = [(-1, -1, -1), (1, 1, 1), (1, -1, -1), (-1, 1, 1), (-1, 1, -1), (1, -1, 1), (-1, -1, 1), (1, 1, -1)]
    chosen = np.array(corners, np.float32)
    # Whole lattices keep their spacing to the last point (1 up to 27 colours, then 0.87); free choice ends at 0.7.
    for levels, last in (((-1, 0, 1), 27), ((-0.5, 0.5), MAX_COLOURS)):
        lattice = np.array(list(product(levels, repeat=3)), np.float32)
        while len(chosen) < last:
            squared = np.square(lattice[:, None] - chosen[None]).sum(-1)  # (lattice, chosen)
            best = np.lexsort((squared.sum(1), squared.min(1)))[-1]
            chosen = np.concatenate((chosen, lattice[best : best + 1]))
    return chosen


# Made once at import, which takes milliseconds: torch.compile cannot look into what makes them.
_COLOURS = torch.tensor(_arrange_colours())
_CLOSEST_SQUARED = {count: float(torch.pdist(_COLOURS[:count]).min() ** 2) for count in range(2, MAX_COLOURS + 1)}
