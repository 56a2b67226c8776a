"""Whether slices of a volume are smoothed, and over which length."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QWidget

_USUAL = 1.0
_MOST = 50.0
_TIP = (
    "For volumes (CT, MRI, confocal): average what the model sees with the slices before and behind, so that borders "
    "do not jump from slice to slice. It helps where images are noisy or of uneven brightness, and costs fine detail "
    "where they are clean. Single images and time points stay as they are."
)
_WIDTH_TIP = (
    "How far along the volume; slices that lie further apart than this are left as they are. In mm, in µm for files "
    "that count in µm, in slices for files that do not tell how far apart they are."
)


class SmoothChoice(QWidget):
    """A box to tick and a length. Off at first: whether it helps depends on the images."""

    valueChanged = Signal(float)  # noqa: N815 - Qt's way

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QCheckBox("Smooth between slices")
        self.box.setToolTip(_TIP)
        self.width_box = QDoubleSpinBox()
        self.width_box.setRange(0.05, _MOST)
        self.width_box.setDecimals(2)
        self.width_box.setSingleStep(0.5)
        self.width_box.setValue(_USUAL)
        self.width_box.setToolTip(_WIDTH_TIP)
        self.width_box.setAccessibleName("Width to smooth between slices")
        self.width_box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)  # they would leave no room for the unit
        self.width_box.setEnabled(False)
        self.show_unit("mm")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box)
        layout.addWidget(self.width_box, 1)
        self.box.toggled.connect(self.width_box.setEnabled)
        self.box.toggled.connect(lambda _: self.valueChanged.emit(self.value()))
        self.width_box.valueChanged.connect(lambda _: self.valueChanged.emit(self.value()))

    def value(self) -> float:
        """The width, 0 while the box is not ticked."""
        return self.width_box.value() if self.box.isChecked() else 0.0

    def setValue(self, width: float) -> None:  # noqa: N802 - Qt's way
        """Choose a width; 0 takes the tick away and leaves the length for the next time."""
        if width > 0:
            self.width_box.setValue(width)
        self.box.setChecked(width > 0)

    def show_unit(self, unit: str) -> None:
        """Say what the length is counted in."""
        self.width_box.setSuffix(f" {unit}")

    @property
    def parts(self) -> tuple[QWidget, QWidget]:
        """Both, in the order of the Tab key."""
        return self.box, self.width_box
