"""The dock "SemiGDA: Train": choose, paint, train, look, correct."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog

from napari_semigda.engine.exchange import Outcome, Standing
from napari_semigda.engine.types import EngineError, Prediction, Report, Settings
from napari_semigda.project import Project
from napari_semigda.widgets import keys, words
from napari_semigda.widgets.class_edits import ClassEdits
from napari_semigda.widgets.class_words import ASK_FOR_STROKES
from napari_semigda.widgets.key_sheet import toggle_sheet
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.projects import Projects
from napari_semigda.widgets.rounds import told
from napari_semigda.widgets.runner import Failure, Runner
from napari_semigda.widgets.train_view import TrainView
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
    """

    state_changed = Signal(object)
    """`State`."""

    def __init__(
        self,
        napari_viewer: "napari.viewer.Viewer",  # noqa: F821 - napari resolves it
        *,
        runner: Runner | None = None,
        tune: Callable[[Settings], Settings] | None = None,
    ) -> None:
        super().__init__()
        self.bridge = LayerBridge(napari_viewer)
        self.runner = runner or Runner()
        self._tune = tune or (lambda settings: settings)
        self._state = State.NO_IMAGES
        self._device = ""
        self._listening: Project | None = None  # whose signals are connected
        self._running: Project | None = None  # whose images the run at hand is about
        self._last = Report("starting")  # of the training
        self._elapsed = 0.0  # seconds from Train until now
        self._tail = 0.0  # seconds that the masks of all images took last time
        self._again = False  # Train was pressed while the images were being marked
        self.projects = Projects(self.bridge, self.project_row, lambda: self._state in words.RUNNING)
        self.class_edits = ClassEdits(self.bridge, self.classes, self.style, self.class_note)
        actions = {
            keys.TRAIN: self.train,
            keys.STOP: self.stop,
            keys.ACCEPT: self.accept,
            keys.TOGGLE: self.bridge.toggle_prediction,
            keys.SHEET: self.show_keys,
        }
        self.export_button.chosen = self._to_export
        exporting = self.export_button.exporter
        self.at_the_end(
            keys.Keys(napari_viewer, actions).release, self.runner.close, exporting.close, self.bridge.close
        )
        self._connect()
        self._on_layers()

    def _connect(self) -> None:
        bridge, runner = self.bridge, self.runner
        for signal, slot in (
            (bridge.layers_changed, self._on_layers),
            (bridge.project_changed, self._on_project),
            (bridge.masks_chosen, self._on_masks_chosen),
            (bridge.plane_changed, runner.look),
            (runner.ready, self._on_ready),
            (runner.copied, self.run.show_copying),
            (runner.reported, self._on_report),
            (runner.predicted, self._on_prediction),
            (runner.finished, self._on_finished),
            (runner.failed, self._on_failed),
            (self.images.valueChanged, lambda layer: self._attempt(bridge.choose_image, layer)),
            (self.masks.valueChanged, lambda layer: self._attempt(bridge.choose_masks, layer)),
            (self.new_masks_button.clicked, self.new_masks),
            (self.time.valueChanged, lambda _: self._on_next_round()),
            (self.train_button.clicked, self.train),
            (self.stop_button.clicked, self.stop),
            (self.accept_button.clicked, self.accept),
            (self.toggle_button.clicked, bridge.toggle_prediction),
            (self.doubt_box.toggled, bridge.show_doubt),
            (self.keys_button.clicked, self.show_keys),
            (self.anyway_button.clicked, self.use_last_round),
            (self.round_choice.chosen, self.use_round),
            (self.save_button.clicked, self._ask_where_to_save),
            (self.advanced.valueChanged, lambda _: self._on_next_round()),
        ):
            signal.connect(slot)

    # -- what can be done -------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the dock is."""
        return self._state

    def new_masks(self) -> Any | None:
        """Make an empty masks layer for the chosen images, ready to paint."""
        return self._attempt(self.bridge.new_masks)

    def train(self) -> bool:
        """Train on what is painted now; returns whether a run was started or will be in a moment."""
        if self._state is State.PREDICTING:  # the next round starts from this one, so this one has to end first
            self._again = True
            self.stop()
            return True
        if self._state in words.RUNNING:
            return False
        if self._state in words.ASK_FOR:
            show_warning(words.ASK_FOR[self._state])
            return False
        job = self._attempt(self._snapshot)
        if job is None:
            return False
        self._begin(job)
        return True

    def _snapshot(self) -> Any:
        self.bridge.read_all_masks()
        if self.bridge.project is None or self.bridge.masks is None:
            raise EngineError(words.ASK_FOR[State.NO_MASKS])
        settings, afresh = self._tune(self._settings()), self.advanced.value().afresh
        return self.bridge.project.snapshot(settings, self.bridge.plane_in_view(), afresh)

    def _to_correct(self) -> Standing | None:
        """The model that the next round goes on from, if any."""
        advanced = self.advanced.value()
        return self.bridge.project.goes_on_from(advanced.backbone, advanced.afresh)

    def _settings(self) -> Settings:
        correction, sparse = self._to_correct() is not None, self.bridge.project.scribbles
        return self.advanced.value().settings(self.time.value(), correction, sparse)

    def _begin(self, job: Any) -> None:
        self._running = self.bridge.project
        self._last = Report("starting")
        self.run.begin()
        self._enter(State.STARTING, words.ASK_FOR[State.STARTING])
        self.runner.submit(job, self._running.folder)

    def stop(self) -> None:
        """End the run, keeping the best weights so far."""
        if self._state in words.CAN_STOP:
            self._enter(State.STOPPING, words.ASK_FOR[State.STOPPING])
            self.runner.stop()

    def accept(self) -> int:
        """Copy the prediction of the slice in view into the masks; returns how many pixels changed."""
        changed = self._attempt(self.bridge.accept)
        if changed == 0:
            show_info("The masks of this slice are the predicted ones already.")
        return changed or 0

    def show_keys(self) -> None:
        """Show the sheet of keys, or put it away."""
        toggle_sheet(self.window())

    def use_last_round(self) -> None:
        """Take the newest model although it scored lower, and predict with it."""
        project = self.bridge.project
        if project is not None and project.rounds:
            self.use_round(project.rounds[-1].standing.number)

    def use_round(self, number: int) -> None:
        """Take the model of another round, whatever its figures, and predict with it."""
        project = self.bridge.project
        if project is not None and self._state not in words.RUNNING and project.rounds.use(number):
            self.predict()
        self._on_rounds()

    def predict(self) -> bool:
        """Mark all images with the model in use; returns whether that was started."""
        project = self.bridge.project
        if self._state in words.RUNNING or project is None or project.rounds.in_use is None:
            return False
        view, device = self.bridge.plane_in_view(), self.advanced.value().device
        self._begin(project.prediction_job(project.rounds.in_use.model, view, device))
        return True

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

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> Any | None:
        """Do something of the user's wish; what is wrong with it is said in the dock and as a notification."""
        try:
            return action(*arguments)
        except EngineError as error:
            self._on_layers()  # a refused choice must not stay in a combo box
            if self._state not in words.RUNNING:
                self.run.say(str(error))
            show_warning(str(error))
            return None

    # -- following the viewer ---------------------------------------------------------------------------------------

    def _on_layers(self) -> None:
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
        self._settle()

    def _on_project(self) -> None:
        """Another image layer: listen to its project, forget the figures of the old one."""
        if self._listening is not None:
            self._listening.masks_changed.disconnect(self._on_next_round)
            self._listening.review.marks_changed.disconnect(self._settle)
            self._listening.classes_changed.disconnect(self._on_next_round)
            self._listening.rounds.changed.disconnect(self._on_rounds)
        self._listening = project = self.bridge.project
        if project is not None:
            project.masks_changed.connect(self._on_next_round)
            project.review.marks_changed.connect(self._settle)
            project.classes_changed.connect(self._on_next_round)
            project.rounds.changed.connect(self._on_rounds)
        self._on_rounds()
        if self._running is not None:  # the images of the run are gone, and nobody wants its masks
            self.runner.close()
            self._running, self._again = None, False
        self._tail = 0.0
        self._state = State.NO_IMAGES
        self.run.begin()
        self.run.end()
        self._on_layers()

    def _on_masks_chosen(self) -> None:
        if self.bridge.masks is not None:
            self.runner.warm()
        self._state = State.READY if self._state not in words.RUNNING else self._state
        self._on_layers()

    def _on_next_round(self) -> None:
        """Something was painted or chosen: say what the next round would do."""
        if self._state is State.DONE:  # an error or a choice stays on show until Train is pressed
            self._state = State.READY
        self._settle()

    def _on_rounds(self) -> None:
        if self.alive:
            project = self.bridge.project
            self.round_choice.show_rounds(None if project is None else project.rounds)

    # -- following the run ------------------------------------------------------------------------------------------

    def _on_ready(self, device: str) -> None:
        self._device = device
        self._settle()

    def _on_report(self, report: Report) -> None:
        if self._state is State.STOPPING and report.stage not in ("done", "stopped", "predicting"):
            return
        project, self._elapsed = self._running, report.elapsed
        self.run.show_report(replace(report, preview=None), project.classes)
        if report.stage == "predicting":
            total = len(project.stack)
            marking = f"Marking the images: {round(report.fraction * total)} of {total}."
            self._enter(State.PREDICTING, marking)
        else:
            self._last = report
            self._enter(
                State.STARTING if report.stage == "starting" else State.TRAINING,
                (report.stage == "starting" and report.message) or words.STAGES[report.stage],
            )

    def _on_prediction(self, prediction: Prediction) -> None:
        if self._running is self.bridge.project:
            self.bridge.show_prediction(prediction)
            self._enable()

    def _on_finished(self, generation: int, outcome: Outcome) -> None:
        project, last = self._running, self._last
        self._running = None
        finished = project.finish(generation, outcome, last)
        self.run.end()
        if finished is None:
            gone = outcome.model is None
            self._enter(State.READY, "")
            self.run.say("Stopped before there was anything to keep." if gone else "The masks of all images are here.")
        else:
            verdict, figures = told(project)
            self.run.sentence.setToolTip(figures)
            if outcome.kept:
                self._enter(State.WORSE, verdict)
            else:
                self._enter(State.DONE, words.done(self._elapsed, verdict, outcome.stopped))
        if finished is not None and not outcome.stopped:
            self._tail = self._elapsed - last.elapsed
        if outcome.skipped:
            show_warning(f"{words.count(len(outcome.skipped), 'image')} without masks: {outcome.skipped[0]}")
        if self._again:
            self._again = False
            self.train()

    def _on_failed(self, failure: Failure) -> None:
        self._running, self._again = None, False
        self.run.end()
        self._enter(State.ERROR, failure.message, failure.details)
        show_error(failure.message)

    # -- showing the state ------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """When nothing runs: find out what the user can do next, and say it."""
        bridge, project = self.bridge, self.bridge.project
        painted, total = (len(project.painted), len(project.stack)) if project is not None else (0, 0)
        empty = len(project.review.empty()) if project is not None else 0
        self.counts.setText(words.painted(painted, total, empty) if project is not None else "")
        if self._state in words.RUNNING or (self._state in (State.DONE, State.WORSE, State.ERROR) and painted):
            self._enable()
        elif project is None:
            self._enter(State.NO_IMAGES, words.ASK_FOR[State.NO_IMAGES])
        elif bridge.masks is None:
            self._enter(State.NO_MASKS, words.ASK_FOR[State.NO_MASKS])
        elif not painted:
            ask = ASK_FOR_STROKES if project.scribbles else words.ASK_FOR[State.NOTHING_PAINTED]
            self._enter(State.NOTHING_PAINTED, ask)
        else:
            how_long = words.how_long(self._settings(), self._tail, self._device)
            before = self._to_correct()
            empty = 0 if project.scribbles else empty
            self._enter(State.READY, words.ready(painted, total, how_long, before and before.number, empty))

    def _enter(self, state: State, sentence: str, details: str = "") -> None:
        self.run.say(sentence, details)
        changed, self._state = state is not self._state, state
        self._enable()
        if changed:
            self.state_changed.emit(state)

    def _enable(self) -> None:
        project = self.bridge.project
        self.enable_for(
            self._state,
            predicted=self.bridge.ours("predicted") is not None,
            saved=project is not None and project.rounds.in_use is not None,
        )
