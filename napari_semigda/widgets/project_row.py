"""The quiet row at the top of the Train dock: which project is open, and a menu to make, open and close one."""

from pathlib import Path

from qtpy.QtCore import QSettings, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QMenu, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget

MOST_RECENT = 8
NO_PROJECT = "No project"
SAVED = ("saved as you go", "Every stroke is on disk within two seconds.")


class Recent:
    """Projects opened lately, newest first; remembered on this computer."""

    def __init__(self) -> None:
        self._settings = QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-semigda", "recent")

    def value(self) -> list[Path]:
        """Those whose folders can be found."""
        return [path for path in self._all() if path.is_dir()]

    def add(self, folder: Path) -> None:
        """Put `folder` first."""
        others = [path for path in self._all() if path != folder]
        self._settings.setValue("projects", [str(path) for path in [folder, *others][:MOST_RECENT]])
        self._settings.sync()

    def _all(self) -> list[Path]:
        stored = self._settings.value("projects") or []
        return [Path(each) for each in ([stored] if isinstance(stored, str) else stored)]


class ProjectRow(QWidget):
    """A button with a menu, a word on saving, and now and then an offer; its value is the open project's folder."""

    new_wanted = Signal()
    open_wanted = Signal(object)
    """A folder, or None to ask for one."""
    close_wanted = Signal()
    accepted = Signal(object)
    """The folder that was offered."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.recent = Recent()
        self._folder: Path | None = None
        self._offered: Path | None = None
        self.button = QToolButton()
        self.button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.button.setAccessibleName("Project")
        self.button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.menu = QMenu(self.button)
        self.menu.setToolTipsVisible(True)
        self.menu.aboutToShow.connect(self._fill)
        self.button.setMenu(self.menu)
        self.saved = QLabel()
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.button, 1)
        top.addWidget(self.saved)
        self._offer = QLabel()
        self._offer.setWordWrap(True)
        self._offer.setTextFormat(Qt.TextFormat.PlainText)
        self.yes = QPushButton()
        self.yes.setToolTip("Masks, classes and models are then saved as you go, in a folder beside the images.")
        self.no = QPushButton("Not now")
        self.no.setToolTip("Go on with the layers as they are; nothing is saved by itself.")
        choice = QHBoxLayout()
        choice.setContentsMargins(0, 0, 0, 0)
        choice.addWidget(self.yes, 1)
        choice.addWidget(self.no)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(top)
        column.addWidget(self._offer)
        column.addLayout(choice)
        self.yes.clicked.connect(lambda: self.accepted.emit(self._offered))
        self.no.clicked.connect(lambda: self.offer(None))
        self.offer(None)
        self.setValue(None)

    def value(self) -> Path | None:
        """The folder of the open project."""
        return self._folder

    def setValue(self, folder: Path | None) -> None:  # noqa: N802 - Qt's way
        """Show which project is open."""
        self._folder = folder
        self.button.setText(NO_PROJECT if folder is None else folder.name)
        self.button.setToolTip(
            "Make or open a project: a folder of images in which masks, classes and models are saved as you go."
            if folder is None
            else f"The project in {folder}. Click to open another one or to close it."
        )
        self.show_saved(*(("", "") if folder is None else SAVED))

    def show_saved(self, words: str, tip: str) -> None:
        """Show a word on saving."""
        self.saved.setText(words)
        self.saved.setToolTip(tip)

    def offer(self, folder: Path | None, sentence: str = "", yes: str = "") -> None:
        """Offer something about a folder; None takes the offer away."""
        self._offered = folder
        self._offer.setText(sentence)
        self.yes.setText(yes)
        for widget in (self._offer, self.yes, self.no):
            widget.setVisible(folder is not None)

    def offered(self) -> Path | None:
        """The folder that an offer on show is about."""
        return self._offered

    def _fill(self) -> None:
        self.menu.clear()
        add = self.menu.addAction
        add("New project from a folder of images…", self.new_wanted.emit)
        add("Open project…", lambda: self.open_wanted.emit(None))
        recent = [folder for folder in self.recent.value() if folder != self._folder]
        if recent:
            self.menu.addSeparator()
        for folder in recent:
            add(folder.name, lambda folder=folder: self.open_wanted.emit(folder)).setToolTip(str(folder))
        if self._folder is not None:
            self.menu.addSeparator()
            add("Close project", self.close_wanted.emit)
