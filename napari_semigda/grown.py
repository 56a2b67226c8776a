"""Masks of large images of a layer, in a zarr folder that is shown while they grow block by block.

::

    FOLDER/masks/0, 1, 2 ...      (..., H, W) uint8, then the same with half the pixels a side, and so on
    FOLDER/blocks                 which blocks are done; see `journal.Unfinished`

One process writes, another may look: a chunk is replaced in one step, and blocks are chunks. What was stopped is gone
on with by opening the folder again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.blocks import SIDE, Block, count_blocks
from napari_semigda.engine.exchange import PredictRequest
from napari_semigda.engine.types import EngineError
from napari_semigda.formats.growing import MaskPlane, nearest
from napari_semigda.formats.source import replacing
from napari_semigda.journal import Unfinished, digest

_COARSEST = 1024  # pixels a side that a viewer reads at a time without a thought
_UNITS = {"um": "micrometer", "µm": "micrometer", "mm": "millimeter", "nm": "nanometer", "pixel": ""}


def masks_in(folder: Path, model: Path, shape: Sequence[int]) -> Unfinished:
    """The masks that a model has made so far, opened to be gone on with; those of another model are removed.

    Parameters
    ----------
    folder
        Of these masks alone, made when it is not there.
    model
        The model file.
    shape
        Of the masks of all images: (..., H, W).

    Raises
    ------
    EngineError
        When the model cannot be read or the folder not be written.
    """
    masks = _unfinished(folder, model, shape)
    masks.open(partial(_planes, shape=tuple(shape)))
    return masks


def levels(store: Path) -> list[Any]:
    """The masks as zarr arrays to be shown, finest first."""
    import zarr

    group = zarr.open_group(store, mode="r")
    return [group[str(number)] for number in range(len(list(group.array_keys())))]


def grow(
    request: PredictRequest, predictor: Any, stop: Callable[[], bool], in_view: Callable[[], int]
) -> Iterator[float]:
    """Predict images block by block into the folder of a request, the image in view and its neighbours first.

    Yields the share that is done, of all blocks. Going on where an earlier run has stopped, it begins with that.
    """
    if request.masks is None:
        raise EngineError("There is no folder for the masks: press Predict again.")
    masks = _unfinished(request.masks, request.model, request.shape)
    planes = masks.open(partial(_planes, shape=request.shape))
    counts = [count_blocks(plane.size) for plane in request.planes]
    yield masks.count / sum(counts)
    left = {index for index, count in enumerate(counts) if len(masks.done(index)) < count}
    while left and not stop():
        index = min(left, key=lambda plane: (abs(plane - in_view()), plane))
        left.remove(index)
        blocks = predictor.blocks(request.planes[index], masks.done(index))
        while not stop() and (block := next(blocks, None)) is not None:
            masks.add(index, planes[index], block)
            _coarsen(planes[index], block)
            yield masks.count / sum(counts)


def save(store: Path, path: Path, axes: Sequence[str], scale: Sequence[float], unit: str) -> Path:
    """Copy masks into an OME-Zarr of their own, whole or not at all.

    Parameters
    ----------
    store
        The masks.
    path
        The folder; its suffix becomes ``.ome.zarr``.
    axes, scale
        A letter for each axis, and how far it is from one pixel to the next.
    unit
        Of the last two axes: ``"um"``, ``"mm"`` or anything else where it is not known.

    Raises
    ------
    EngineError
        When it cannot be written.
    """
    import zarr

    path = path.with_name(path.name.removesuffix(".zarr").removesuffix(".ome") + ".ome.zarr")
    known = {"unit": _UNITS[unit]} if _UNITS.get(unit) else {}
    told = [
        {"name": name, "type": "time" if name == "t" else "space", **(known if name in "yx" else {})} for name in axes
    ]
    sides = [np.array(array.shape) for array in levels(store)]
    datasets = [
        {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": [*(sides[0] / each * scale)]}]}
        for number, each in enumerate(sides)
    ]
    with replacing(path) as temporary:
        shutil.copytree(store, temporary)
        group = zarr.open_group(temporary, mode="r+")
        described = {"version": "0.4", "name": "masks", "axes": told, "datasets": datasets}
        group.attrs.update({"multiscales": [described], "image-label": {"version": "0.4"}})
    return path


def _unfinished(folder: Path, model: Path, shape: Sequence[int]) -> Unfinished:
    return Unfinished(folder, "x".join(map(str, shape)), digest(model))


def _planes(store: Path, shape: tuple[int, ...]) -> list[MaskPlane]:
    """The masks of all images in a store, which is made where it is not there."""
    import zarr

    leading, names = shape[:-2], "z" * (len(shape) - 2) + "yx"
    if not store.exists():
        group, size, number = zarr.open_group(store, mode="w-", zarr_format=2), shape[-2:], 0
        while not number or max(size) * 2 > _COARSEST:
            chunks = (*(1 for _ in leading), *(min(SIDE, n) for n in size))
            how = {"chunks": chunks, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
            group.create_array(str(number), shape=(*leading, *size), dtype="uint8", fill_value=0, **how)
            size, number = tuple(-(-n // 2) for n in size), number + 1
    group = zarr.open_group(store, mode="r+")
    arrays = [group[str(number)] for number in range(len(list(group.array_keys())))]
    return [
        MaskPlane(arrays[0], names, at, [MaskPlane(array, names, at) for array in arrays[1:]])
        for at in np.ndindex(*leading)
    ]


def _coarsen(plane: MaskPlane, block: Block) -> None:
    """Bring a block into the coarser levels of its plane; see `growing.coarsen`."""
    mask, top, left = block.mask, block.place.top, block.place.left
    for fine, coarse in zip([plane, *plane.levels], plane.levels, strict=False):
        rows, columns = (nearest(n, m) for n, m in zip(fine.shape, coarse.shape, strict=True))
        down = np.flatnonzero((rows >= top) & (rows < top + mask.shape[0]))
        across = np.flatnonzero((columns >= left) & (columns < left + mask.shape[1]))
        if not (down.size and across.size):
            return
        mask = mask[np.ix_(rows[down] - top, columns[across] - left)]
        top, left = int(down[0]), int(across[0])
        coarse[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
