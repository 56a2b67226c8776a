"""The dock "SemiGDA: Train": choose, paint, train, look, correct."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFileDialog

from napari_semigda.engine.planner import TimeName
from napari_semigda.engine.types import EngineError, Settings
from napari_semigda.log import Log, computer_log
from napari_semigda.project import Project
from napari_semigda.widgets import keys, words
from napari_semigda.widgets.choices import AdvancedValue
from napari_semigda.widgets.class_edits import ClassEdits
from napari_semigda.widgets.key_sheet import toggle_sheet
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.problem import ErrorNotes, note_failure
from napari_semigda.widgets.projects import Projects
from napari_semigda.widgets.runner import Runner
from napari_semigda.widgets.train_view import TrainView
from napari_semigda.widgets.training import Training
from napari_semigda.widgets.words import State


class TrainDock(TrainView):
    """Paint some images, train on all of them, see masks on the rest, correct and train again.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer whose layers are worked on.
    runner : Runner, optional
        What runs the training process.
    tune : callable, optional
        Changes the settings of every run just before it starts, as replays and tests do to make runs short.

    Attributes
    ----------
    bridge : LayerBridge
        The layers, and the project of those that are chosen.
    training : Training
        Runs rounds, and says what can be done next.
    projects : Projects
        Makes, opens and closes projects on disk.
    class_edits : ClassEdits
        What the user does to classes.
    """

    def __init__(
        self,
        napari_viewer: "napari.viewer.Viewer",  # noqa: F821 - napari resolves it
        *,
        runner: Runner | None = None,
        tune: Callable[[Settings], Settings] = lambda settings: settings,
    ) -> None:
        super().__init__()
        self.bridge = LayerBridge(napari_viewer)
        self.runner = runner or Runner()
        self.training = Training(self.bridge, self.runner, self.run, self._wanted, tune)
        self.projects = Projects(self.bridge, self.project_row, lambda: self.training.running)
        self.class_edits = ClassEdits(self.bridge, self.classes, self.style, self.class_note)
        self._listening: Project | None = None  # whose signals are connected
        actions = {
            keys.TRAIN: self.training.start,
            keys.STOP: self.training.stop,
            keys.ACCEPT: self.accept,
            keys.TOGGLE: self.bridge.toggle_prediction,
            keys.SHEET: self.show_keys,
        }
        self.export_button.chosen = self._to_export
        self.report_button.session = self._to_report
        exporting, reporting = self.export_button.exporter, self.report_button.reporter
        self.at_the_end(
            keys.Keys(napari_viewer, actions).release,
            ErrorNotes(lambda: self.log).close,
            self.runner.close,
            exporting.close,
            reporting.close,
            self.bridge.close,
        )
        self._connect()
        self._on_layers()

    def _connect(self) -> None:
        bridge, training = self.bridge, self.training
        for signal, slot in (
            (bridge.layers_changed, self._on_layers),
            (bridge.project_changed, self._on_project),
            (bridge.masks_chosen, self._on_layers),
            (training.changed, self._on_state),
            (self.runner.failed, lambda failure: note_failure(failure, self.log)),
            (self.images.valueChanged, lambda layer: self._attempt(bridge.choose_image, layer)),
            (self.masks.valueChanged, lambda layer: self._attempt(bridge.choose_masks, layer)),
            (self.new_masks_button.clicked, self.new_masks),
            (self.time.valueChanged, lambda _: training.reconsider()),
            (self.advanced.valueChanged, lambda _: training.reconsider()),
            (self.train_button.clicked, training.start),
            (self.stop_button.clicked, training.stop),
            (self.anyway_button.clicked, training.use_last_round),
            (self.round_choice.chosen, training.use_round),
            (self.accept_button.clicked, self.accept),
            (self.toggle_button.clicked, bridge.toggle_prediction),
            (self.doubt_box.toggled, bridge.show_doubt),
            (self.keys_button.clicked, self.show_keys),
            (self.save_button.clicked, self._ask_where_to_save),
        ):
            signal.connect(slot)

    # -- what can be done -------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the dock is."""
        return self.training.state

    @property
    def log(self) -> Log:
        """Where it is noted what happens: in the project that is open, or on the computer."""
        project = self.bridge.project
        log = computer_log() if project is None else project.log
        log.hide(layer.name for layer in self.bridge.viewer.layers)
        return log

    def _wanted(self) -> tuple[TimeName, AdvancedValue]:
        return self.time.value(), self.advanced.value()

    def new_masks(self) -> Any | None:
        """Make an empty masks layer for the chosen images, ready to paint."""
        return self._attempt(self.bridge.new_masks)

    def accept(self) -> int:
        """Copy the prediction of the slice in view into the masks; returns how many pixels changed."""
        changed = self._attempt(self.bridge.accept)
        if changed == 0:
            show_info("The masks of this slice are the predicted ones already.")
        elif changed:
            self.log.event("accepted", plane=self.bridge.plane_in_view(), pixels=changed)
        return changed or 0

    def show_keys(self) -> None:
        """Show the sheet of keys, or put it away."""
        toggle_sheet(self.window())

    def save_model(self, path: Path) -> Path | None:
        """Save the model in use."""
        if self.bridge.project is None:
            return None
        saved = self._attempt(self.bridge.project.save_model, Path(path))
        if saved is not None:
            show_info(f"Saved {saved.name}. Use it with SemiGDA: Predict, or with semigda predict.")
        return saved

    def _ask_where_to_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the model", "model.semigda", "SemiGDA models (*.semigda)")
        if path:
            self.save_model(Path(path))

    def _to_export(self) -> tuple[Callable[[Path], Path], Any]:
        project = self.bridge.project
        return project.save_model, project.stack.plane(self.bridge.plane_in_view()).image

    def _to_report(self) -> dict[str, Any]:
        time, advanced = self._wanted()
        return {
            "folder": self.project_row.value(),
            "settings": {"time": time, **vars(advanced), "state": self.state.value},
            "said": f"{self.run.sentence.text()}\n{self.run.details.toPlainText()}",
            "hidden": [layer.name for layer in self.bridge.viewer.layers],
        }

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> Any | None:
        """Do something of the user's wish; what is wrong with it is said in the dock and as a notification."""
        try:
            return action(*arguments)
        except EngineError as error:
            self._on_layers()  # a refused choice must not stay in a combo box
            self.log.problem("refused", error)
            self.training.refuse(str(error))
            return None

    # -- following --------------------------------------------------------------------------------------------------

    def _on_layers(self) -> None:
        """Layers came, went or were chosen: work on those that offer themselves, and list them all."""
        bridge = self.bridge
        if bridge.image is None and (layers := bridge.image_layers()):
            for layer in layers:
                try:
                    bridge.choose_image(layer)
                    break
                except EngineError:
                    continue
        if bridge.image is not None and bridge.masks is None:
            bridge.choose_masks(bridge.fitting_masks())
        self.images.set_choices([(words.layer(x), x) for x in bridge.image_layers()], bridge.image)
        self.masks.set_choices([(x.name, x) for x in bridge.mask_layers()], bridge.masks)
        self.training.settle()

    def _on_project(self) -> None:
        """Another image layer, with rounds of its own."""
        if self._listening is not None:
            self._listening.rounds.changed.disconnect(self._on_rounds)
        self._listening = self.bridge.project
        if self._listening is not None:
            self._listening.rounds.changed.connect(self._on_rounds)
        self.advanced.show_stack(None if self._listening is None else self._listening.stack)
        self._on_rounds()
        self._on_layers()

    def _on_rounds(self) -> None:
        if self.alive:
            self.round_choice.show_rounds(None if self._listening is None else self._listening.rounds)

    def _on_state(self, state: State) -> None:
        project, counted = self.bridge.project, ""
        if project is not None:
            counted = words.painted(len(project.painted), len(project.stack), len(project.review.empty()))
        self.counts.setText(counted)
        self.enable_for(
            state,
            predicted=self.bridge.ours("predicted") is not None,
            saved=project is not None and project.rounds.in_use is not None,
        )
