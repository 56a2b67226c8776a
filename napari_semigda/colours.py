"""Class colours: apart from each other under every common colour blindness, and visible on black.

The one place that layers, class lists, overlays and files take them from.
"""

from __future__ import annotations

import re

# Okabe and Ito's set without black; grey last, because images are grey.
HUES = {
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "pink": "#CC79A7",
    "red": "#D55E00",
    "blue": "#0072B2",
    "grey": "#999999",
}
OKABE_ITO = tuple(HUES.values())
SHADES = {"": 0.0, "light ": 0.45, "dark ": -0.35, "pale ": 0.7}  # towards white, or black: 8 hues x 4 = 32 colours
COUNT = len(HUES) * len(SHADES)

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def class_colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue (0..255) that class `number` has unless the user chose others (after `COUNT` they repeat)."""
    shade, hue = divmod((number - 1) % COUNT, len(HUES))
    mix = tuple(SHADES.values())[shade]
    return tuple(round(value + mix * (255 - value if mix > 0 else value)) for value in rgb(OKABE_ITO[hue]))


def class_hex(number: int) -> str:
    """The same as ``"#rrggbb"``."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(number))


def colour_names() -> dict[str, str]:
    """All `COUNT` colours to choose from as ``"#rrggbb"``, in the order classes get them, with a name for each."""
    names = [shade + hue for shade in SHADES for hue in HUES]
    return {class_hex(number): name for number, name in enumerate(names, start=1)}


def is_colour(text: object) -> bool:
    """Whether something is a colour as ``"#rrggbb"``."""
    return isinstance(text, str) and _HEX.fullmatch(text) is not None


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#rrggbb"`` as red, green and blue, 0..255."""
    return tuple(bytes.fromhex(colour[1:]))
