"""What the docks have in common: one scrolling column, and an end that is noticed."""

from collections.abc import Callable
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_semigda.widgets.toasts import Toasts

WIDTH = 320  # at rest


class Dock(QWidget):
    """A widget that napari docks; ends its session when napari takes it away or the viewer closes."""

    def __init__(self) -> None:
        super().__init__()
        self._docked = False
        self._toasts = Toasts(self)
        self._end: Callable[..., None] = _closing()

    def fill(self, column: QVBoxLayout) -> None:
        """Show `column`; on a small screen it scrolls rather than being cut off."""
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(4)
        column.addStretch(1)
        content = QWidget()
        content.setLayout(column)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def at_the_end(self, *steps: Callable[[], object]) -> None:
        """Do `steps`, once, when the dock or the viewer closes.

        None may touch a widget of the dock: when a viewer closes, Qt deletes the widgets before anybody is told.
        """
        self._end = _closing(*steps)
        self.destroyed.connect(self._end)
        QApplication.instance().aboutToQuit.connect(self._end)

    @property
    def alive(self) -> bool:
        """Whether Qt still has the widgets: it deletes them before anybody is told."""
        return isalive(self)

    def close_session(self) -> None:
        """End the child process and let go of the viewer; the dock is of no use afterwards."""
        self._end()

    def event(self, event: QEvent) -> bool:
        """Notice that napari took the dock away: it neither closes nor deletes what was in it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.close_session()
        return super().event(event)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        self.close_session()
        super().closeEvent(event)


def _closing(*steps: Callable[[], object]) -> Callable[..., None]:
    """A function that does all `steps` the first time it is called and nothing after that."""
    left = list(steps)

    def close(*_: Any) -> None:
        while left:
            left.pop(0)()

    return close


def button(text: str, tooltip: str) -> QPushButton:
    """A button that says what it does."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    return made


def line() -> QFrame:
    """A thin line between two groups."""
    made = QFrame()
    made.setFrameShape(QFrame.Shape.HLine)
    return made


def row(*widgets: QWidget, stretch: tuple[int, ...]) -> QHBoxLayout:
    """Widgets side by side, sharing the width as `stretch` says."""
    made = QHBoxLayout()
    made.setContentsMargins(0, 0, 0, 0)
    for widget, share in zip(widgets, stretch, strict=True):
        made.addWidget(widget, share)
    return made
