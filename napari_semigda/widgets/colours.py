"""Class colours: apart from each other under every common colour blindness, and visible on black."""

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap

# Okabe and Ito's set without black; grey last, because images are grey.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")
SHADES = (0.0, 0.45, -0.35, 0.7)  # towards white, towards black: 8 hues x 4 shades = 32 classes


def class_colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue (0..255) of class `number` (1 is the first)."""
    shade, hue = divmod((number - 1) % (len(OKABE_ITO) * len(SHADES)), len(OKABE_ITO))
    text = OKABE_ITO[hue]
    rgb = np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)], float)
    mix = SHADES[shade]
    rgb += mix * (255 - rgb) if mix > 0 else mix * rgb
    return tuple(round(value) for value in rgb)


def class_colormap() -> CyclicLabelColormap:
    """The same colours for a Labels layer: 0 is transparent."""
    count = len(OKABE_ITO) * len(SHADES)
    colours = [(0, 0, 0, 0)] + [(*(c / 255 for c in class_colour(number)), 1) for number in range(1, count + 1)]
    return CyclicLabelColormap(colors=np.array(colours, np.float32), background_value=0, name="SemiGDA classes")
