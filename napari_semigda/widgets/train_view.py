"""The look of the Train dock: one column of small widgets, and which of them can be used when."""

from itertools import pairwise

from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_semigda.widgets import keys, words
from napari_semigda.widgets.choices import Advanced, LayerChoice, TimeChoice
from napari_semigda.widgets.classes import ClassPicker
from napari_semigda.widgets.dock import Dock, button, line, row
from napari_semigda.widgets.export import ExportButton
from napari_semigda.widgets.problem import ReportButton
from napari_semigda.widgets.progress import RunView
from napari_semigda.widgets.project_row import ProjectRow
from napari_semigda.widgets.rounds import RoundChoice
from napari_semigda.widgets.style import ClassNote, StyleChoice
from napari_semigda.widgets.words import State


class TrainView(Dock):
    """Composition only: what the widgets mean is the dock's business."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("SemiGDA: Train")
        self._make_widgets()
        layout = QVBoxLayout()
        layout.addWidget(self.project_row)
        layout.addLayout(self._layers_form())
        layout.addWidget(QLabel("Classes"))
        layout.addWidget(self.classes)
        layout.addWidget(self.style)
        layout.addWidget(self.class_note)
        layout.addWidget(line())
        layout.addWidget(QLabel("Training time"))
        layout.addWidget(self.time)
        layout.addLayout(row(self.train_button, self.stop_button, stretch=(2, 1)))
        layout.addWidget(self.run)
        layout.addWidget(self.anyway_button)
        layout.addWidget(self.round_choice)
        layout.addWidget(line())
        layout.addLayout(row(self.accept_button, self.toggle_button, stretch=(1, 1)))
        layout.addLayout(row(self.doubt_box, self.keys_button, stretch=(2, 1)))
        layout.addWidget(self.advanced)
        self.fill(layout)
        self._set_tab_order()

    def _make_widgets(self) -> None:
        self.project_row = ProjectRow()
        self.images = LayerChoice(
            name="Images", tooltip="The images to learn from: a picture, or a stack whose slices are separate images."
        )
        self.masks = LayerChoice(
            name="My masks", tooltip="The layer you paint on. It is yours: only Accept slice ever writes to it."
        )
        self.new_masks_button = button(
            "New masks", "Make an empty masks layer for these images, with the brush and class 1 ready."
        )
        self.counts = QLabel()
        self.counts.setToolTip(
            "How many images hold any paint, and how many you verified to hold none of your classes. "
            "The others are learnt from without masks."
        )
        self.classes = ClassPicker()
        self.style = StyleChoice()
        self.class_note = ClassNote()
        self.time = TimeChoice()
        self.train_button = button(keys.label(keys.TRAIN), keys.tip(keys.TRAIN))
        self.stop_button = button(keys.TABLE[keys.STOP].name, keys.tip(keys.STOP))
        self.run = RunView()
        self.round_choice = RoundChoice()
        self.anyway_button = button(
            "Use the new round anyway", "Predict with the newest model although it scored lower."
        )
        self.accept_button = button(keys.label(keys.ACCEPT), keys.tip(keys.ACCEPT))
        self.toggle_button = button(keys.label(keys.TOGGLE), keys.tip(keys.TOGGLE))
        self.doubt_box = QCheckBox(words.DOUBT_BOX)
        self.doubt_box.setToolTip(words.DOUBT_BOX_TIP)
        self.keys_button = button(keys.label(keys.SHEET), keys.tip(keys.SHEET))
        self.advanced = Advanced()
        self.save_button = button(
            "Save model…", "Save what was learnt as one .semigda file, to predict other images with."
        )
        self.advanced.add_row(self.save_button)
        self.export_button = ExportButton()
        self.advanced.add_row(self.export_button)
        self.report_button = ReportButton()
        self.advanced.add_row(self.report_button)

    def _layers_form(self) -> QFormLayout:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Images", self.images)
        form.addRow("My masks", self.masks)
        form.addRow(self.new_masks_button, self.counts)
        return form

    def _set_tab_order(self) -> None:
        order = [
            self.project_row.button,
            self.images,
            self.masks,
            self.new_masks_button,
            self.classes,
            self.classes.add,
            self.classes.change,
            self.style,
            self.time,
            self.train_button,
        ]
        order += [
            self.train_button,
            self.stop_button,
            self.round_choice,
            self.accept_button,
            self.toggle_button,
            self.doubt_box,
            self.keys_button,
            self.advanced,
        ]
        for one, following in pairwise(order):
            QWidget.setTabOrder(one, following)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def enable_for(self, state: State, *, predicted: bool, saved: bool) -> None:
        """Enable what makes sense in `state`, given whether there is a prediction and a model."""
        running = state in words.RUNNING
        has_images = state is not State.NO_IMAGES
        for widget in (self.images, self.masks):
            widget.setEnabled(not running)
        self.new_masks_button.setEnabled(has_images and not running)
        for widget in (self.classes, self.style):
            widget.setEnabled(state not in (State.NO_IMAGES, State.NO_MASKS))
        self.time.setEnabled(not running)
        self.round_choice.setEnabled(not running)
        self.advanced.enable_form(not running)
        self.train_button.setEnabled(state in words.CAN_TRAIN)
        self.stop_button.setEnabled(state in words.CAN_STOP)
        for widget in (self.accept_button, self.toggle_button, self.doubt_box):
            widget.setEnabled(predicted)
        self.anyway_button.setVisible(state is State.WORSE)
        for widget in (self.save_button, self.export_button):
            widget.setEnabled(saved)
