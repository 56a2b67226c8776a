"""Whether the brightness of a picture means something: then painted pictures must keep it.

Stained tissue, skin and scans without a scale look brighter or duller from picture to picture, and a network should not
care. Grey matter in one brain is always as grey, and a slice with little of it is darker as a whole: there the same
indifference takes away what tells the classes apart (brain slices lost 6 Dice points by it).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST_SPREAD = 0.02
"""Of a picture with grey values in [0, 1]; below it a picture is flat, and stretching it would show noise."""


def looks_vary(pictures: Sequence[Tensor], targets: Sequence[Tensor]) -> bool:
    """Whether classes look more alike from picture to picture once each picture's mean and spread are taken out.

    Parameters
    ----------
    pictures
        (3, h, w) in [0, 1], of painted images.
    targets
        (h, w) int64 class indices of each; -1 where nobody painted.

    Returns
    -------
    bool
        False as well when there are fewer than two pictures to compare.
    """
    if len(pictures) < 2:
        return False
    classes = sorted({int(c) for target in targets for c in target.unique()} - {-1})
    as_it_is, taken_out = [], []
    for picture, target in zip(pictures, targets, strict=True):
        means = torch.stack([picture[:, target == c].mean(1) for c in classes])  # (classes, 3), nan where there is none
        as_it_is.append(means)
        spread = picture.std((1, 2)).clamp_min(LEAST_SPREAD)
        taken_out.append((means - picture.mean((1, 2))) / spread)
    return _confusion(torch.stack(taken_out)) < _confusion(torch.stack(as_it_is))


def _confusion(means: Tensor) -> float:
    """(pictures, classes, 3) -> how much a class varies over the pictures, in units of how far classes are apart."""
    within = (means - means.nanmean(0)).square().nanmean()
    centres = means.nanmean(0)
    between = (centres - centres.mean(0)).square().mean()
    return float(within / between.clamp_min(1e-9))
