"""napari's messages in the corner of the viewer: each goes after its time, also where a newer one came meanwhile.

napari 0.7 stops the clocks of older messages when a newer one comes and starts them no more, so they would cover the
picture, and stay in memory, until somebody closes each by hand.
"""

from typing import Any

from napari.utils.notifications import notification_manager
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QDialog, QWidget

LIFE_MS = 6000
"""How long a message stays; napari gives 4 s to one that nothing follows."""
_SHOWN_MS = 200  # napari shows a message some moments after it was sent
_CLOCK = "semigda clock"


class Toasts(QObject):
    """Gives every message in the window of a dock a clock of its own.

    Parameters
    ----------
    dock
        Whatever shares a window with the messages.
    """

    _came = Signal()  # from any thread

    def __init__(self, dock: QWidget) -> None:
        super().__init__(dock)
        self._came.connect(self._wait, Qt.ConnectionType.QueuedConnection)
        notification_manager.notification_ready.connect(self._on_notification)

    def _on_notification(self, _: Any) -> None:
        if isalive(self):
            self._came.emit()

    def _wait(self) -> None:
        QTimer.singleShot(_SHOWN_MS, self._give_clocks)

    def _give_clocks(self) -> None:
        for toast in self.parent().window().findChildren(QDialog):
            if hasattr(toast, "close_with_fade") and not toast.property(_CLOCK):  # no public name tells napari's
                toast.setProperty(_CLOCK, True)  # other docks have clocks too
                clock = QTimer(toast)
                clock.timeout.connect(self._let_go)
                clock.start(LIFE_MS)

    def _let_go(self) -> None:
        """Close a message, unless somebody may be reading it or was not here to read it; asked again later."""
        toast = self.sender().parent()
        if toast.isActiveWindow() and not toast.underMouse() and not toast.property("expanded"):
            toast.close_with_fade()
