"""The dock "SemiGDA: Predict": a saved model, an image layer, masks."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from magicgui.widgets import FileEdit
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QVBoxLayout

from napari_semigda.classes import of_model
from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.header import read_header
from napari_semigda.engine.types import EngineError, Prediction, Report
from napari_semigda.widgets import growing, words
from napari_semigda.widgets.choices import LayerChoice
from napari_semigda.widgets.colours import class_colormap
from napari_semigda.widgets.dock import Dock, button, row
from napari_semigda.widgets.growing import Growing
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.ours import KEY, masks_on, write_plane
from napari_semigda.widgets.problem import note_failure
from napari_semigda.widgets.progress import RunView
from napari_semigda.widgets.runner import Failure, Runner
from napari_semigda.widgets.smoothing import SmoothChoice


class PredictDock(Dock):
    """Predict masks for a layer with a model that was trained before, here or elsewhere.

    Every run makes a new Labels layer, which is the user's from then on.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose layers are worked on.
    runner : Runner, optional
        What runs the predicting process.
    """

    running_changed = Signal(bool)

    def __init__(
        self,
        napari_viewer: "napari.viewer.Viewer",  # noqa: F821 - napari resolves it
        *,
        runner: Runner | None = None,
    ) -> None:
        super().__init__()
        self.setWindowTitle("SemiGDA: Predict")
        self.bridge = LayerBridge(napari_viewer, whole=True)
        self.runner = runner or Runner()
        self.result: Any | None = None
        self.running = False
        self._growing: Growing | None = None  # masks of a large image
        self._make_widgets()
        self.run.say("Choose a saved model and the images, then press Predict.")
        self.at_the_end(self.runner.close, self.bridge.close)
        self._connect()
        self._on_layers()

    def _make_widgets(self) -> None:
        tip = "A .semigda file: saved from SemiGDA: Train, or written by semigda train."
        self.model = FileEdit(mode="r", filter="SemiGDA models (*.semigda)", nullable=True, tooltip=tip)
        self.model.choose_btn.text = "File…"
        self.images = LayerChoice(name="Images", tooltip="The images to predict masks for.")
        self.smooth = SmoothChoice()
        self.predict_button = button("Predict", "Make a new masks layer and fill it with the model's masks.")
        self.stop_button = button("Stop", "End the predicting; the masks made so far stay.")
        self.save_button = button("Save masks…", "Copy the masks of this large image into an OME-Zarr folder.")
        self.run = RunView()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model.native)
        form.addRow("Images", self.images)
        column = QVBoxLayout()
        column.addLayout(form)
        column.addWidget(self.smooth)
        column.addLayout(row(self.predict_button, self.stop_button, stretch=(2, 1)))
        column.addWidget(self.run)
        column.addWidget(self.save_button)
        self.fill(column)

    def _connect(self) -> None:
        for signal, slot in (
            (self.bridge.layers_changed, self._on_layers),
            (self.bridge.project_changed, self._on_layers),
            (self.bridge.plane_changed, self.runner.look),
            (self.runner.copied, self.run.show_copying),
            (self.runner.reported, self._on_report),
            (self.runner.predicted, self._on_prediction),
            (self.runner.finished, self._on_finished),
            (self.runner.failed, self._on_failed),
            (self.images.valueChanged, self._choose),
            (self.model.changed, lambda _: self._settle()),
            (self.predict_button.clicked, self.predict),
            (self.stop_button.clicked, self.stop),
            (self.save_button.clicked, self._ask_where_to_save),
        ):
            signal.connect(slot)

    def predict(self) -> bool:
        """Predict the chosen images with the chosen model; returns whether a run was started."""
        project, path = self.bridge.project, self.model.value
        problem = ""
        if project is None:
            problem = "Open images first: drag files or a folder onto the viewer."
        elif path is None or not Path(path).is_file():
            problem = "Choose a model first: a .semigda file that was saved from SemiGDA: Train."
        if problem or self.running:
            if problem:
                self._refuse(problem)
            return False
        try:
            large = growing.is_for(project)
            self._growing = Growing(self.bridge.viewer, self.bridge.image, project, Path(path)) if large else None
        except EngineError as error:
            self._refuse(str(error))
            return False
        self.running = True
        self.run.begin()
        self.run.say("Starting…")
        self._project, self._image = project, self.bridge.image
        self.result = self._growing and self._growing.layer
        masks = self._growing and self._growing.folder
        job = project.prediction_job(Path(path), self.bridge.plane_in_view(), smooth=self.smooth.value(), masks=masks)
        self.runner.submit(job, project.folder)
        self._settle()
        self.running_changed.emit(True)
        return True

    def stop(self) -> None:
        """End the run; masks made so far stay."""
        if self.running:
            self.run.say("Stopping…")
            self.runner.stop()

    def save_masks(self, path: Path) -> Path | None:
        """Copy the masks of a large image into an OME-Zarr; returns it, or None when that was refused."""
        if self._growing is None:
            return None
        try:
            saved = self._growing.save(path)
        except EngineError as error:
            self._refuse(str(error))
            return None
        show_info(f"Saved {saved.name}.")
        return saved

    def _ask_where_to_save(self) -> None:
        name = f"{self._image.name} masks.ome.zarr"
        path, _ = QFileDialog.getSaveFileName(self, "Save the masks", name, "OME-Zarr (*.ome.zarr)")
        if path:
            self.save_masks(Path(path))

    def _refuse(self, problem: str) -> None:
        self.run.say(problem)
        show_warning(problem)

    # -- following --------------------------------------------------------------------------------------------------

    def _choose(self, layer: Any) -> None:
        try:
            self.bridge.choose_image(layer)
        except EngineError as error:
            self._refuse(str(error))
        self._on_layers()

    def _on_layers(self) -> None:
        bridge = self.bridge
        if self.running and self._image not in bridge.viewer.layers:
            self.runner.close()
            self._ended("The images are gone, so the predicting was ended.")
        if bridge.image is None and (layers := bridge.image_layers()):
            bridge.choose_image(layers[0])
        self.images.set_choices([(words.layer(x), x) for x in bridge.image_layers()], bridge.image)
        stack = bridge.project.stack if bridge.project is not None else None
        self.smooth.setVisible(stack is not None and stack.is_volume and not growing.is_for(bridge.project))
        self.smooth.show_unit("mm" if stack is None else stack.unit or "slices")
        self._settle()

    def _settle(self) -> None:
        self.images.setEnabled(not self.running)
        self.smooth.setEnabled(not self.running)
        self.model.enabled = not self.running
        self.predict_button.setEnabled(not self.running and self.bridge.image is not None)
        self.stop_button.setEnabled(self.running)
        self.save_button.setVisible(self._growing is not None)
        self.save_button.setEnabled(not self.running)

    def _on_report(self, report: Report) -> None:
        self.run.show_progress(report)
        if self._growing is None:
            self.run.say(words.marking(report, len(self._project.stack)))
        else:
            self.run.say(words.growing(report, self._image.name))
            self._growing.show()

    def _on_prediction(self, prediction: Prediction) -> None:
        if self.result is None:
            name = f"{self._image.name} masks by {Path(self.model.value).stem}"
            self.result = masks_on(self._image, self._project.stack.shape, name=name)
            with suppress(EngineError):  # the file went away meanwhile
                self.result.colormap = class_colormap(of_model(read_header(Path(self.model.value))))
            self.bridge.viewer.add_layer(self.result)
            self.result.editable = False  # until the last image is there
        write_plane(self.result, self._project.stack, prediction.index, prediction.mask)
        if prediction.index == self.bridge.plane_in_view():
            self.result.refresh(extent=False)

    def _on_finished(self, generation: int, outcome: Outcome) -> None:
        self._project.finish(generation, outcome, Report("done"))
        if self.result is not None:
            self.result.editable = self._growing is None
            self.result.metadata[KEY]["classes"] = {n: x for n, x in outcome.classes.items() if n}
            self.result.refresh()
        names = ", ".join(f"{number} {name}" for number, name in outcome.classes.items() if number)
        self._ended(words.predicted(names, outcome.stopped, large=self._growing is not None))
        if outcome.skipped:
            show_warning(words.skipped(outcome.skipped))
        elif self._growing is None or not outcome.stopped:
            show_info("The masks are ready.")

    def _on_failed(self, failure: Failure) -> None:
        self._ended(failure.message, failure.details)
        note_failure(failure)
        show_error(failure.message)

    def _ended(self, sentence: str, details: str = "") -> None:
        self.running = False
        self.run.end()
        self.run.say(sentence, details)
        self._settle()
        self.running_changed.emit(False)
