"""The masks of a project: one file an image, whose planes are the image's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats import Source, open_source, output_name, stem_of, write_masks_to
from napari_semigda.images import read_mask
from napari_semigda.store import scan
from napari_semigda.store.files import refusal, replace_file, retire, set_aside
from napari_semigda.store.index import Entry


class MaskFiles:
    """Reads and writes them; a file that could not be used is kept under another name when its image is painted anew.

    Parameters
    ----------
    images
        The folder of the images.
    folder
        That of the masks, made when the first is written.
    """

    def __init__(self, images: Path, folder: Path) -> None:
        self._images, self._folder = images, folder
        self._damaged: set[Path] = set()

    def names(self) -> set[str]:
        """Names of all files there are: one look, for asking twice for each of a thousand images takes longer."""
        return {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()

    def read(self, entry: Entry, there: Collection[str]) -> list[np.ndarray]:
        """The mask of every plane of an image, (H, W) uint8 of its size; none when there is no file.

        Parameters
        ----------
        entry
            The image.
        there
            See `names`.

        Raises
        ------
        EngineError
            When the file cannot be read or does not fit the image.
        """
        path = next((path for path in self._paths(entry) if path.name in there), None)
        if path is None:
            return []
        try:
            masks = _plain_mask(path, entry) or read_mask(path, self._placed(path, entry))
            if [mask.shape for mask in masks] != [shape[:2] for shape in entry.planes]:
                raise EngineError(f"{path} does not fit {entry.file}: it is kept, and that image opens unpainted.")
            if any(mask.dtype != np.uint8 for mask in masks):
                raise EngineError(f"{path} holds no class numbers: it is kept, and that image opens unpainted.")
        except EngineError:
            self._damaged.add(path)
            raise
        return masks

    def write(self, entry: Entry, masks: Sequence[np.ndarray | None]) -> None:
        """Replace the file of an image; without any paint it is put aside, unless the lack of paint says something.

        Parameters
        ----------
        entry
            The image.
        masks
            Of each plane: (H, W) whole numbers, at least as large as the plane, or None.
        """
        path = self._path(entry) or self._paths(entry)[0]
        if path in self._damaged:
            set_aside(path, "damaged")
            self._damaged.discard(path)
        fitting = [_fitted(mask, shape[:2]) for mask, shape in zip(masks, entry.planes, strict=True)]
        if not any(mask.any() for mask in fitting) and not _holds_nothing(entry):
            retire(path)
            return
        image = self._images / entry.file
        try:
            source = open_source(image)
            if [plane.shape for plane in source.planes] != entry.planes:
                raise EngineError("The image is another by now.")
        except EngineError:  # what is painted on an image that went away is kept all the same
            planes = tuple(plane.image for plane in scan.planes_of(self._images, entry))
            source, path = Source(image.with_suffix(".tif"), planes), self._paths(entry)[-1]
        replace_file(path, lambda part: write_masks_to(part, source, fitting, tiff=True))

    def write_emptiness(self, entry: Entry) -> None:
        """Make a mask without paint for an image that holds nothing, or take it away; never one with paint."""
        path = self._path(entry)
        usable = path is not None and path not in self._damaged
        if _holds_nothing(entry) and not usable:
            self.write(entry, [None])
        elif not entry.empty and usable and not any(mask.any() for mask in read_mask(path)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise EngineError(refusal(path, error)) from error

    def _placed(self, mask: Path, entry: Entry) -> Source | None:
        """The image, where the file of its masks tells a place too."""
        return None if mask.suffix == ".tif" else open_source(self._images / entry.file)

    def _paths(self, entry: Entry) -> tuple[Path, Path]:
        """Where the masks of an image are; in the second place when the image could not be read any more."""
        image = Path(entry.file)
        return self._folder / output_name(image, tiff=True), self._folder / f"{stem_of(image)}.tif"

    def _path(self, entry: Entry) -> Path | None:
        return next((path for path in self._paths(entry) if path.is_file()), None)


def _holds_nothing(entry: Entry) -> bool:
    """Whether a mask without paint says so: of a stack it would say nothing, for nobody paints all of its slices.

    The command line takes masks of single images at their word, and so learns what the dock does.
    """
    return bool(entry.empty) and len(entry.planes) == 1


def _plain_mask(path: Path, entry: Entry) -> list[np.ndarray] | None:
    """The mask in a file that is just as we write it for one plane, in a third of the time; None of any other."""
    import tifffile

    if len(entry.planes) != 1 or path.suffix != ".tif":
        return None
    try:
        mask = tifffile.imread(path)
    except Exception:  # whatever is wrong with it, the thorough way has a sentence on it
        return None
    return [mask] if (mask.shape, mask.dtype) == (entry.planes[0][:2], np.uint8) else None


def _fitted(mask: np.ndarray | None, size: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8 of the image's size; numbers that are no class ids cannot be saved and are refused in words."""
    if mask is None:
        return np.zeros(size, np.uint8)
    mask = mask[: size[0], : size[1]]
    if mask.dtype != np.uint8 and mask.size and (mask.min() < 0 or mask.max() > 255):
        raise EngineError(
            f"Label {int(mask.max())} is no class: class ids end at 255, so paint with one of the classes."
        )
    return np.ascontiguousarray(mask, np.uint8)
