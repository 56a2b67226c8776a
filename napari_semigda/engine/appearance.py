"""What painted classes look like from picture to picture, in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.types import Plane

if TYPE_CHECKING:
    from napari_semigda.engine.view import PlaneReader

LEAST_SPREAD = 0.02
"""Of a picture with grey values in [0, 1]; below it a picture is flat, and stretching it would show noise."""


def glimpses(
    planes: Sequence[Plane], reader: PlaneReader, table: ClassTable, chosen: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Small pictures of painted planes, (3, h, w) in [0, 1], and their class indices (h, w), -1 where unpainted."""
    pictures = [reader.glimpse(index) for index in chosen]
    masks = [np.asarray(planes[index].mask) for index in chosen]
    return pictures, [table.target(mask, picture.shape[1:]) for mask, picture in zip(masks, pictures, strict=True)]


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
        True as well when there are fewer than two pictures to compare: most kinds of images vary, and one picture
        alone teaches its own colours.
    """
    if len(pictures) < 2:
        return True
    as_it_is = class_means(pictures, targets)
    mean = torch.stack([picture.mean((1, 2)) for picture in pictures])[:, None]  # (pictures, 1, 3)
    deviation = torch.stack([picture.std((1, 2)).clamp_min(LEAST_SPREAD) for picture in pictures])[:, None]
    return confusion((as_it_is - mean) / deviation) < confusion(as_it_is)


def class_means(pictures: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean colour of every class in every picture, (pictures, classes, 3), nan where a class is not in a picture."""
    classes = sorted({int(c) for target in targets for c in target.unique()} - {-1})
    means = [
        torch.stack([picture[:, target == c].mean(1) for c in classes])
        for picture, target in zip(pictures, targets, strict=True)
    ]
    return torch.stack(means)


def confusion(means: Tensor) -> float:
    """(pictures, classes, 3) -> how much a class varies over the pictures, in units of how far classes are apart."""
    within = (means - means.nanmean(0)).square().nanmean()
    centres = means.nanmean(0)
    between = (centres - centres.mean(0)).square().mean()
    return float(within / between.clamp_min(1e-9))
