"""Keys of the docks, beside napari's own.

They are bound on the viewer, which napari asks after the selected layer, so no key of a layer is taken away. That is
why showing and hiding the prediction is H and not P (P is napari's paint brush), and why stopping is Shift+T (Escape
ends napari's polygons). Verify is D, for done, because V hides the selected layers in napari; with A and S it lies
under one hand.
"""

from collections.abc import Callable
from typing import Any

TRAIN, STOP, ACCEPT, TOGGLE = "T", "Shift-T", "A", "H"
VERIFY, SKIP, NEXT = "D", "S", "N"
DIGITS = tuple("123456789")
"""Choose the class and the brush. Bound on the masks layer alone, where napari has tools on them: its tools keep their
letters, and all other layers their digits."""


class Keys:
    """Binds keys on a viewer and gives them back.

    Parameters
    ----------
    viewer : napari.Viewer
        Where keys are pressed.
    actions : dict of str to callable
        What each key does, without arguments.
    """

    def __init__(self, viewer: Any, actions: dict[str, Callable[[], object]]) -> None:
        self._viewer = viewer
        self._before = {}
        for key, action in actions.items():
            self._before[key] = viewer.bind_key(key, None)
            viewer.bind_key(key, _ignoring_viewer(action))

    def release(self) -> None:
        """Leave the keys as they were found."""
        for key, earlier in self._before.items():
            self._viewer.bind_key(key, earlier, overwrite=True)
        self._before = {}


def _ignoring_viewer(action: Callable[[], object]) -> Callable[[Any], None]:
    def press(_: Any) -> None:
        action()

    return press
