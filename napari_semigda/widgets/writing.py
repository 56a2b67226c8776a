"""The only code that writes into the user's masks: Accept, and the deletion of a class."""

import numpy as np
from napari.layers import Labels

from napari_semigda.engine.types import EngineError
from napari_semigda.stacks import ImageStack


def check_writable(masks: Labels) -> None:
    """Refuse masks that cannot be changed.

    Raises
    ------
    EngineError
        One sentence.
    """
    if not isinstance(masks.data, np.ndarray) or not masks.data.flags.writeable:
        raise EngineError(f"The layer {masks.name} cannot be changed: press New masks and work on that.")


def accept(masks: Labels, predicted: np.ndarray, position: tuple[int, ...], classes: list[int]) -> int:
    """Copy a prediction into one image of the masks, through napari's own history.

    Parameters
    ----------
    masks : napari.layers.Labels
        What is written to.
    predicted : numpy.ndarray
        (H, W) class ids, as large as a plane of the masks.
    position : tuple of int
        Which plane.
    classes : list of int
        Ids there are: pixels of any other, as of a class that was deleted since, come out as 0.

    Returns
    -------
    int
        How many pixels changed.
    """
    new = np.where(np.isin(predicted, classes), predicted, 0)
    rows, columns = np.nonzero(masks.data[position] != new)
    if rows.size:
        leading = tuple(np.full(rows.size, at) for at in position)
        # napari's own edit: recorded in the layer's history, announced as a paint event.
        masks.data_setitem((*leading, rows, columns), new[rows, columns].astype(masks.data.dtype))
    return int(rows.size)


class Erasure:
    """The pixels of one class, taken off every image, and what it needs to put them back.

    It bypasses napari's own history, which reaches back 100 strokes and knows nothing of other images than the one in
    view: one step of ours takes back all of it.

    Parameters
    ----------
    masks : napari.layers.Labels
        What is written to.
    stack : ImageStack
        The images it lies on.
    number : int
        The class.
    """

    def __init__(self, masks: Labels, stack: ImageStack, number: int) -> None:
        self._masks, self._stack, self._number = masks, stack, number
        self._pixels: dict[int, np.ndarray] = {}  # by plane number, where in the flattened plane

    def erase(self) -> None:
        """Make the pixels of the class unpainted."""
        for index in range(len(self._stack)):
            plane = self._masks.data[self._stack.position(index)]  # a view: a plane is never copied
            if (pixels := np.flatnonzero(plane == self._number)).size:
                self._pixels[index] = pixels
                self._put(index, 0)
        self._masks.refresh(extent=False)

    def restore(self) -> None:
        """Put them back."""
        for index in self._pixels:
            self._put(index, self._number)
        self._pixels = {}
        self._masks.refresh(extent=False)

    def _put(self, index: int, value: int) -> None:
        plane = self._masks.data[self._stack.position(index)]
        rows, columns = np.unravel_index(self._pixels[index], plane.shape)
        plane[rows, columns] = value
