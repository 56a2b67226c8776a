"""The sheet of keys: a small window that stays beside the viewer while one works."""

from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QWidget

from napari_semigda.widgets import keys

WIDTH = 460  # of the text: the whole sheet fits a screen of 1280 x 720 with room for the viewer beside it


class KeySheet(QDialog):
    """All keys of `keys.TABLE` with what they do; it never takes the keyboard from the viewer.

    Parameters
    ----------
    window : QWidget
        The viewer's window, whose colours it has and with which it closes.
    """

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self.setWindowTitle("SemiGDA: Keys")
        self.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)
        self._wrapped: list[QLabel] = []
        self._grid = QGridLayout(self)
        self._grid.setColumnStretch(2, 1)
        self._grid.setHorizontalSpacing(14)
        for place, its in keys.by_place():
            self._grid.addWidget(_text(place, bold=True), self._grid.rowCount(), 0, 1, 3)
            for key in its:
                self._add(keys.shown(key), keys.TABLE[key].name, keys.TABLE[key].tip)

    def _add(self, *texts: str) -> None:
        row = self._grid.rowCount()
        for column, text in enumerate(texts):
            label = _text(text, bold=column == 0)
            self._grid.addWidget(label, row, column, Qt.AlignmentFlag.AlignTop)
        label.setWordWrap(True)
        label.setFixedWidth(WIDTH)
        self._wrapped.append(label)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Only now is the viewer's font known, and with it how high the texts are."""
        for label in self._wrapped:
            label.ensurePolished()
            label.setFixedHeight(label.heightForWidth(WIDTH))
        self.adjustSize()
        super().showEvent(event)


def toggle_sheet(window: QWidget) -> KeySheet:
    """Show the sheet of a viewer's window, or put it away when it is on show; there is one for each window."""
    sheet = window.findChild(KeySheet) or KeySheet(window)
    sheet.setVisible(not sheet.isVisible())
    return sheet


def _text(text: str, bold: bool = False) -> QLabel:
    label = QLabel(text)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    font = label.font()
    font.setBold(bold)
    label.setFont(font)
    return label
