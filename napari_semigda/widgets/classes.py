"""The class picker: colour, number and name of every class; the chosen one is on the brush and can be changed."""

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QKeySequence, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAction,
    QApplication,
    QGridLayout,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QToolButton,
    QVBoxLayout,
    QWidget,
    QWidgetAction,
)

from napari_semigda.classes import Classes, find, plain_name
from napari_semigda.colours import HUES, colour_names, rgb
from napari_semigda.engine.types import MAX_CLASSES
from napari_semigda.widgets import class_words
from napari_semigda.widgets.dock import button, row

NUMBER = int(Qt.ItemDataRole.UserRole)
SHOWN_ROWS = 5


class ClassPicker(QWidget):
    """A list of classes, one chosen, and what can be done to it.

    It shows classes and says what the user wants; who owns the classes changes them and shows them again.
    """

    picked = Signal(int)
    add_wanted = Signal()
    rename_wanted = Signal(int, str)
    recolour_wanted = Signal(int, str)
    move_wanted = Signal(int, int)
    """The class, and by how many places down the list."""
    delete_wanted = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: Classes = ()
        self._list = _List()
        self._list.setToolTip(class_words.PICK_TIP)
        self._list.setAccessibleName("Classes")
        self._list.currentItemChanged.connect(self._on_current)
        self._list.itemClicked.connect(lambda item: self.picked.emit(item.data(NUMBER)))
        self._list.itemChanged.connect(self._on_edited)
        self._list.digit_pressed.connect(self._on_digit)
        self.add = button("+ Add class", "One more class to paint, with the next number and colour.")
        self.add.clicked.connect(self.add_wanted)
        self.change = button("Change class", "Rename, recolour, move or delete the chosen class. Ctrl+Z takes it back.")
        self._make_actions()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._list)
        layout.addLayout(row(self.add, self.change, stretch=(1, 1)))
        self.setFocusProxy(self._list)
        self._fit()

    def _make_actions(self) -> None:
        """The same actions in the menu of the button and in that of a right click."""
        self.rename = self._action("Rename", "F2", lambda: self._list.editItem(self._list.currentItem()))
        self.colours = ColourMenu("Colour", self)
        self.colours.chosen.connect(lambda colour: self.recolour_wanted.emit(self.current(), colour))
        self.up = self._action("Move up", "Alt+Up", lambda: self.move_wanted.emit(self.current(), -1))
        self.down = self._action("Move down", "Alt+Down", lambda: self.move_wanted.emit(self.current(), 1))
        self.delete = self._action("Delete…", "Del", lambda: self.delete_wanted.emit(self.current()))
        menu = QMenu(self)
        actions = [self.rename, self.colours.menuAction(), self.up, self.down, self.delete]
        menu.addActions(actions)
        self.change.setMenu(menu)
        self._list.addActions(actions)
        self._list.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)

    def _action(self, text: str, key: str, do: object) -> QAction:
        action = QAction(text, self)
        action.setShortcut(QKeySequence(key))
        action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)  # in the list, never while painting
        action.triggered.connect(lambda _: do())
        return action

    def value(self) -> Classes:
        """What is shown."""
        return self._classes

    def setValue(self, classes: Classes) -> None:  # noqa: N802 - Qt's way
        """Show other classes, without announcing anything."""
        current = self.current()
        self._classes = classes
        self._list.blockSignals(True)
        while self._list.count() > len(classes):
            self._list.takeItem(self._list.count() - 1)
        for at, each in enumerate(classes):  # items stay: one may be what the user is typing into
            item = self._list.item(at) or QListWidgetItem(self._list)
            item.setText(each.name)
            item.setIcon(_swatch(each.number, each.colour))
            item.setData(NUMBER, each.number)
            item.setToolTip(class_words.class_tip(each.number, each.name))
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
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
        places = [each.number for each in self._classes]
        at = places.index(number) if number in places else -1
        self._list.blockSignals(True)
        self._list.setCurrentRow(at)
        for place in range(self._list.count()):  # in the light theme the ground alone hardly tells which it is
            item = self._list.item(place)
            font = item.font()
            font.setBold(place == at)
            item.setFont(font)
        self._list.blockSignals(False)
        self._enable()

    def edit_name(self, number: int) -> None:
        """Let the user type the name of a class."""
        self.set_current(number)
        if (item := self._list.currentItem()) is not None:
            self._list.setFocus()
            self._list.editItem(item)

    def _enable(self) -> None:
        at, count = self._list.currentRow(), self._list.count()
        self.change.setEnabled(at >= 0)
        for action in (self.rename, self.colours.menuAction()):
            action.setEnabled(at >= 0)
        self.up.setEnabled(at > 0)
        self.down.setEnabled(0 <= at < count - 1)
        self.delete.setEnabled(at >= 0 and count > 1)
        if at >= 0:
            self.colours.setValue(self._classes, self.current())

    def _on_current(self, item: QListWidgetItem | None, _: QListWidgetItem | None) -> None:
        if item is not None:
            self.set_current(item.data(NUMBER))
            self.picked.emit(item.data(NUMBER))

    def _on_digit(self, number: int) -> None:
        if find(self._classes, number) is not None:
            self.set_current(number)
            self.picked.emit(number)

    def _on_edited(self, item: QListWidgetItem) -> None:
        self.rename_wanted.emit(item.data(NUMBER), item.text().strip() or plain_name(item.data(NUMBER)))

    def _fit(self) -> None:
        """As high as the classes need, up to a few rows; the rest scrolls."""
        rows = min(max(self._list.count(), 1), SHOWN_ROWS)
        height = self._list.sizeHintForRow(0) if self._list.count() else self.fontMetrics().height() + 6
        self._list.setFixedHeight(rows * height + 2 * self._list.frameWidth() + 2)


class _List(QListWidget):
    """A list whose letters and digits stay keys of the docks: a plain one would look for a name that begins so."""

    digit_pressed = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setIconSize(QSize(18, 18))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Digits choose a class, other letters go on to the viewer."""
        if event.text().isdigit() and event.text() != "0":
            self.digit_pressed.emit(int(event.text()))
        elif event.text().strip().isprintable() and event.text().strip():
            event.ignore()
        else:
            super().keyPressEvent(event)


class ColourMenu(QMenu):
    """A menu of the colours that a class can have, all of them apart from each other to colour-blind eyes."""

    chosen = Signal(str)
    """``"#rrggbb"``."""

    def __init__(self, title: str, parent: QWidget) -> None:
        super().__init__(title, parent)
        self.buttons: dict[str, QToolButton] = {}
        grid = QGridLayout()
        grid.setContentsMargins(4, 4, 4, 4)
        grid.setSpacing(2)
        for at, (colour, name) in enumerate(colour_names().items()):
            made = self.buttons[colour] = QToolButton()
            made.setIconSize(QSize(20, 20))
            made.setAutoRaise(True)
            made.setAccessibleName(name)
            made.setToolTip(f"{name}: a colour for the class")
            made.clicked.connect(lambda _, colour=colour: self._on_clicked(colour))
            grid.addWidget(made, at // len(HUES), at % len(HUES))
        holder = QWidget()
        holder.setLayout(grid)
        action = QWidgetAction(self)
        action.setDefaultWidget(holder)
        self.addAction(action)

    def setValue(self, classes: Classes, number: int) -> None:  # noqa: N802 - Qt's way
        """Show which classes have which colours; it is about class `number`."""
        owner = {each.colour: each for each in classes}
        for colour, name in colour_names().items():
            made, its = self.buttons[colour], owner.get(colour)
            made.setIcon(_swatch(its.number if its else 0, colour))
            if its is None:
                made.setToolTip(f"{name}: show this class in it")
            else:
                exchanged = "" if its.number == number else "; the two are exchanged"
                made.setToolTip(f"{name}: the colour of {its.name}{exchanged}")

    def _on_clicked(self, colour: str) -> None:
        while (menu := QApplication.activePopupWidget()) is not None:  # a click on a widget leaves the menus open
            menu.close()
        self.chosen.emit(colour)


def _swatch(number: int, colour: str) -> QIcon:
    """A colour with the number of its class on it, in black or white, whichever is easier to read; 0 is left out."""
    pixmap = QPixmap(36, 36)
    fill = QColor(*rgb(colour))
    pixmap.fill(fill)
    if number:
        painter = QPainter(pixmap)
        font = painter.font()
        font.setPixelSize(24)
        painter.setFont(font)
        painter.setPen(Qt.GlobalColor.black if fill.lightness() > 100 else Qt.GlobalColor.white)
        painter.drawText(pixmap.rect(), int(Qt.AlignmentFlag.AlignCenter), str(number))
        painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # or Qt tints the chosen colour, which is then another one
    return icon
