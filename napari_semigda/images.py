"""Folders and files -> planes to learn from or to predict; masks -> the images they belong to.

An OME-Zarr is one image, and so is a folder that holds nothing but the slices of one DICOM series.

A file and its mask share their stem (``ax031.png`` and ``ax031.tif``). Of a file with several planes, only those with
paint are labelled: nobody paints all slices of a scan, so an untouched slice says nothing. A mask file of one plane is
taken at its word even when it is empty: "there is nothing here".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.types import EngineError, Plane
from napari_semigda.foreign_masks import by_image, ids_of_jpeg
from napari_semigda.formats import KINDS, Source, is_image, is_zarr, open_source, stem_of
from napari_semigda.formats.dicom import is_one_series
from napari_semigda.formats.picture import palette_indices
from napari_semigda.formats.place import laid_on
from napari_semigda.formats.source import said_plainly
from napari_semigda.stacks import LazyPlane


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Images among `paths`: files as they are, folders as the images right in them, 2 before 10.

    Raises
    ------
    EngineError
        When a path is missing, a folder holds no image, or two files share a stem.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        found += [path] if not path.is_dir() else images_in(path)
    by_stem(found)
    return found


def images_in(folder: Path) -> list[Path]:
    """Images right in a folder, 2 before 10; hidden files and other kinds are passed over.

    Returns
    -------
    list of Path
        Only the folder itself when it is an OME-Zarr or holds the slices of one DICOM series.

    Raises
    ------
    EngineError
        When the folder is missing or holds no image, or holds slices of DICOM series among other images.
    """
    from skimage.io.collection import alphanumeric_key

    folder = Path(folder)
    if not folder.is_dir():
        raise EngineError(f"{folder} is {'a file' if folder.exists() else 'not there'}: give a folder with images.")
    if is_zarr(folder):
        return [folder]
    found = [path for path in folder.iterdir() if is_image(path)]
    if not found:
        raise EngineError(f"The folder {folder} holds no image: give one with {KINDS} files.")
    if is_one_series(found):
        return [folder]
    return sorted(found, key=lambda path: alphanumeric_key(path.name))


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by stem, in order.

    Raises
    ------
    EngineError
        When two share a stem: it would not be known which of them a mask belongs to.
    """
    files: dict[str, Path] = {}
    for path in paths:
        twin = files.setdefault(stem_of(path), path)
        if twin is not path:
            raise EngineError(f"{twin} and {path} have the same name but for the ending: rename or remove one of them.")
    return files


def planes_of(source: Source) -> list[Plane]:
    """Unlabelled planes of a file; those of a stack or volume share a group."""
    group = source.path.name if len(source.planes) > 1 else ""
    return [
        Plane(image.name, image, None, group, source.volume_of(index), source.depth)
        for index, image in enumerate(source.planes)
    ]


def opener() -> Callable[[Mapping[str, Any]], Any]:
    """What finds large images where another process has seen them (see `LazyImage.place`), to be read by parts.

    Each file is looked into once. An image that is not there any more raises EngineError.
    """
    source_of = cache(open_source)

    def open_place(place: Mapping[str, Any]) -> Any:
        if "store" in place:
            with said_plainly(place["store"]):
                import zarr

                return LazyPlane(zarr.open_array(place["store"], path=place["array"], mode="r"), tuple(place["at"]), "")
        path = Path(place["file"])
        planes = source_of(path).planes
        if not 0 <= place["plane"] < len(planes):
            raise EngineError(f"{path} has fewer images than a moment ago: open it again.")
        return planes[place["plane"]]

    return open_place


def labelled_planes(images: Path, masks: Path) -> tuple[tuple[Plane, ...], tuple[str, ...]]:
    """All planes of the images in a folder, with the masks of another one.

    Parameters
    ----------
    images, masks
        Folders. Images are opened but not read; masks are read.

    Returns
    -------
    planes : tuple of Plane
        In the natural order of file names, then of pages or slices.
    warnings : tuple of str
        A sentence on masks that belong to no image.

    Raises
    ------
    EngineError
        When files are missing, damaged or ambiguous, or when no mask belongs to any image.
    """
    if Path(images).resolve() == Path(masks).resolve():
        raise EngineError(f"Images and masks are both in {images}: put the masks into a folder of their own.")
    image_files = by_stem(images_in(images))
    mask_files = by_image(image_files, by_stem(images_in(masks)))
    first = next(iter(image_files.values()))
    if not image_files.keys() & mask_files.keys():
        raise EngineError(
            f"No mask in {masks} has the name of an image in {images}: call the mask of {first.name} "
            f"{stem_of(first)}.png (or .tif, .nii.gz)."
        )
    planes: list[Plane] = []
    for stem, path in image_files.items():
        source = open_source(path)
        planes += _with_masks(source, mask_files[stem]) if stem in mask_files else planes_of(source)
    return tuple(planes), _strangers([mask_files[stem] for stem in mask_files if stem not in image_files])


def read_mask(path: Path, image: Source | None = None) -> list[np.ndarray]:
    """The masks in a file, one for each plane.

    Parameters
    ----------
    path
        The file.
    image
        What the masks are of, where it is known: they are then turned to lie on it, should they be stored otherwise.

    Returns
    -------
    list of ndarray
        (H, W), uint8 wherever the values are class ids; anything else (floats, negative or large numbers) keeps its
        type, for `check_mask` to refuse by name.

    Raises
    ------
    EngineError
        When the file cannot be read, holds colours, or tells that it lies elsewhere than the image.
    """
    source = open_source(path)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return [ids_of_jpeg(np.asarray(plane), path) for plane in source.planes]
    indices = palette_indices(path)
    if indices is not None:
        return [indices]
    masks = [_to_ids(np.asarray(plane), plane.name) for plane in source.planes]
    return masks if image is None else laid_on(image, source, masks)


def _with_masks(source: Source, mask_file: Path) -> list[Plane]:
    planes, masks = planes_of(source), read_mask(mask_file, source)
    if len(masks) != len(planes):
        raise EngineError(
            f"{source.path.name} has {len(planes)} planes but its mask {mask_file.name} has {len(masks)}: "
            "save the mask with as many pages or slices as the image."
        )
    if len(planes) > 1:
        masks = [mask if mask.any() else None for mask in masks]
    return [replace(plane, mask=mask) for plane, mask in zip(planes, masks, strict=True)]


def _to_ids(mask: np.ndarray, name: str) -> np.ndarray:
    """One channel of a mask that was saved as a grey picture with several, as uint8 where that loses nothing."""
    if mask.ndim == 3:
        colours = mask[..., :3]
        if (colours != colours[..., :1]).any():
            raise EngineError(f"The mask {name} holds colours: save it with one class number a pixel (8-bit grey).")
        mask = colours[..., 0]
    whole = mask.dtype.kind in "bui" and mask.size and mask.min() >= 0 and mask.max() <= 255
    return mask.astype(np.uint8) if whole else mask


def _strangers(masks: list[Path]) -> tuple[str, ...]:
    if not masks:
        return ()
    names = ", ".join(path.name for path in masks[:3]) + (", ..." if len(masks) > 3 else "")
    return (f"{len(masks)} mask{'s have' if len(masks) > 1 else ' has'} no image of that name and no use: {names}.",)
