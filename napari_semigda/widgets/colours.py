"""The class colours as napari takes them."""

from collections.abc import Iterable

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap

from napari_semigda.classes import PaintClass, colours_of
from napari_semigda.colours import COUNT, class_hex, rgb


def class_colormap(classes: Iterable[PaintClass] = (), *, only: bool = False) -> CyclicLabelColormap:
    """Colours for a Labels layer: 0 is transparent.

    Parameters
    ----------
    classes
        Whose colours are known. All other numbers have those that classes get by themselves.
    only
        Show nothing but `classes`.
    """
    known = colours_of(classes)
    last = max(COUNT, *known) if known else COUNT
    colours = np.zeros((last + 1, 4), np.float32)
    for number in range(1, last + 1):
        if number in known or not only:
            colours[number] = (*(value / 255 for value in rgb(known.get(number, class_hex(number)))), 1)
    return CyclicLabelColormap(colors=colours, background_value=0, name="SemiGDA classes")
