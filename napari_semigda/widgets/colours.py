"""The class colours as napari wants them."""

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap

from napari_semigda.class_colours import COUNT, class_colour

__all__ = ["class_colormap", "class_colour"]


def class_colormap() -> CyclicLabelColormap:
    """The class colours for a Labels layer: 0 is transparent."""
    colours = [(0, 0, 0, 0)] + [(*(c / 255 for c in class_colour(number)), 1) for number in range(1, COUNT + 1)]
    return CyclicLabelColormap(colors=np.array(colours, np.float32), background_value=0, name="SemiGDA classes")
