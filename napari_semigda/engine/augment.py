"""Random variations of training crops, and what painted pictures borrow from unlabelled ones."""

from __future__ import annotations

from collections.abc import Sequence

import kornia.augmentation as K
import torch
from torch import Tensor

from napari_semigda.engine.appearance import LEAST_SPREAD
from napari_semigda.engine.pose import ALL_POSES, posed

FAITHFUL = 0.2  # of the usual change of brightness, where brightness tells the classes apart


class Augmentation:
    """Flips, quarter turns, small rotations and colour changes of a batch, masks alike (kornia).

    Scale is varied where crops are cut (`sampling`), from the image itself, so nothing is interpolated twice.

    Parameters
    ----------
    poses
        Flips and quarter turns that are legal for these images, see `pose`.
    brightness_tells
        The same brightness is the same thing in all images, see `appearance`: it is then varied by a fifth only.
    """

    def __init__(self, poses: Sequence[int] = ALL_POSES, brightness_tells: bool = False) -> None:
        self._poses = torch.tensor(list(poses))
        self._both = K.AugmentationSequential(
            K.RandomAffine(degrees=20.0, padding_mode="reflection", p=0.4),
            data_keys=["input", "mask", "mask"],
        )
        much = FAITHFUL if brightness_tells else 1.0
        self._picture = K.ImageSequential(
            K.ColorJiggle(brightness=0.15 * much, contrast=0.2 * much, saturation=0.15 * much, hue=0.02 * much, p=0.5),
            K.RandomGamma(gamma=(1 - 0.3 * much, 1 + 0.4 * much), p=0.3),
            K.RandomGaussianBlur((3, 3), (0.4, 1.0), p=0.1),
        )

    def __call__(self, image: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) float in [0, 1], (B, H, W) int64, (B, H, W) float -> the same, varied alike."""
        chosen = self._poses[torch.randint(len(self._poses), (len(image),))].tolist()
        image, target, weight = (_each_posed(values, chosen) for values in (image, target, weight))
        image, target_f, weight_f = self._both(image, target[:, None].float(), weight[:, None])
        image = self._picture(image).clamp(0, 1)
        return image, target_f[:, 0].round().long(), weight_f[:, 0].round()


def borrow_colours(image: Tensor, donor: Tensor, amount: Tensor) -> Tensor:
    """Move the mean and the spread of every channel towards those of another picture.

    Stains, exposure and contrast differ from image to image more than structures do; the painted ones show a few.

    Parameters
    ----------
    image, donor
        (B, 3, H, W) in [0, 1].
    amount
        (B,) in [0, 1]: 0 leaves a picture as it is, 1 gives it all of the donor's mean and spread.

    Returns
    -------
    Tensor
        (B, 3, H, W) in [0, 1].
    """
    amount = amount[:, None, None, None]
    mean, spread = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True).clamp_min(LEAST_SPREAD)
    new_mean = torch.lerp(mean, donor.mean((2, 3), keepdim=True), amount)
    new_spread = torch.lerp(spread, donor.std((2, 3), keepdim=True), amount)
    return ((image - mean) * (new_spread / spread).clamp(0.5, 2.0) + new_mean).clamp(0, 1)


def random_box(height: int, width: int, share: float = 2 / 3) -> tuple[slice, slice]:
    """A box of `share` of each side at a random place (paper: 2/3)."""
    h, w = int(height * share), int(width * share)
    top = int(torch.randint(0, height - h + 1, ()).item())
    left = int(torch.randint(0, width - w + 1, ()).item())
    return slice(top, top + h), slice(left, left + w)


def _each_posed(values: Tensor, poses: Sequence[int]) -> Tensor:
    """(B, ..., H, H), each item in a pose of its own."""
    return torch.stack([posed(item, pose) for item, pose in zip(values, poses, strict=True)])
