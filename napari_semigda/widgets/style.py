"""Which of the two styles of painting is on, in words, and what an edit of the classes has done."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_semigda.widgets.class_words import STYLE_TIPS, STYLES


class StyleChoice(QWidget):
    """Whole images or scribbles. Its value says whether scribbles are on."""

    valueChanged = Signal(bool)  # noqa: N815 - Qt's way

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QComboBox()
        self._box.setAccessibleName("Style of painting")
        for at, (scribbles, words) in enumerate(STYLES.items()):
            self._box.addItem(words, scribbles)
            self._box.setItemData(at, STYLE_TIPS[scribbles], int(Qt.ItemDataRole.ToolTipRole))
        self._box.setMinimumWidth(90)
        self._box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._box.currentIndexChanged.connect(lambda _: self._on_changed())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._show_tip()

    def value(self) -> bool:
        """Whether scribbles are on."""
        return self._box.currentData()

    def setValue(self, scribbles: bool) -> None:  # noqa: N802 - Qt's way
        """Show a style, without announcing anything."""
        self._box.blockSignals(True)
        self._box.setCurrentIndex(list(STYLES).index(scribbles))
        self._box.blockSignals(False)
        self._show_tip()

    def _on_changed(self) -> None:
        self._show_tip()
        self.valueChanged.emit(self.value())

    def _show_tip(self) -> None:
        self._box.setToolTip(f"How you paint. {STYLE_TIPS[self.value()]}")


class ClassNote(QLabel):
    """A sentence below the classes, there only when it has something to say."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hide()

    def say(self, sentence: str) -> None:
        """Show a sentence; an empty one hides it."""
        self.setText(sentence)
        self.setVisible(bool(sentence))

    def clear_it(self) -> None:
        """Say nothing: something else was done since."""
        self.say("")
