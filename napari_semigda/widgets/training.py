"""Rounds as they run: started, stopped, followed to the last mask, and what the user can do before and after."""

from collections.abc import Callable
from dataclasses import replace

from napari.utils.notifications import show_error, show_warning
from psygnal import Signal

from napari_semigda.engine.exchange import Job, Outcome, Standing
from napari_semigda.engine.planner import TimeName
from napari_semigda.engine.types import EngineError, Prediction, Report, Settings
from napari_semigda.project import Project
from napari_semigda.rounds import Round
from napari_semigda.widgets import words
from napari_semigda.widgets.choices import AdvancedValue
from napari_semigda.widgets.class_words import ASK_FOR_STROKES
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.progress import RunView
from napari_semigda.widgets.rounds import told
from napari_semigda.widgets.runner import Failure, Runner
from napari_semigda.widgets.words import State


class Training:
    """Between the layers, the training process, and the part of a dock that shows a run.

    Parameters
    ----------
    bridge : LayerBridge
        Whose project is trained on, and whose layers get the predictions.
    runner : Runner
        What runs the training process.
    view : RunView
        Where it is said how a run goes and what to do next.
    wanted : callable
        Tells what the user has chosen for the next round: the time, and what the Advanced fold says.
    tune : callable
        Changes the settings of every run just before it starts.
    """

    changed = Signal(object)
    """`State`, the same or another, whenever something else may be possible now."""

    def __init__(
        self,
        bridge: LayerBridge,
        runner: Runner,
        view: RunView,
        wanted: Callable[[], tuple[TimeName, AdvancedValue]],
        tune: Callable[[Settings], Settings],
    ) -> None:
        self.tune = tune
        self.last = Report("starting")
        """Of the training at hand, or of the one before."""
        self._bridge, self._runner, self._view, self._wanted = bridge, runner, view, wanted
        self._state = State.NO_IMAGES
        self._device = ""
        self._listening: Project | None = None  # whose signals are connected
        self._running: Project | None = None  # whose images the run at hand is about
        self._elapsed = 0.0  # seconds from Train until now
        self._tail = 0.0  # seconds that the masks of all images took last time
        self._note = ""  # what befell the run at hand
        self._again = False  # Train was pressed while the images were being marked
        for signal, slot in (
            (bridge.project_changed, self._on_project),
            (bridge.masks_chosen, self._on_masks_chosen),
            (bridge.plane_changed, runner.look),
            (runner.ready, self._on_ready),
            (runner.copied, view.show_copying),
            (runner.reported, self._on_report),
            (runner.predicted, self._on_prediction),
            (runner.finished, self._on_finished),
            (runner.failed, self._on_failed),
        ):
            signal.connect(slot)

    @property
    def state(self) -> State:
        """Where the user is."""
        return self._state

    @property
    def running(self) -> bool:
        """Whether a run is going on, or about to end."""
        return self._state in words.RUNNING

    # -- what can be done -------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Train on what is painted now; returns whether a run was started or will be in a moment."""
        if self._state is State.PREDICTING:  # the next round starts from this one, so this one has to end first
            self._again = True
            self.stop()
            return True
        if self.running:
            return False
        if self._state in words.ASK_FOR:
            show_warning(words.ASK_FOR[self._state])
            return False
        try:
            job = self._snapshot()
        except EngineError as error:
            self.settle()
            self.refuse(str(error))
            return False
        self._begin(job)
        return True

    def stop(self) -> None:
        """End the run, keeping the last good weights."""
        if self._state in words.CAN_STOP:
            self._enter(State.STOPPING, words.ASK_FOR[State.STOPPING])
            self._runner.stop()

    def use_round(self, number: int) -> bool:
        """Take the model of another round, whatever its figures, and predict with it; returns whether that began."""
        project = self._bridge.project
        return project is not None and not self.running and project.rounds.use(number) and self.predict()

    def use_last_round(self) -> bool:
        """Take the newest model although it scored lower, and predict with it; returns whether that began."""
        project = self._bridge.project
        return project is not None and bool(project.rounds) and self.use_round(project.rounds[-1].standing.number)

    def predict(self) -> bool:
        """Mark all images with the model in use; returns whether that was started."""
        project = self._bridge.project
        if self.running or project is None or project.rounds.in_use is None:
            return False
        _, advanced = self._wanted()
        model, view = project.rounds.in_use.model, self._bridge.plane_in_view()
        self._begin(project.prediction_job(model, view, advanced.device))
        return True

    def refuse(self, problem: str) -> None:
        """Say what is wrong with something that the user wanted."""
        if not self.running:
            self._view.say(problem)
        show_warning(problem)

    # -- the next round ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """When nothing runs: find out what the user can do next, and say it."""
        project = self._bridge.project
        ended = self._state in words.ENDED and project is not None and project.painted  # how, is to be read
        if self.running or ended:
            self.changed.emit(self._state)
        else:
            self._enter(*self._next_step())

    def reconsider(self) -> None:
        """Something was painted or chosen: say what the next round would do."""
        if self._state is State.DONE:  # an error or a choice stays on show until Train is pressed
            self._state = State.READY
        self.settle()

    def _next_step(self) -> tuple[State, str]:
        project = self._bridge.project
        if project is None:
            return State.NO_IMAGES, words.ASK_FOR[State.NO_IMAGES]
        if self._bridge.masks is None:
            return State.NO_MASKS, words.ASK_FOR[State.NO_MASKS]
        if not project.painted:
            ask = ASK_FOR_STROKES if project.scribbles else words.ASK_FOR[State.NOTHING_PAINTED]
            return State.NOTHING_PAINTED, ask
        settings, before = self._plan()
        device = self._device if settings.device == "auto" else f"{settings.device}, chosen under Advanced"
        how_long = words.how_long(settings, self._tail, device)
        painted, total = len(project.painted), len(project.stack)
        empty = 0 if project.scribbles else len(project.review.empty())
        return State.READY, words.ready(painted, total, how_long, before and before.number, empty)

    def _plan(self) -> tuple[Settings, Standing | None]:
        """The settings of the next round, and the model that it goes on from, if any."""
        (time, advanced), project = self._wanted(), self._bridge.project
        before = project.goes_on_from(advanced.backbone, advanced.afresh)
        return advanced.settings(time, before is not None, project.scribbles), before

    def _snapshot(self) -> Job:
        self._bridge.read_all_masks()
        if self._bridge.project is None or self._bridge.masks is None:
            raise EngineError(words.ASK_FOR[State.NO_MASKS])
        (_, advanced), (settings, _) = self._wanted(), self._plan()
        view = self._bridge.plane_in_view()
        return self._bridge.project.snapshot(self.tune(settings), view, advanced.afresh, advanced.kind)

    # -- following the layers ---------------------------------------------------------------------------------------

    def _on_project(self) -> None:
        """Other images: listen to their project, and end the run at hand, for nobody wants its masks."""
        if self._listening is not None:
            self._listening.masks_changed.disconnect(self.reconsider)
            self._listening.classes_changed.disconnect(self.reconsider)
            self._listening.review.marks_changed.disconnect(self.settle)
        self._listening = project = self._bridge.project
        if project is not None:
            project.masks_changed.connect(self.reconsider)
            project.classes_changed.connect(self.reconsider)
            project.review.marks_changed.connect(self.settle)
        if self._running is not None:
            self._runner.close()
            self._running, self._again = None, False
        self._tail = 0.0
        self._view.begin()
        self._view.end()
        self._state = State.NO_IMAGES
        self.settle()

    def _on_masks_chosen(self) -> None:
        if self._bridge.masks is not None:
            self._runner.warm()
        if not self.running:
            self._state = State.READY  # how the last round ended was about other masks
        self.settle()

    # -- following the run ------------------------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        self._running = self._bridge.project
        self.last, self._note = Report("starting"), ""
        self._view.begin()
        self._enter(State.STARTING, words.ASK_FOR[State.STARTING])
        self._runner.submit(job, self._running.folder)

    def _on_ready(self, device: str) -> None:
        self._device = device
        self.settle()

    def _on_report(self, report: Report) -> None:
        if self._state is State.STOPPING and report.stage not in ("done", "stopped", "predicting"):
            return
        project, self._elapsed = self._running, report.elapsed
        if report.note not in ("", self._note):
            show_warning(report.note)
        self._note = report.note
        self._view.show_report(replace(report, preview=None), project.classes)
        if report.stage == "predicting":
            self._enter(State.PREDICTING, words.noted(words.marking(report, len(project.stack)), self._note))
            return
        self.last = report
        state = State.STARTING if report.stage == "starting" else State.TRAINING
        self._enter(
            State.STOPPING if self._state is State.STOPPING else state,
            words.noted((report.stage == "starting" and report.message) or words.STAGES[report.stage], self._note),
        )

    def _on_prediction(self, prediction: Prediction) -> None:
        if self._running is self._bridge.project:
            self._bridge.show_prediction(prediction)
            self.changed.emit(self._state)

    def _on_finished(self, generation: int, outcome: Outcome) -> None:
        project, self._running = self._running, None
        finished = project.finish(generation, outcome, self.last)
        self._view.end()
        if finished is None:
            nothing = "Stopped before there was anything to keep."
            self._enter(State.READY, nothing if outcome.model is None else "The masks of all images are here.")
        else:
            self._on_round(project, finished)
        if outcome.skipped:
            show_warning(words.skipped(outcome.skipped))
        if self._again:
            self._again = False
            self.start()

    def _on_round(self, project: Project, finished: Round) -> None:
        verdict, figures = told(project)
        self._view.sentence.setToolTip(figures)
        if finished.kept_before:
            self._enter(State.WORSE, words.noted(verdict, self._note))
        else:
            self._enter(State.DONE, words.done(self._elapsed, words.noted(verdict, self._note), finished.stopped))
        if not finished.stopped:
            self._tail = self._elapsed - self.last.elapsed

    def _on_failed(self, failure: Failure) -> None:
        self._running, self._again = None, False
        self._view.end()
        self._enter(State.ERROR, failure.message, failure.details)
        show_error(failure.message)

    def _enter(self, state: State, sentence: str, details: str = "") -> None:
        self._state = state
        self._view.say(sentence, details)
        self.changed.emit(state)
