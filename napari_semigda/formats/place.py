"""Masks of one grid on the image of another: another program may have stored them flipped or with other axes first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import Source

_OFF = 0.5  # pixels that a corner may lie beside its place: headers are rounded


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
    if np.array_equal(image.affine, mask.affine, equal_nan=True):  # even where it makes no sense
        return planes
    volume = np.stack(planes, axis=-1)
    volume = volume.reshape(*volume.shape[:2], mask.volumes, -1).swapaxes(2, 3)  # (H, W, slices, volumes)
    shape = (*image.planes[0].shape[:2], len(image.planes) // image.volumes)
    turned = _turned(volume, image.affine, mask.affine, shape)
    if turned is None:
        if not _tells_nothing(mask.affine):
            raise EngineError(
                f"The mask {mask.path} does not lie on the pixels of {image.path.name}, by what the two files say: "
                "save it on the grid of the image."
            )
        if not _is_nifti(image):  # saved from numbers alone, in the order all others use
            volume = volume.swapaxes(0, 1)
        turned = volume
    return [turned[:, :, z, t] for t in range(turned.shape[3]) for z in range(turned.shape[2])]


def _turned(volume: np.ndarray, image: np.ndarray, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """(H, W, slices, volumes) with its first three axes as the image has them; None where they do not fit."""
    try:
        directions = np.rint(np.linalg.inv(_units(image)) @ _units(mask))
        to_image = np.linalg.inv(image) @ mask
    except np.linalg.LinAlgError:
        return None
    order = np.abs(directions).argmax(axis=1)
    if not np.array_equal(np.abs(directions), np.eye(3)[order]) or {*order} != {0, 1, 2}:
        return None  # between the axes, or nothing that can be reckoned with
    turned = volume.transpose(*order, 3)
    if turned.shape[:3] != shape:
        return None
    flipped = [axis for axis in range(3) if directions[axis, order[axis]] < 0]
    start = [shape[axis] - 1 if axis in flipped else 0 for axis in range(3)]
    corners = np.array([*np.ndindex(2, 2, 2)]).T * (np.array(volume.shape[:3])[:, None] - 1)
    off = to_image[:3, :3] @ corners + to_image[:3, 3:] - (directions @ corners + np.array(start)[:, None])
    return np.flip(turned, flipped) if np.abs(off).max() < _OFF else None


def _units(affine: np.ndarray) -> np.ndarray:
    """(3, 3) the directions of the axes, whatever their steps: a single slice may be as thick as anybody likes."""
    with np.errstate(invalid="ignore"):  # zeros: nothing fits them
        return affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)


def _tells_nothing(affine: np.ndarray) -> bool:
    """Whether it is what programs write that know no place: no turn, and the origin in the first pixel."""
    return not affine[:3, 3].any() and not (affine[:3, :3] - np.diag(np.diag(affine)[:3])).any()


def _is_nifti(image: Source) -> bool:
    return image.path.name.lower().endswith((".nii", ".nii.gz"))
