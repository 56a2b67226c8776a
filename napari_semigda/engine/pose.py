"""In which poses images may be shown: tissue has no up and down, a hippocampus has.

Flips and quarter turns multiply a few painted images by eight, and averaging over turned copies betters a mask. Where
every picture is taken in one pose and the classes differ by where they are, the same flips teach that places mean
nothing: front and back become one class. So it is read from the images whether a pose is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_semigda.engine.normalise import spread

ALL_POSES = tuple(range(8))
"""The symmetries of a square. Bit 0 mirrors the columns, bit 1 the rows, bit 2 swaps both axes before that."""

_SIDE = 16  # thumbnails as small as this hold a pose and no detail
_MASKS_DIFFER = 0.2  # least fall of the masks' likeness that shows a pose: hippocampi .45, in strokes .23, others .16
_IMAGES_DIFFER = 0.1  # ... of the images' likeness, where several classes may differ by their place alone
_ONE_CLASS_DIFFERS = 0.5  # ... where there is but one class, or no second mask to compare: turning does less harm


def posed(values: Tensor, pose: int) -> Tensor:
    """Values (..., H, W) in another pose; H = W where the pose swaps the axes."""
    if pose & 4:
        values = values.mT
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if pose & bit]
    return values.flip(axes) if axes else values


def averaging_pose(poses: Sequence[int]) -> int:
    """The second pose that predictions are averaged over: turned half round, or mirrored; 0 where only one is legal."""
    return next((pose for pose in (3, 1, 2) if pose in poses), 0)


def legal_poses(images: Sequence[Tensor], masks: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Poses that images of this kind may be shown in.

    A pose is ruled out when painted masks lie upon each other much better as they are than when one of them is turned,
    and so do the images. With fewer than two masks the images decide alone.

    Parameters
    ----------
    images
        (3, h, w) pictures in [0, 1], of any sizes, with and without masks; some dozens are enough (`spread`).
    masks
        (H, W) class ids of painted images; of scribbles too, which are where the classes are.

    Returns
    -------
    tuple of int
        Some of `ALL_POSES`, 0 (as it is) among them.
    """
    pictures = [thumbnail(image.mean(0, keepdim=True)) for image in images]
    classes = sorted({int(c) for mask in masks for c in np.unique(mask)} - {0})
    painted = [thumbnail(torch.from_numpy(np.stack([mask == c for c in classes])).float()) for mask in spread(masks)]
    least = _IMAGES_DIFFER if len(classes) > 1 and len(painted) > 1 else _ONE_CLASS_DIFFERS
    fall_of_images, fall_of_masks = _fall(pictures), _fall(painted)
    if fall_of_images is None:
        return ALL_POSES
    return tuple(
        p
        for p in ALL_POSES
        if fall_of_images(p) < least or (fall_of_masks is not None and fall_of_masks(p) < _MASKS_DIFFER)
    )


def thumbnail(values: Tensor) -> Tensor:
    """(C, H, W) -> (C, 16, 16) of zero mean and unit length, so that a product of two is their correlation."""
    small = F.interpolate(values[None], size=(_SIDE, _SIDE), mode="area")[0]
    small = small - small.mean((1, 2), keepdim=True)
    return small / small.norm().clamp_min(1e-6)


def _fall(thumbnails: Sequence[Tensor]) -> Callable[[int], float] | None:
    """Pose -> how much less alike two different images are when one of them is in that pose; None below two images."""
    if len(thumbnails) < 2:
        return None
    stack = torch.stack(list(thumbnails))  # (N, C, 16, 16)
    pairs = ~torch.eye(len(stack), dtype=torch.bool)

    def likeness(pose: int) -> float:
        return float((stack.flatten(1) @ posed(stack, pose).flatten(1).T)[pairs].mean())

    as_they_are = likeness(0)
    return lambda pose: as_they_are - likeness(pose)
