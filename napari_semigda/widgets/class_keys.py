"""Keys 1-9 choose a class while the masks are selected.

Napari has tools on them, which keep their letters. So the digits are bound on the masks layer alone, other layers keep
theirs, and the hint at the bottom of the window says what holds here.
"""

from collections.abc import Callable
from typing import Any

from napari.layers import Labels

from napari_semigda.widgets.class_words import HELP
from napari_semigda.widgets.keys import DIGITS
from napari_semigda.widgets.ours import same


class ClassKeys:
    """Takes over the digits of one masks layer at a time.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the hint is.
    pressed : callable
        Told the digit, 1..9.
    """

    def __init__(self, viewer: Any, pressed: Callable[[int], object]) -> None:
        self._viewer, self._pressed = viewer, pressed
        self._layer: Labels | None = None

    def follow(self, layer: Labels | None) -> None:
        """Give the digits of the layer before back to napari, and take over those of another."""
        if self._layer is not None:
            self._layer.events.mode.disconnect(self._hint)
            self._layer.help = ""
            for digit in DIGITS:
                self._layer.bind_key(digit, None, overwrite=True)  # its class still has napari's own
        self._layer = layer
        if layer is not None:
            layer.events.mode.connect(self._hint)
            self._hint()
            for digit in DIGITS:
                layer.bind_key(digit, lambda _, digit=digit: self._pressed(int(digit)), overwrite=True)

    def _hint(self, event: Any = None) -> None:
        """Napari tells which digits its tools are on whenever the tool changes, and here they are not."""
        self._layer.help = HELP
        if same(self._viewer.layers.selection.active, self._layer):
            self._viewer.help = HELP
