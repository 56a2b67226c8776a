"""Where strokes leave pixels open: neighbours that look alike belong to one class.

The pairwise energy of a conditional random field between near pixels, as a loss (Obukhov et al., "Gated CRF Loss for
Weakly Supervised Semantic Image Segmentation", 2019). It moves the borders of what grows from the strokes to where the
picture has edges. Not in the paper; only scribbles need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 5
"""How far neighbours are apart at most, down and across, at half resolution."""
_DISTANCE = 6.0  # scale of how far neighbours are apart, in the same pixels
_COLOUR = 0.1  # scale of how they differ, in units of the picture's range
NEIGHBOURS = tuple(n for n in product(range(REACH + 1), range(-REACH, REACH + 1)) if n > (0, 0))
"""Each pair of directions once: rows down, columns right."""


def likeness_loss(probabilities: Sequence[Tensor], image: Tensor) -> Tensor:
    """How often neighbours that look alike are given different classes.

    Parameters
    ----------
    probabilities
        (B, K, H, W) of each branch.
    image
        (B, 3, H, W) in [0, 1].

    Returns
    -------
    Tensor
        A scalar, the sum over the branches, each in [0, 1]: the chance that a pixel and one of its neighbours get
        different classes, weighed by how near and how alike they are.
    """
    image, *halved = (F.avg_pool2d(values, 2) for values in (image, *probabilities))
    total = image.new_zeros(())
    for down, right in NEIGHBOURS:
        pixel, beside = _pair(image, down, right)
        far = (down**2 + right**2) / (2 * _DISTANCE**2)
        alike = torch.exp(-(pixel - beside).square().sum(1) / (2 * _COLOUR**2) - far)
        for probability in halved:
            p, other = _pair(probability, down, right)
            total = total + (alike * (1 - (p * other).sum(1))).mean()
    return total / len(NEIGHBOURS)


def _pair(values: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """Views of all pixels that have such a neighbour, and of those neighbours."""
    height, width = values.shape[-2:]
    here = values[..., : height - down, max(0, -right) : width - max(0, right)]
    there = values[..., down:, max(0, right) : width + min(0, right)]
    return here, there
