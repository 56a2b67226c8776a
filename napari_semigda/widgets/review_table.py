"""The table of images: what it shows, in which order, and how it is looked through."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from napari_semigda.project import Project
from napari_semigda.review import ImageState
from napari_semigda.widgets import words
from napari_semigda.widgets.thumbnails import SIZE, Thumbnails

PICTURE, NAME, STATE, DOUBT, DICE = range(5)
HEADERS = ("", "Name", "State", "Doubt", "Dice")
TIPS = (
    "",
    "The image's file, or its place in the stack.",
    "Unlabelled: nothing is known. Predicted: masks were found. In progress: you painted or accepted some. "
    "Verified: your masks are the truth.",
    "How wrong the masks of the image may be, as a rough guess: 10 % stands for a Dice of about 0.9. "
    "Nothing is known of what the network is wrongly sure of.",
    "How well the masks agreed with yours while this image was kept back from training: 1 is perfect.",
)
WIDTHS = {PICTURE: SIZE[0] + 2, STATE: 80, DOUBT: 46, DICE: 38}

ORDERS = {"order": "In order", "suggested": "Suggested first", "doubt": "Most doubtful", "state": "By state"}
ORDERS |= {"dice": "Lowest Dice"}
BY_COLUMN = {PICTURE: "order", NAME: "order", STATE: "state", DOUBT: "doubt", DICE: "dice"}
_STATES = list(ImageState)
_ROLE = Qt.ItemDataRole


class ImageTable(QAbstractTableModel):
    """One row an image; nothing is copied from the project, so it is right at any time.

    Which rows there are and in which order is settled by `arrange`, so that rows keep still while the user works.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.thumbnails = Thumbnails(self)
        self.thumbnails.made.connect(self._on_made)
        self.project: Project | None = None
        self._planes: list[int] = []
        self._rows: dict[int, int] = {}

    def show(self, project: Project | None) -> None:
        """Show another project's images, or none."""
        self.project = project
        stack = None if project is None else project.stack
        keeper = None if project is None else project.keeper
        read = None if stack is None else lambda number: stack.plane(number).image
        self.thumbnails.show(read, None if keeper is None else keeper.pictures)
        self.arrange("order", None)

    def arrange(self, order: str, state: ImageState | None) -> None:
        """Show images of one state only, or all for None, in one of `ORDERS`."""
        self.beginResetModel()
        planes = [] if self.project is None else range(len(self.project.stack))
        if state is not None:
            planes = [plane for plane in planes if self.project.review.state(plane) is state]
        self._planes = sorted(planes, key=self._key(order)) if self.project is not None else []
        self._rows = {plane: row for row, plane in enumerate(self._planes)}
        self.endResetModel()

    def _key(self, order: str) -> Callable[[int], Any]:
        """What to sort planes by; what is not known comes last, and else the order stays."""
        review = self.project.review
        if order == "suggested":
            place = {plane: at for at, plane in enumerate(review.suggestions())}
            return lambda plane: place.get(plane, len(place))
        if order == "doubt":
            return lambda plane: -1 if (doubt := review.doubt(plane)) is None else -1 - doubt
        if order == "dice":
            return lambda plane: review.dice.get(plane, 2)
        if order == "state":
            return lambda plane: _STATES.index(review.state(plane))
        return lambda plane: plane

    def refresh(self) -> None:
        """Something of the project changed."""
        if self._planes:
            self.dataChanged.emit(self.index(0, NAME), self.index(len(self._planes) - 1, DICE))

    def plane(self, row: int) -> int:
        """The image in a row."""
        return self._planes[row]

    def row(self, plane: int) -> int | None:
        """The row of an image; None when it is not among those shown."""
        return self._rows.get(plane)

    def _on_made(self, plane: int) -> None:
        if (row := self.row(plane)) is not None:
            self.dataChanged.emit(self.index(row, PICTURE), self.index(row, PICTURE), [_ROLE.DecorationRole])

    # -- Qt asks ------------------------------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's way
        return 0 if parent.isValid() else len(self._planes)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's way
        return 0 if parent.isValid() else len(HEADERS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = _ROLE.DisplayRole) -> Any:  # noqa: N802
        if orientation == Qt.Orientation.Horizontal and role in (_ROLE.DisplayRole, _ROLE.ToolTipRole):
            return (HEADERS if role == _ROLE.DisplayRole else TIPS)[section]
        return None

    def data(self, index: QModelIndex, role: int = _ROLE.DisplayRole) -> Any:
        if not index.isValid() or self.project is None:
            return None
        plane, column = self._planes[index.row()], index.column()
        if role == _ROLE.DisplayRole:
            return self._text(plane, column)
        if role == _ROLE.DecorationRole and column == PICTURE:
            return self.thumbnails.get(plane)
        if role == _ROLE.ToolTipRole:
            return self.project.stack.plane_name(plane)
        if role == _ROLE.TextAlignmentRole and column in (DOUBT, DICE):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _text(self, plane: int, column: int) -> str:
        review = self.project.review
        if column == NAME:
            stack = self.project.stack
            return stack.plane_name(plane).removeprefix(f"{stack.name}, ")  # which all would have
        if column == STATE:
            return words.image_state(review.state(plane))
        if column == DOUBT:
            return "" if (doubt := review.doubt(plane)) is None else f"{doubt:.0%}"
        if column == DICE:
            return f"{review.dice[plane]:.2f}" if plane in review.dice else ""
        return ""


class TableView(QTableView):
    """The table on screen: whole rows, no editing, arrow keys; every other key is the viewer's."""

    went_to = Signal(int)
    """The user chose a row: the number of its image."""

    def __init__(self, table: ImageTable, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._table = table
        self._following = False  # the row is set by us, not by the user
        self.setModel(table)
        self.setAccessibleName("Images")
        self.setToolTip("Click an image, or go up and down with the arrow keys, and the viewer shows it.")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setIconSize(QSize(*SIZE))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setMinimumHeight(160)
        rows = self.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)  # no row is measured, however many there are
        rows.setDefaultSectionSize(SIZE[1] + 4)
        columns = self.horizontalHeader()
        columns.setSectionsClickable(True)
        columns.setHighlightSections(False)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        columns.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in WIDTHS.items():
            self.setColumnWidth(column, width)
        self.selectionModel().currentRowChanged.connect(self._on_row)

    def show_known_columns(self) -> None:
        """Leave the room of a column in which no image has a figure to the names."""
        project = self._table.project
        self.setColumnHidden(DICE, project is None or not project.review.dice)

    def follow(self, plane: int) -> None:
        """Choose the row of an image, without announcing it; none when the image is not shown."""
        row = self._table.row(plane)
        if row == self.currentIndex().row():
            return
        self._following = True
        if row is None:
            self.clearSelection()
            self.setCurrentIndex(QModelIndex())
        else:
            self.setCurrentIndex(self._table.index(row, max(self.currentIndex().column(), NAME)))
            self.scrollTo(self.currentIndex())
        self._following = False

    def _on_row(self, current: QModelIndex, _: QModelIndex) -> None:
        if current.isValid() and not self._following:
            self.went_to.emit(self._table.plane(current.row()))

    def moveCursor(self, action: Any, modifiers: Any) -> QModelIndex:  # noqa: N802 - Qt's name
        """Home and End go to the first and the last image; columns cannot be chosen."""
        if action in (self.CursorAction.MoveHome, self.CursorAction.MoveEnd) and self._table.rowCount():
            row = 0 if action == self.CursorAction.MoveHome else self._table.rowCount() - 1
            return self._table.index(row, NAME)
        return super().moveCursor(action, modifiers)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        key = Qt.Key
        if event.key() in (key.Key_Up, key.Key_Down, key.Key_PageUp, key.Key_PageDown, key.Key_Home, key.Key_End):
            super().keyPressEvent(event)
        else:
            event.ignore()  # letters would search the table; napari passes on what nobody takes
