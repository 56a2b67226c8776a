"""The class picker: colour, number and name of every class; the chosen one is on the brush."""

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from napari_semigda.colours import class_colour
from napari_semigda.engine.types import MAX_CLASSES

NUMBER = int(Qt.ItemDataRole.UserRole)
SHOWN_ROWS = 4


class ClassPicker(QWidget):
    """A list of classes, one chosen; a double click renames.

    Its value is a dict of names by class id.
    """

    valueChanged = Signal(object)  # noqa: N815 - Qt's way
    """All names by class id, after a rename or an addition."""
    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._list = QListWidget()
        self._list.setToolTip(
            "Click a class to paint it. Double-click to rename it. napari's keys - and = step through."
        )
        self._list.setAccessibleName("Classes")
        self._list.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        self._list.setIconSize(QSize(18, 18))
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.currentItemChanged.connect(self._on_current)
        self._list.itemClicked.connect(lambda item: self.picked.emit(item.data(NUMBER)))
        self._list.itemChanged.connect(self._on_edited)
        self.add = QPushButton("+ add class")
        self.add.setToolTip("One more class to paint, with the next number and colour.")
        self.add.clicked.connect(self.add_class)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._list)
        layout.addWidget(self.add)
        self._fit()

    def value(self) -> dict[int, str]:
        """Names by class id."""
        items = (self._list.item(row) for row in range(self._list.count()))
        return {item.data(NUMBER): item.text() for item in items}

    def setValue(self, classes: dict[int, str]) -> None:  # noqa: N802 - Qt's way
        """Show other classes, without announcing anything."""
        if classes == self.value():
            return
        current = self.current()
        self._list.blockSignals(True)
        self._list.clear()
        for number, name in classes.items():
            item = QListWidgetItem(_swatch(number), name)
            item.setData(NUMBER, number)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            self._list.addItem(item)
        self._list.blockSignals(False)
        self.add.setEnabled(len(classes) < MAX_CLASSES)
        self._fit()
        self.set_current(current)

    def current(self) -> int:
        """Id of the class that is chosen, 0 when none is."""
        item = self._list.currentItem()
        return item.data(NUMBER) if item is not None else 0

    def set_current(self, number: int) -> None:
        """Choose a class, without announcing anything; one that is not in the list chooses nothing."""
        rows = [row for row in range(self._list.count()) if self._list.item(row).data(NUMBER) == number]
        self._list.blockSignals(True)
        self._list.setCurrentRow(rows[0] if rows else -1)
        self._list.blockSignals(False)

    def add_class(self) -> None:
        """Append a class with the lowest free number and choose it."""
        classes = self.value()
        number = next(n for n in range(1, 256) if n not in classes)
        self.setValue(dict(sorted((classes | {number: f"class {number}"}).items())))
        self.set_current(number)
        self.valueChanged.emit(self.value())
        self.picked.emit(number)

    def _on_current(self, item: QListWidgetItem | None, _: QListWidgetItem | None) -> None:
        if item is not None:
            self.picked.emit(item.data(NUMBER))

    def _on_edited(self, item: QListWidgetItem) -> None:
        if not item.text().strip():
            item.setText(f"class {item.data(NUMBER)}")  # announces itself
            return
        self.valueChanged.emit(self.value())

    def _fit(self) -> None:
        """As high as the classes need, up to a few rows; the rest scrolls."""
        rows = min(max(self._list.count(), 1), SHOWN_ROWS)
        row = self._list.sizeHintForRow(0) if self._list.count() else self.fontMetrics().height() + 6
        self._list.setFixedHeight(rows * row + 2 * self._list.frameWidth() + 2)


def _swatch(number: int) -> QIcon:
    """The class colour with the number on it, in black or white, whichever is easier to read."""
    pixmap = QPixmap(36, 36)
    colour = QColor(*class_colour(number))
    pixmap.fill(colour)
    painter = QPainter(pixmap)
    font = painter.font()
    font.setPixelSize(24)
    painter.setFont(font)
    painter.setPen(Qt.GlobalColor.black if colour.lightness() > 100 else Qt.GlobalColor.white)
    painter.drawText(pixmap.rect(), int(Qt.AlignmentFlag.AlignCenter), str(number))
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # or Qt tints the chosen colour, which is then another one
    return icon
