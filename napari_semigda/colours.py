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
# Places in these shades x hues, in the order classes get them: pure hues, then always the colour farthest from those
# before (CIEDE2000, as normal, protan, deutan and tritan eyes see them). The first 7 are 10.9 apart or more, 17 are
# 6.2, 24 are 4; tests/widgets/test_classes.py checks that. Beyond, the number on the swatch has to help.
_ORDER = (*range(8), *(25, 23, 21, 22, 15, 27, 8, 18, 9, 31, 20, 10, 12, 11, 29, 19, 13, 24, 30, 16, 14, 28, 17, 26))

_WRITTEN = re.compile(r"#[0-9a-fA-F]{6}")


def class_colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue (0..255) that class `number` has unless the user chose others (after `COUNT` they repeat)."""
    shade, hue = divmod(_ORDER[(number - 1) % COUNT], len(HUES))
    return _mixed(OKABE_ITO[hue], tuple(SHADES.values())[shade])


def class_hex(number: int) -> str:
    """The same as ``"#rrggbb"``."""
    return _hex(class_colour(number))


def colour_names() -> dict[str, str]:
    """All `COUNT` colours to choose from as ``"#rrggbb"``, row by row of hues, with a name for each."""
    return {_hex(_mixed(pure, mix)): shade + hue for shade, mix in SHADES.items() for hue, pure in HUES.items()}


def is_colour(text: object) -> bool:
    """Whether something is a colour as ``"#rrggbb"``."""
    return isinstance(text, str) and _WRITTEN.fullmatch(text) is not None


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#rrggbb"`` as red, green and blue, 0..255."""
    return tuple(bytes.fromhex(colour[1:]))


def _mixed(pure: str, mix: float) -> tuple[int, int, int]:
    return tuple(round(value + mix * (255 - value if mix > 0 else value)) for value in rgb(pure))


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
