"""Masks of one grid on the image of another: another program may have stored them flipped or with other axes first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import Source

_TURNED = 0.02  # of a direction: what rounding in headers amounts to
_SHIFTED = 0.25  # of a pixel


def laid_on(image: Source, mask: Source, planes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The planes of a mask in the order, and with the rows and columns, of the image they belong to.

    Parameters
    ----------
    image
        What the mask is of.
    mask
        The file of the mask.
    planes
        What it holds, (H, W) each.

    Returns
    -------
    list of ndarray
        As they are, where one of the two files tells no place.

    Raises
    ------
    EngineError
        When the mask says that it lies elsewhere than the image, or between its pixels.
    """
    planes = list(planes)
    uneven = len({plane.shape for plane in planes}) > 1 or len(planes) % mask.volumes
    if image.affine is None or mask.affine is None or uneven:
        return planes
    volume = np.stack(planes, axis=-1)
    volume = volume.reshape(*volume.shape[:2], mask.volumes, -1).swapaxes(2, 3)  # (H, W, slices, volumes)
    shape = (*image.planes[0].shape[:2], len(image.planes) // image.volumes)
    turned = _turned(volume, np.linalg.inv(image.affine) @ mask.affine, shape)
    if turned is None:
        if not _tells_nothing(mask.affine):
            raise EngineError(
                f"The mask {mask.path} does not lie on the pixels of {image.path.name}, by what the two files say: "
                "save it on the grid of the image."
            )
        if len(volume.shape) and not _is_nifti(image):  # saved from numbers alone, in the order all others use
            volume = volume.swapaxes(0, 1)
        turned = volume
    return [turned[:, :, z, t] for t in range(turned.shape[3]) for z in range(turned.shape[2])]


def _turned(volume: np.ndarray, to_image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """(H, W, slices, volumes) with its first three axes as the image has them; None where they do not fit."""
    directions = np.rint(to_image[:3, :3])
    order = np.abs(directions).argmax(axis=1)
    is_turn = (np.abs(directions).sum(axis=0) == 1).all() and (np.abs(directions).sum(axis=1) == 1).all()
    flat = tuple(axis for axis in range(3) if shape[axis] == 1)  # a slice may be told as thick as anybody likes
    off = np.abs(to_image[:3, :3] - directions)
    off[list(flat)] = 0
    off[:, [axis for axis in range(3) if volume.shape[axis] == 1]] = 0
    if not is_turn or off.max() > _TURNED:
        return None
    turned = volume.transpose(*order, 3)
    flipped = [axis for axis in range(3) if directions[axis, order[axis]] < 0]
    start = [shape[axis] - 1 if axis in flipped else 0 for axis in range(3)]
    if turned.shape[:3] != shape or np.abs(to_image[:3, 3] - start).max() > _SHIFTED:
        return None
    return np.flip(turned, flipped)


def _tells_nothing(affine: np.ndarray) -> bool:
    """Whether it is what programs write that know no place: no turn, and the origin in the first pixel."""
    return not affine[:3, 3].any() and not (affine[:3, :3] - np.diag(np.diag(affine)[:3])).any()


def _is_nifti(image: Source) -> bool:
    return image.path.name.lower().endswith((".nii", ".nii.gz"))
