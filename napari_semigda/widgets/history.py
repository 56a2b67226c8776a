"""What Ctrl+Z takes back, in the order it was done: strokes, which napari remembers itself, and steps of ours.

napari keeps the strokes of a Labels layer but knows of nothing else. So the keys of the masks layer come here first:
this list says whether a stroke or a step of ours was last, and passes strokes on.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari.layers import Labels

from napari_semigda.widgets.keys import REDO, UNDO

MOST = 100
"""Steps that are remembered, as many as napari remembers strokes: an Accept holds the mask that it replaced."""


@dataclass(frozen=True)
class Step:
    """One thing that can be taken back and done again."""

    undo: Callable[[], object]
    redo: Callable[[], object]


class History:
    """The steps of one masks layer.

    Parameters
    ----------
    touched : callable
        Told the image that a stroke is about to be taken back from, or done again on.
    """

    def __init__(self, touched: Callable[[int], object]) -> None:
        self._touched = touched
        self._layer: Labels | None = None
        self._place: Callable[[], int] = lambda: 0
        self._done: deque[Step] = deque(maxlen=MOST)
        self._undone: list[Step] = []

    def follow(self, layer: Labels | None, place: Callable[[], int]) -> None:
        """Forget everything and listen to another layer.

        Parameters
        ----------
        layer : napari.layers.Labels or None
            Whose strokes count, and whose keys are taken over.
        place : callable
            Tells which image is in view, and so the one that a stroke is on.
        """
        if self._layer is not None:
            self._layer.events.paint.disconnect(self._on_stroke)
            for key in (UNDO, REDO):
                self._layer.bind_key(key, None, overwrite=True)  # its class still has napari's own
        self._layer, self._place = layer, place
        self._done.clear()
        self._undone = []
        if layer is not None:
            layer.events.paint.connect(self._on_stroke)
            layer.bind_key(UNDO, lambda _: self.undo(), overwrite=True)
            layer.bind_key(REDO, lambda _: self.redo(), overwrite=True)

    def add(self, undo: Callable[[], object], redo: Callable[[], object]) -> None:
        """Remember a step that has just been done."""
        self._done.append(Step(undo, redo))
        self._undone = []

    def undo(self) -> None:
        """Take back the last step."""
        if self._done:
            step = self._done.pop()
            step.undo()
            self._undone.append(step)
        elif self._layer is not None:
            self._layer.undo()  # a stroke from before we listened

    def redo(self) -> None:
        """Do again what was taken back last."""
        if self._undone:
            step = self._undone.pop()
            step.redo()
            self._done.append(step)
        elif self._layer is not None:
            self._layer.redo()

    def _on_stroke(self, event: Any = None) -> None:
        layer, plane = self._layer, self._place()

        def again(action: Callable[[], object]) -> None:
            self._touched(plane)
            action()

        self.add(lambda: again(layer.undo), lambda: again(layer.redo))
