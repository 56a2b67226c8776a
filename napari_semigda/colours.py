"""Class colours: apart from each other under every common colour blindness, and visible on black.

The one place that layers, class lists and overlays take them from.
"""

from __future__ import annotations

# Okabe and Ito's set without black; grey last, because images are grey.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")
SHADES = (0.0, 0.45, -0.35, 0.7)  # towards white, towards black: 8 hues x 4 shades = 32 classes
COUNT = len(OKABE_ITO) * len(SHADES)


def class_colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue (0..255) of class `number` (1 is the first; after `COUNT` they begin again)."""
    shade, hue = divmod((number - 1) % COUNT, len(OKABE_ITO))
    mix = SHADES[shade]
    pure = bytes.fromhex(OKABE_ITO[hue][1:])
    return tuple(round(value + mix * (255 - value if mix > 0 else value)) for value in pure)


def class_hex(number: int) -> str:
    """The same as ``"#rrggbb"``."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(number))
