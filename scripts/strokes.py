"""A hand for the demo: real mouse events on napari's canvas, pressed, dragged and let go like a person's."""

from collections.abc import Iterator

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

REST_MS = 12
"""vispy takes no notice of a mouse that moves again within 10 ms."""


class Hand:
    """Paints on the Labels layer that is selected in a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        With a window, in 2D.
    """

    def __init__(self, viewer) -> None:
        self.viewer = viewer
        self._scene = viewer.window._qt_viewer.canvas  # no public way leads to the canvas
        self.canvas = self._scene.native
        """The widget that is painted on."""

    def trace(self, layer, wanted: np.ndarray, broad: int = 3, finest: int = 3) -> int:
        """Make the slice in view look like `wanted`, (H, W) class ids, roughly as a careful person would.

        First with a brush of `broad` pixels along rows that far apart, then with one of 1 pixel wherever `finest` or
        more pixels in a row are still wrong. Class 0 rubs out.

        Returns
        -------
        int
            How many strokes that took.
        """
        place, strokes = self.viewer.dims.current_step[:-2], 0
        for brush, rows in ((broad, slice(broad // 2, None, broad)), (1, slice(None))):
            layer.brush_size = brush
            for number in np.unique(wanted):
                layer.selected_label = int(number)
                wrong = np.zeros(wanted.shape, bool)
                wrong[rows] = (wanted == number)[rows] & (layer.data[place] != number)[rows]
                for row, first, last in _runs(wrong, max(brush, finest)):
                    edge = brush // 2  # the brush reaches this far to either side
                    self.stroke(layer, (row, first + edge), (row, last - edge))
                    strokes += 1
        return strokes

    def stroke(self, layer, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Press at pixel `start`, drag to pixel `end`, let go; one undo step."""
        points = [self._on_canvas(layer, pixel) for pixel in (start, end)]
        for beside in (4, 0):  # nobody's mouse jumps: vispy keeps all events since it last moved freely, twice
            self._move(points[0] + QPoint(beside, 0), Qt.MouseButton.NoButton)
            QTest.qWait(REST_MS)
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, points[0])
        if points[0] != points[1]:
            QTest.qWait(REST_MS)
            self._move(points[1], Qt.MouseButton.LeftButton)
            QTest.qWait(REST_MS)
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, points[1])

    def _move(self, point: QPoint, held: Qt.MouseButton) -> None:
        # QTest.mouseMove would move without a button held.
        native, at = self.canvas, QPointF(point)
        there = QPointF(native.mapToGlobal(point))
        none = Qt.KeyboardModifier.NoModifier
        QApplication.sendEvent(native, QMouseEvent(QEvent.Type.MouseMove, at, there, held, held, none))

    def _on_canvas(self, layer, pixel: tuple[int, int]) -> QPoint:
        """Where the middle of a pixel of the slice in view is on the canvas."""
        index = (*self.viewer.dims.current_step[:-2], *pixel)
        row, column = layer.data_to_world(index)[-2:]
        x, y = self._scene.view.scene.transform.map((column, row))[:2]
        return QPoint(round(x), round(y))


def _runs(where: np.ndarray, shortest: int) -> Iterator[tuple[int, int, int]]:
    """Row, first and last column of each run of at least `shortest` True, top to bottom."""
    for row in np.flatnonzero(where.any(axis=1)):
        edges = np.diff(where[row].astype(np.int8), prepend=0, append=0)
        for first, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            if end - first >= shortest:
                yield int(row), int(first), int(end) - 1
