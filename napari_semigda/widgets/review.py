"""The dock "SemiGDA: Review": all images at a glance, which one next, and what is true."""

from typing import Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_semigda.engine.types import EngineError
from napari_semigda.project import Project
from napari_semigda.review import ImageState
from napari_semigda.widgets import commands, keys, words
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.review_view import ReviewView, figures
from napari_semigda.widgets.tour import Tour
from napari_semigda.widgets.train import TrainDock
from napari_semigda.widgets.words import State

REFRESH_MS = 100
"""Strokes and predictions come in bursts; the table is brought up to date this long after the first."""


class ReviewDock(ReviewView):
    """Look through the images of the Train dock: its table and the viewer's slider follow each other.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer that both docks are in.
    train : TrainDock, optional
        The dock whose images are shown; that of the viewer, opened when there is none.
    """

    def __init__(
        self,
        napari_viewer: "napari.viewer.Viewer",  # noqa: F821 - napari resolves it
        *,
        train: TrainDock | None = None,
    ) -> None:
        super().__init__()
        self._train: TrainDock | None = None
        self._listening: Project | None = None
        self._tour: Tour | None = None
        self._running = False
        self._asked: int | None = None  # the image that Verify has just asked about
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(REFRESH_MS)
        self._soon.timeout.connect(self.refresh)
        actions = {keys.VERIFY: self.verify, keys.SKIP: self.skip, keys.NEXT: self.next_doubtful}
        self.at_the_end(keys.Keys(napari_viewer, actions).release, self.table.thumbnails.close, self._let_go)
        for signal, slot in (
            (self.state_box.currentIndexChanged, lambda _: self._arrange()),
            (self.order_box.currentIndexChanged, lambda _: self._arrange()),
            (self.view.went_to, self._on_went_to),
            (self.next_button.clicked, self.next_doubtful),
            (self.skip_button.clicked, self.skip),
            (self.accept_button.clicked, self.accept),
            (self.verify_button.clicked, self.verify),
            (self.doubt_box.toggled, self._show_doubt),
            (self.toggle_button.clicked, self._toggle_prediction),
            (self.train_button.clicked, self.open_train),
            (self.rounds.choice.chosen, self._use_round),
        ):
            signal.connect(slot)
        self._on_project()
        if train is not None:
            self.work_with(train)
        else:  # once this dock has its place
            QTimer.singleShot(0, self.open_train)

    # -- the Train dock ---------------------------------------------------------------------------------------------

    @property
    def bridge(self) -> LayerBridge | None:
        """The layers that are looked through."""
        return None if self._train is None else self._train.bridge

    def open_train(self) -> None:
        """Work with the Train dock of the viewer, which is opened when it is not there."""
        self.work_with(commands.train_dock())
        share_place(self, self._train)

    def work_with(self, train: TrainDock) -> None:
        """Show the images of a Train dock."""
        self._let_go()
        self._train, self._tour, self._running = train, Tour(train.bridge), train.training.running
        train.bridge.project_changed.connect(self._on_project)
        train.bridge.plane_changed.connect(self._on_plane)
        train.bridge.masks_chosen.connect(self._refresh_soon)
        train.bridge.layers_changed.connect(self._refresh_soon)
        train.bridge.closed.connect(self._on_closed)
        train.training.changed.connect(self._on_train_state)
        train.doubt_box.toggled.connect(self.doubt_box.setChecked)
        self.doubt_box.setChecked(train.doubt_box.isChecked())
        self._on_project()

    def _let_go(self) -> None:
        """Listen to nobody; touches no widget."""
        if (bridge := self.bridge) is not None:
            bridge.project_changed.disconnect(self._on_project, missing_ok=True)
            bridge.plane_changed.disconnect(self._on_plane, missing_ok=True)
            bridge.masks_chosen.disconnect(self._refresh_soon, missing_ok=True)
            bridge.layers_changed.disconnect(self._refresh_soon, missing_ok=True)
            bridge.closed.disconnect(self._on_closed, missing_ok=True)
            self._train.training.changed.disconnect(self._on_train_state, missing_ok=True)
        self._train = self._tour = None
        self._listen(None)

    def _listen(self, project: Project | None) -> None:
        if self._listening is not None:
            self._listening.masks_changed.disconnect(self._refresh_soon)
            self._listening.review.marks_changed.disconnect(self._refresh_soon)
            self._listening.review.predicted.disconnect(self._refresh_soon)
            self._listening.rounds.changed.disconnect(self._on_rounds)
        self._listening = project
        if project is not None:
            project.masks_changed.connect(self._refresh_soon)
            project.review.marks_changed.connect(self._refresh_soon)
            project.review.predicted.connect(self._refresh_soon)
            project.rounds.changed.connect(self._on_rounds)

    def _on_closed(self) -> None:
        """The Train dock was closed, and with it the project."""
        self._let_go()
        if self.alive:
            self._on_project()

    # -- what can be done -------------------------------------------------------------------------------------------

    @property
    def project(self) -> Project | None:
        """Whose images are shown."""
        return None if self.bridge is None else self.bridge.project

    def accept(self) -> int:
        """Copy the prediction of the image in view into the masks; returns how many pixels changed."""
        return 0 if self._train is None else self._train.accept()

    def verify(self) -> bool:
        """Say that the masks of the image in view are the truth, or are not any more; returns which."""
        if (project := self.project) is None:
            return self._refuse(words.NO_IMAGES_TO_REVIEW)
        self.bridge.read_masks()
        plane = self.bridge.plane_in_view()
        painted, verified = plane in project.painted, not project.review.is_verified(plane)
        if verified and not painted and (problem := self._why_not_empty(plane)):
            return self._refuse(problem)
        self._mark("verified" if painted else "empty", plane, verified)
        self.bridge.viewer.layers.selection.active = self.bridge.masks  # so that Ctrl+Z goes to the masks
        return verified

    def _why_not_empty(self, plane: int) -> str:
        """What keeps an image without paint from being verified as one that holds nothing; a sentence or none."""
        name, predicted = self.project.stack.plane_name(plane), self.bridge.ours("predicted")
        if self.bridge.masks is None:
            return words.ASK_FOR[State.NO_MASKS]
        if self.project.scribbles:
            return words.empty_in_scribbles(name)
        asked, self._asked = self._asked == plane, plane
        if predicted is not None and predicted.data[self.project.stack.position(plane)].any() and not asked:
            return words.empty_or_accept(name)  # who forgot to accept must not teach that all this is background
        return ""

    def skip(self) -> bool:
        """Do not suggest the image in view any more and go to the next, or suggest it again; returns which."""
        if (project := self.project) is None:
            return self._refuse(words.NO_IMAGES_TO_REVIEW)
        self.bridge.read_masks()
        plane = self.bridge.plane_in_view()
        state = project.review.state(plane)
        if state in (ImageState.VERIFIED, ImageState.IN_PROGRESS):
            verified = state is ImageState.VERIFIED
            return self._refuse(words.nothing_to_skip(project.stack.plane_name(plane), verified))
        skipped = state is not ImageState.SKIPPED
        self._mark("skipped", plane, skipped)
        if skipped and project.review.suggestions():
            self._go_on(to_next_image=True)
        return skipped

    def _mark(self, kind: str, plane: int, on: bool) -> None:
        """Mark an image as one step that Ctrl+Z takes back."""
        project = self.project

        def mark(wanted: bool) -> None:
            project.review.mark(kind, plane, wanted)
            self.say(words.marked(project.stack.plane_name(plane), kind, wanted))

        mark(on)
        self.bridge.history.add(lambda: mark(not on), lambda: mark(on))

    def _show_doubt(self, shown: bool) -> None:
        if self._train is not None:
            self._train.doubt_box.setChecked(shown)

    def _toggle_prediction(self) -> None:
        if self.bridge is not None:
            self.bridge.toggle_prediction()

    def next_doubtful(self) -> None:
        """Go to the next place in doubt."""
        if (project := self.project) is None:
            self._refuse(words.NO_IMAGES_TO_REVIEW)
            return
        self.bridge.read_masks()
        if project.review.suggestions():
            self._go_on()
        elif self.bridge.ours("predicted") is not None:
            self.say(words.NOTHING_LEFT)
            show_info(words.NOTHING_LEFT)
        elif self._train.training.predict():  # a project that was opened a moment ago
            self.say(words.marking_first(project.rounds.in_use.number))
        else:
            self._refuse(words.NOTHING_PREDICTED)

    def _go_on(self, to_next_image: bool = False) -> None:
        stop = self._tour.go_on(to_next_image)
        if stop is not None:
            self.say(words.in_doubt(self.project.stack.plane_name(stop.plane), stop.place, stop.places))

    def _use_round(self, number: int) -> None:
        if self._train is not None and not self._train.training.use_round(number):
            self._on_rounds()  # a refused choice must not stay in the combo box

    def _refuse(self, sentence: str) -> bool:
        self.say(sentence)
        show_warning(sentence)
        return False

    # -- following --------------------------------------------------------------------------------------------------

    def _on_project(self) -> None:
        """Other images."""
        project = self.project
        self._listen(project)
        self._on_rounds()
        self.table.show(project)
        if self._tour is not None:
            self._tour.restart()
        self.say("" if project is not None else words.NO_IMAGES_TO_REVIEW)
        self._arrange()

    def _on_rounds(self) -> None:
        """A round more, or another model in use."""
        if self.alive:
            self.rounds.show_rounds(self.project)

    def _on_train_state(self, state: Any) -> None:
        """When a run ended its predictions are all there, and the order may be another."""
        ended = self._running and state not in words.RUNNING
        self._running = state in words.RUNNING
        if ended and self._tour is not None:
            self._tour.restart()
            self._arrange()

    def _on_plane(self, plane: int) -> None:
        self._asked = None
        self.view.follow(plane)
        self._enable()

    def _on_went_to(self, plane: int) -> None:
        try:
            self.bridge.go_to(plane)
        except EngineError as error:
            self._refuse(str(error))

    def _arrange(self) -> None:
        self.arrange()
        self.refresh()

    def _refresh_soon(self, *_: Any) -> None:
        if self.alive and not self._soon.isActive():
            self._soon.start()

    def refresh(self) -> None:
        """Show how things stand."""
        project = self.project
        planes = range(len(project.stack)) if project is not None else ()
        self.counts.setText(figures(project.review.count(planes)) if project is not None else "")
        self.table.refresh()
        self.view.show_known_columns()
        if project is not None:
            self.view.follow(self.bridge.plane_in_view())
        self._enable()

    def _enable(self) -> None:
        project = self.project
        self.enable_for(
            images=project is not None,
            predicted=project is not None and self.bridge.ours("predicted") is not None,
            verified=project is not None and project.review.is_verified(self.bridge.plane_in_view()),
            connected=self._train is not None,
        )

    def say(self, sentence: str) -> None:
        """Show one sentence below the buttons."""
        self.sentence.setText(sentence)
        self.sentence.setVisible(bool(sentence))


def share_place(one: QWidget, other: QWidget) -> None:
    """Make two docks of one area tabs, `one` on top: below each other they would both be too low to use."""
    places = [_dock_of(widget) for widget in (one, other)]
    if None in places:
        return
    window = places[0].parentWidget()
    if isinstance(window, QMainWindow) and len({window.dockWidgetArea(place) for place in places}) == 1:
        window.tabifyDockWidget(places[1], places[0])
        QTimer.singleShot(0, places[0].raise_)  # a tab that has not been laid out yet does not come to the front


def _dock_of(widget: QWidget | None) -> QDockWidget | None:
    while widget is not None and not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget
