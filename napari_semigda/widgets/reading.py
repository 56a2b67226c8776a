"""Notices what is painted on a masks layer, and has it read a moment later."""

from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QTimer

from napari_semigda.widgets import place

SETTLE_MS = 150  # a stroke, its undo and the redraw after it come as several events
LONGEST_S = 1.0  # strokes that follow each other closely are read all the same after this time


class Reader:
    """Follows one masks layer.

    Parameters
    ----------
    viewer : napari.Viewer
        Where it is shown.
    in_view : callable
        Tells which image the viewer shows.
    take : callable
        Told which images may have changed, None for all; called a moment after each stroke.
    """

    def __init__(self, viewer: Any, in_view: Callable[[], int], take: Callable[[list[int] | None], object]) -> None:
        self._viewer, self._in_view, self._take = viewer, in_view, take
        self._layer: Labels | None = None
        self._touched: set[int] = set()
        self._all_touched = False
        self._known_data: Any = None
        self._unread_since: float | None = None  # when something was painted that has not been read
        self._settle = QTimer()
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.read)

    def follow(self, layer: Labels | None) -> None:
        """Read what has been painted on the layer followed until now, then follow another one."""
        self.finish()
        if self._layer is not None:
            self._layer.events.paint.disconnect(self._on_paint)
            self._layer.events.set_data.disconnect(self._on_paint)
        self._layer = layer
        if layer is not None:
            layer.events.paint.connect(self._on_paint)
            layer.events.set_data.connect(self._on_paint)
        self._all_touched, self._known_data = True, None

    def touch(self, plane: int) -> None:
        """An image changed that may not be the one in view; the event of it comes next."""
        self._touched.add(plane)

    def read(self) -> None:
        """Have read what may have changed."""
        self._unread_since = None
        with suppress(RuntimeError):  # when the application ends, Qt deletes its timers first
            self._settle.stop()
        if self._layer is None:
            return
        everywhere = self._all_touched or self._layer.data is not self._known_data
        planes = None if everywhere else sorted(self._touched)
        self._touched, self._all_touched, self._known_data = set(), False, self._layer.data
        self._take(planes)

    def read_all(self) -> None:
        """Have all images read: nothing that code wrote without telling napari is missed."""
        self._all_touched = True
        self.read()

    def finish(self) -> None:
        """Have read what has been painted a moment ago."""
        if self._unread_since is not None:
            self.read()

    def _on_paint(self, event: Any = None) -> None:
        """Something was painted, undone or redrawn; the payload does not tell which, so content is compared later."""
        flat = self._layer.n_edit_dimensions == 2 and place.shows_planes(self._viewer)
        self._touched.add(self._in_view())
        self._all_touched |= not flat
        now = monotonic()
        if self._unread_since is None or now - self._unread_since < LONGEST_S:
            self._settle.start()
        self._unread_since = self._unread_since or now
