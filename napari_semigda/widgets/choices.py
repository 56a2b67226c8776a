"""Small choosers: a layer, a time, the advanced settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, Select, SpinBox
from napari.layers import Layer
from qtpy.QtCore import QEvent, Signal
from qtpy.QtWidgets import QButtonGroup, QComboBox, QGridLayout, QRadioButton, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_semigda.engine.planner import TimeName, chosen_time
from napari_semigda.engine.types import ContrastName, Settings
from napari_semigda.stacks import ImageStack, StackName

NOTHING = "(none)"
_KINDS: tuple[tuple[StackName, str], ...] = (
    ("slices", "One volume"),
    ("times", "Time points"),
    ("images", "Separate images"),
)
_CONTRASTS: tuple[tuple[str, ContrastName], ...] = (
    ("Automatic", "auto"),
    ("Each image by itself", "image"),
    ("Each volume by itself", "volume"),
    ("All images alike", "dataset"),
)


class LayerChoice(QWidget):
    """A combo box of layers that follows what the viewer has.

    Parameters
    ----------
    tooltip : str
        What the chosen layer is used for.
    """

    valueChanged = Signal(object)  # noqa: N815 - Qt's way
    """A layer, or None."""

    def __init__(self, *, tooltip: str, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = ComboBox(choices=[(NOTHING, None)])
        self._box.changed.connect(self.valueChanged.emit)
        box: QComboBox = self._box.native
        box.setToolTip(tooltip)
        box.setAccessibleName(name)
        # A long layer name must not make the dock wider.
        box.setMinimumWidth(90)
        box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(box)
        self.setFocusProxy(box)

    def value(self) -> Layer | None:
        """The chosen layer."""
        return self._box.value

    def setValue(self, layer: Layer | None) -> None:  # noqa: N802 - Qt's way
        """Choose a layer that is among the choices; None is always."""
        if layer != self._box.value:
            self._box.value = layer

    def set_choices(self, choices: list[tuple[str, Layer]], chosen: Layer | None) -> None:
        """Show `choices` (text, layer), with `chosen` chosen, without announcing anything."""
        entries = [(NOTHING, None), *choices]
        if len(choices) == 1 and chosen is not None:
            entries = choices  # there is nothing else to choose
        with self._box.changed.blocked():
            self._box.choices = entries
            self._box.value = chosen


class TimeChoice(QWidget):
    """How long a round takes: four words for it, each with a time for the first round and one for corrections."""

    valueChanged = Signal(str)  # noqa: N815 - Qt's way
    """One of `TIMES`."""

    TIMES: Mapping[TimeName, tuple[str, str]] = {
        "quick": (
            "Quick",
            "About one minute, and 12 seconds for a correction. Enough to see where the masks are going.",
        ),
        "standard": (
            "Standard",
            "About five minutes, and one minute for a correction. Learns more from the unlabelled images.",
        ),
        "thorough": (
            "Thorough",
            "About twenty minutes, and four for a correction. For the last round, when the masks are painted well.",
        ),
        "best": (
            "Until it stops improving",
            "Goes on while the masks on images kept back still get better, for an hour at most (a correction: twelve "
            "minutes). Stop ends it earlier and keeps the best result so far.",
        ),
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        self._group = QButtonGroup(self)
        self._buttons = {}
        for index, (time, (word, tip)) in enumerate(self.TIMES.items()):
            button = self._buttons[time] = QRadioButton(word)
            button.setToolTip(tip)
            self._group.addButton(button, index)
            layout.addWidget(button, index // 3, index % 3, 1, 1 if index < 3 else 3)
        layout.setColumnStretch(2, 1)
        self._buttons["quick"].setChecked(True)
        self._group.idToggled.connect(lambda _, on: on and self.valueChanged.emit(self.value()))

    def value(self) -> TimeName:
        """The chosen time."""
        return list(self.TIMES)[self._group.checkedId()]

    def setValue(self, time: TimeName) -> None:  # noqa: N802 - Qt's way
        """Choose a time."""
        self._buttons[time].setChecked(True)


@dataclass(frozen=True)
class AdvancedValue:
    """What the Advanced fold says."""

    device: str = "auto"
    backbone: str = "auto"
    unlabelled: bool = True
    seed: int = 0
    afresh: bool = False
    channels: tuple[int, ...] = ()
    contrast: ContrastName = "auto"
    stack: str = "auto"

    @property
    def kind(self) -> StackName | None:
        """What the user says that the slices of a stack are; None when nothing."""
        return None if self.stack == "auto" else self.stack

    def settings(self, time: TimeName, correction: bool, sparse: bool = False) -> Settings:
        """For the engine: all this, the style of painting, and a time, of which a correction takes a fifth."""
        plain = Settings(
            **chosen_time(time, correction=correction),
            backbone=self.backbone,
            device=self.device,
            sparse=sparse,
            seed=self.seed,
            channels=self.channels,
            contrast=self.contrast,
        )
        return plain if self.unlabelled else replace(plain, unlabelled_weight=0.0)


class Advanced(QCollapsible):
    """The fold that nobody has to open."""

    valueChanged = Signal(object)  # noqa: N815 - Qt's way

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Advanced", parent, expandedIcon="▼", collapsedIcon="▶")
        self.setDuration(0)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.toggleButton().setToolTip("Settings with good defaults: device, network, seed.")
        self.device = ComboBox(
            label="Device",
            choices=[("Automatic", "auto"), ("CPU", "cpu"), ("NVIDIA GPU", "cuda"), ("Apple GPU", "mps")],
            tooltip="Which processor trains. Automatic takes a graphics card when there is one.",
        )
        self.backbone = ComboBox(
            label="Network",
            choices=[("Automatic", "auto"), ("Compact", "compact"), ("Tiny", "tiny"), ("Stable Diffusion", "sd")],
            tooltip="The pretrained image network to build on. Compact comes with the plugin and suits a laptop; "
            "the others need the diffusers package, and Stable Diffusion a graphics card.",
        )
        self.unlabelled = CheckBox(
            text="Use unlabelled images",
            value=True,
            tooltip="Learn from the images without paint as well. Switch off to compare.",
        )
        self.seed = SpinBox(
            label="Seed", min=0, max=999_999, tooltip="The same seed and masks give the same training again."
        )
        self.afresh = CheckBox(
            text="Train from the start",
            tooltip="Forget what earlier rounds learnt, and take the full time again. It helps after you changed your "
            "mind about what belongs to a class, or when corrections no longer help. Left off, a round goes on from "
            "the model in use and takes a fifth of the time.",
        )
        self.channels = Select(
            label="Channels",
            choices=[],
            tooltip="Which channels to learn from: up to three, Ctrl+click for several; none chosen takes the first "
            "three. The model keeps the choice, and later rounds go on with it.",
        )
        self.channels.native.setMaximumHeight(90)
        self.contrast = ComboBox(
            label="Contrast",
            choices=_CONTRASTS,
            tooltip="What is black and what is white. All images alike suits CT and measured values, where a grey "
            "value means something; each volume by itself suits MRI; each image by itself suits photographs and "
            "microscopes. Automatic finds out which from your masks. 8-bit colours stay as they are. "
            "The model keeps the choice, and later rounds go on with it.",
        )
        self.stack = ComboBox(
            label="Slider",
            choices=[("Automatic", "auto")],
            tooltip="What the slider goes through. Neighbouring slices of one volume, or points in time, look alike: "
            "beside one that is kept back to measure the Dice, none is learnt from until it is measured. Separate "
            "images have no neighbours.",
        )
        self._form = Container(
            widgets=[
                *(self.device, self.backbone, self.seed, self.channels, self.contrast, self.stack),
                *(self.unlabelled, self.afresh),
            ],
            labels=True,
        )
        self._form.margins = (0, 0, 0, 0)
        for each in (self.channels, self.contrast, self.stack):  # long words must not make the dock wider
            each.native.setMinimumWidth(90)
            each.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.show_stack(None)
        self._form.changed.connect(lambda _: self.valueChanged.emit(self.value()))
        self.addWidget(self._form.native)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """The arrow is drawn in the text colour of the moment: draw it anew when the theme changes."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self.setExpandedIcon("▼")
            self.setCollapsedIcon("▶")

    def value(self) -> AdvancedValue:
        """What is set."""
        return AdvancedValue(
            self.device.value,
            self.backbone.value,
            self.unlabelled.value,
            self.seed.value,
            self.afresh.value,
            tuple(self.channels.value),
            self.contrast.value,
            self.stack.value,
        )

    def show_stack(self, stack: ImageStack | None) -> None:
        """Offer what there is to choose for these images; what was chosen for others is forgotten."""
        count = 0 if stack is None else stack.channels
        several = stack is not None and len(stack) > 1
        with self._form.changed.blocked():
            self.channels.choices = [(f"Channel {number}", number) for number in range(1, count + 1)]
            self.channels.value = []
            self.stack.value = "auto"
            guess = f" ({dict(_KINDS)[stack.kind].lower()})" if several else ""
            self.stack.choices = [(f"Automatic{guess}", "auto"), *((word, kind) for kind, word in _KINDS)]
        self.channels.visible = count > 0
        self.stack.visible = several

    def setValue(self, value: AdvancedValue) -> None:  # noqa: N802 - Qt's way
        """Set everything; announced once."""
        with self._form.changed.blocked():
            for name, setting in vars(value).items():
                getattr(self, name).value = list(setting) if name == "channels" else setting
        self.valueChanged.emit(value)

    def enable_form(self, enabled: bool) -> None:
        """Nothing of it can change during a run."""
        self._form.enabled = enabled

    def add_row(self, widget: Any) -> None:
        """Put one more widget below the settings."""
        self.addWidget(widget)
