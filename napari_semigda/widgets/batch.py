"""The dock "SemiGDA: Batch": a saved model, a folder of images, a folder of masks."""

from itertools import pairwise
from pathlib import Path

from magicgui.widgets import FileEdit
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from napari_semigda.engine.exchange import Job, Outcome
from napari_semigda.engine.header import read_header
from napari_semigda.engine.types import BatchReport, BatchRequest, EngineError, Report
from napari_semigda.images import find_images
from napari_semigda.scratch import Scratch
from napari_semigda.widgets import words
from napari_semigda.widgets.dock import Dock, button, row
from napari_semigda.widgets.problem import note_failure
from napari_semigda.widgets.progress import RunView, text_label
from napari_semigda.widgets.runner import Failure, Runner
from napari_semigda.widgets.smoothing import SmoothChoice

PAUSE_MS = 300  # after the last key in a path, until its folder is looked into: on a network drive that takes seconds


class BatchDock(Dock):
    """Run a model that was saved before over a folder of image files; needs no layers.

    Parameters
    ----------
    runner : Runner, optional
        What runs the predicting process.
    """

    running_changed = Signal(bool)

    def __init__(self, *, runner: Runner | None = None) -> None:
        super().__init__()
        self.setWindowTitle("SemiGDA: Batch")
        self.runner = runner or Runner()
        self.running = False
        self._files: tuple[Path, ...] = ()
        self._problem = ""  # with the images, as a sentence
        self._suggested: Path | None = None  # the folder for masks that we, not the user, wrote down
        self._report = BatchReport(0)
        self._generation = 0
        self._scratch = Scratch()
        self._typing = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._make_widgets()
        self._lay_out()
        self.at_the_end(self.runner.close, self._scratch.close)
        self._connect()
        self._count_failed(0)
        self._settle()
        self._on_model()
        self._look_for_images()

    # -- widgets ----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        tip = "A .semigda file: saved from SemiGDA: Train, or written by semigda train."
        self.model = FileEdit(mode="r", filter="SemiGDA models (*.semigda)", nullable=True, tooltip=tip)
        tip = "The folder with the images to find masks for: PNG, JPEG, TIFF, NIfTI, DICOM or OME-Zarr right in it."
        self.images = FileEdit(mode="d", nullable=True, tooltip=tip)
        tip = "The folder that the masks go to, made when it is not there. A mask has the name of its image; "
        tip += "one that you painted or corrected is never replaced."
        self.masks = FileEdit(mode="d", nullable=True, tooltip=tip)
        for edit, name in ((self.model, "Model"), (self.images, "Images"), (self.masks, "Masks")):
            edit.line_edit.native.setAccessibleName(name)
            edit.line_edit.native.setMinimumWidth(60)  # a long path must not make the dock wider
            edit.choose_btn.text = "File…" if edit is self.model else "Folder…"
        self.about = text_label("What the model finds, and how well it did on images that it had not learnt from.")
        self.count = QLabel()
        self.count.setToolTip("How many image files are right in that folder. A stack or a volume is one file.")
        self.overlays = QCheckBox("Overlays")
        self.overlays.setChecked(True)
        self.overlays.setToolTip(
            "Also pictures to look through: each image with the classes in colour and outlined, in a folder overlays."
        )
        self.measurements = QCheckBox("Measurements")
        self.measurements.setChecked(True)
        self.measurements.setToolTip(
            "Also tables for a spreadsheet: measurements.csv has area, perimeter, place and brightness of each object, "
            "totals.csv the sums of every class in every file."
        )
        self.smooth = SmoothChoice()
        self.run_button = button(
            "Run",
            "Find masks for every file. Files that an earlier run has finished with this model are passed over; "
            "files that fail are listed, and the rest goes on.",
        )
        self.stop_button = button(
            "Stop", "End after the image at hand. Finished files stay; Run goes on from there, today or another day."
        )
        self.run = RunView()
        self.failed_button = button("", "The files that no masks could be made for, and why.")
        self.failed_button.setCheckable(True)
        self.failed_list = QPlainTextEdit()
        self.failed_list.setReadOnly(True)
        self.failed_list.setFixedHeight(120)
        self.failed_list.setAccessibleName("Files that failed")
        self.failed_list.setToolTip("One file a line. Put them right and press Run: only these are done again.")

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model.native)
        form.addRow("", self.about)
        form.addRow("Images", self.images.native)
        form.addRow("", self.count)
        form.addRow("Masks", self.masks.native)
        form.addRow("Also", self.overlays)
        form.addRow("", self.measurements)
        column = QVBoxLayout()
        column.addLayout(form)
        column.addWidget(self.smooth)
        column.addLayout(row(self.run_button, self.stop_button, stretch=(2, 1)))
        column.addWidget(self.run)
        column.addWidget(self.failed_button)
        column.addWidget(self.failed_list)
        self.fill(column)
        order = [part for edit in (self.model, self.images, self.masks) for part in _parts(edit)]
        order += [self.overlays, self.measurements, *self.smooth.parts, self.run_button, self.stop_button]
        order += [self.failed_button, self.failed_list]
        for one, following in pairwise(order):
            QWidget.setTabOrder(one, following)

    def _connect(self) -> None:
        for signal, slot in (
            (self.runner.reported, self._on_report),
            (self.runner.finished, self._on_finished),
            (self.runner.failed, self._on_failed),
            (self.model.changed, lambda _: self._on_model()),
            (self.images.changed, lambda _: self._typing.start()),
            (self._typing.timeout, self._on_images),
            (self.images.line_edit.native.returnPressed, self._on_images),
            (self.masks.changed, lambda _: self._ask()),
            (self.run_button.clicked, self.start),
            (self.stop_button.clicked, self.stop),
            (self.failed_button.toggled, self.failed_list.setVisible),
        ):
            signal.connect(slot)

    # -- what the user does -----------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Run the chosen model over the chosen folder; returns whether a run was started."""
        if self.running:
            return False
        self._on_images()
        problem = self._missing()
        if problem:
            self.run.say(problem)
            show_warning(problem)
            return False
        self.running = True
        self._generation += 1
        self._report = BatchReport(len(self._files))
        self._count_failed(0)
        self.run.begin()
        self.run.say("Starting…")
        request = BatchRequest(
            model=Path(self.model.value),
            images=self._files,
            out=Path(self.masks.value),
            overlays=self.overlays.isChecked(),
            measurements=self.measurements.isChecked(),
            keep_masks=True,
            smooth=self.smooth.value(),
        )
        self.runner.submit(Job(request, self._generation), self._scratch.path)
        self._settle()
        self.running_changed.emit(True)
        return True

    def stop(self) -> None:
        """End the run soon; finished files stay."""
        if self.running:
            self.run.say("Stopping…")
            self.stop_button.setEnabled(False)
            self.runner.stop()

    def _on_model(self) -> None:
        path = self.model.value
        try:
            self.about.setText(
                words.model(read_header(Path(path))) if path is not None and Path(path).is_file() else ""
            )
        except (EngineError, KeyError, TypeError):
            self.about.setText("This is not a SemiGDA model, or it is damaged.")
        self.about.setVisible(bool(self.about.text()))
        self._ask()

    def _on_images(self) -> None:
        self._typing.stop()
        self._look_for_images()
        chosen = self.images.value
        if self._files and self.masks.value in (None, Path(), self._suggested):
            self._suggested = Path(chosen).with_name(f"{Path(chosen).name} masks")
            self.masks.value = self._suggested
        self._ask()

    def _look_for_images(self) -> None:
        """Find the files anew: the folder may have changed since it was chosen."""
        self._files, self._problem = (), ""
        folder = self.images.value
        if folder is not None and Path(folder) != Path():
            try:
                self._files = tuple(find_images([Path(folder)]) if Path(folder).is_dir() else ())
                self._problem = "" if self._files else f"{folder} is not there: choose a folder with images."
            except (EngineError, OSError) as error:
                self._problem = str(error)
        self.count.setText(words.count(len(self._files), "file") if self._files else "")
        self.count.setVisible(bool(self._files))

    def _missing(self) -> str:
        """What there is to do before a run, as a sentence; nothing when there is nothing."""
        model, masks = self.model.value, self.masks.value
        if model is None or not Path(model).is_file():
            return "Choose a model first: a .semigda file that was saved from SemiGDA: Train."
        if not self._files:
            return self._problem or "Choose the folder with the images."
        if masks is None or Path(masks) == Path():
            return "Choose the folder that the masks shall go to."
        if Path(masks).resolve() == Path(self.images.value).resolve():
            return "The masks need a folder of their own, or they would mix with the images: choose another one."
        return ""

    def _ask(self) -> None:
        """Say what is missing, or what Run would do."""
        if not self.running:
            files = words.count(len(self._files), "file")
            self.run.say(self._missing() or f"Ready: masks for {files} go to {Path(self.masks.value).name}.")

    # -- what the run says ------------------------------------------------------------------------------------------

    def _on_report(self, report: BatchReport) -> None:
        self._report = report
        self.run.show_progress(Report("predicting", fraction=report.fraction, remaining=report.remaining))
        if self.stop_button.isEnabled():
            self.run.say(words.batch_progress(report))
        for sentence in report.failed:
            self.failed_list.appendPlainText(sentence)
        if report.failed:
            self._count_failed(report.failures)

    def _count_failed(self, number: int) -> None:
        """Keep the failures on demand, never in the way."""
        self.failed_button.setText(f"{number} failed")
        self.failed_button.setVisible(number > 0)
        if not number:
            self.failed_button.setChecked(False)
            self.failed_list.clear()
        self.failed_list.setVisible(self.failed_button.isChecked())

    def _on_finished(self, generation: int, outcome: Outcome) -> None:
        sentence = words.batch_end(self._report, Path(self.masks.value).name, outcome.stopped)
        self._ended(sentence)
        if outcome.skipped:
            show_warning(f"{words.count(len(outcome.skipped), 'file')} without masks: {outcome.skipped[0]}")
        elif not outcome.stopped:
            show_info(sentence)

    def _on_failed(self, failure: Failure) -> None:
        note_failure(failure)
        sentence = words.in_batch(failure.message)
        self._ended(sentence, failure.details)
        show_error(sentence)

    def _ended(self, sentence: str, details: str = "") -> None:
        self.running = False
        self.run.end()
        self.run.say(sentence, details)
        self._settle()
        self.running_changed.emit(False)

    def _settle(self) -> None:
        for edit in (self.model, self.images, self.masks):
            edit.enabled = not self.running
        for box in (self.overlays, self.measurements, self.smooth, self.run_button):
            box.setEnabled(not self.running)
        self.stop_button.setEnabled(self.running)


def _parts(edit: FileEdit) -> tuple[QWidget, QWidget]:
    """The text and the button of a file chooser."""
    return edit.line_edit.native, edit.choose_btn.native
