"""What the user does to classes: each edit is one step that Ctrl+Z takes back, in its turn with strokes."""

from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QMessageBox

from napari_semigda import classes as lists
from napari_semigda.classes import BACKGROUND, Classes
from napari_semigda.colours import HUES
from napari_semigda.engine.types import EngineError
from napari_semigda.project import Project
from napari_semigda.widgets import class_words
from napari_semigda.widgets.classes import ClassPicker
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.style import ClassNote, StyleChoice
from napari_semigda.widgets.writing import Erasure, check_writable

GREY = HUES["grey"].lower()
"""Of a background that is painted."""


class ClassEdits:
    """Between the class picker, the style of painting and the project.

    Parameters
    ----------
    bridge : LayerBridge
        Whose project and masks are edited.
    picker : ClassPicker
        Shows the classes and says what is wanted.
    style : StyleChoice
        The same for the style of painting.
    note : ClassNote
        Where it is said what became of it.
    """

    def __init__(self, bridge: LayerBridge, picker: ClassPicker, style: StyleChoice, note: ClassNote) -> None:
        self._bridge, self._picker, self._style, self._note = bridge, picker, style, note
        self._listening: Project | None = None
        for signal, slot in (
            (bridge.project_changed, self._on_project),
            (bridge.masks_chosen, self._on_class),
            (bridge.class_picked, picker.set_current),
            (bridge.digit_pressed, self._on_digit),
            (picker.picked, bridge.pick_class),
            (picker.add_wanted, lambda: self._attempt(self.add)),
            (picker.rename_wanted, lambda *what: self._attempt(self.rename, *what)),
            (picker.recolour_wanted, lambda *what: self._attempt(self.recolour, *what)),
            (picker.move_wanted, lambda *what: self._attempt(self.move, *what)),
            (picker.delete_wanted, lambda number: self._attempt(self.delete, number)),
            (style.valueChanged, lambda on: self._attempt(self.paint_scribbles, on)),
        ):
            signal.connect(slot)
        self._on_project()

    # -- what can be done -------------------------------------------------------------------------------------------

    def add(self) -> None:
        """Append a class, give it to the brush, and let the user type its name."""
        classes, new = self._project.one_more_class()
        self._do(classes)
        self._bridge.pick_class(new.number)
        self._picker.edit_name(new.number)

    def rename(self, number: int, name: str) -> None:
        """Give a class another name."""
        self._do(lists.rename(self._project.class_list, number, name))

    def recolour(self, number: int, colour: str) -> None:
        """Give a class another colour."""
        self._do(lists.recolour(self._project.class_list, number, colour))

    def move(self, number: int, by: int) -> None:
        """Move a class down the list, or up when `by` is negative."""
        self._do(lists.move(self._project.class_list, number, by))

    def delete(self, number: int) -> bool:
        """Delete a class with all that is painted of it, after asking when something is; returns whether."""
        bridge, project = self._bridge, self._project
        bridge.read_all_masks()
        name = lists.find(project.class_list, number).name
        left = lists.without(project.class_list, number)
        painted = project.pixels_of(number)
        if painted:
            check_writable(bridge.masks)
            if not self._confirmed(name, painted):
                return False
        went_on = self._goes_on()
        if painted:
            erasure = Erasure(bridge.masks, project.stack, number)
            self._do(left, first=lambda: self._write(erasure.erase), then_undo=lambda: self._write(erasure.restore))
        else:
            self._do(left)
        if bridge.masks.selected_label == number:
            bridge.pick_class(left[0].number)
        self._note.say(class_words.deleted(name, sum(painted.values()), went_on and not self._goes_on()))
        return True

    def paint_scribbles(self, on: bool) -> None:
        """Switch the style of painting; scribbles bring a class for background unless there is one."""
        project = self._project
        self._bridge.read_all_masks()
        classes, name = project.class_list, BACKGROUND
        if on and not any(each.name.lower() == BACKGROUND for each in classes):
            classes, new = project.one_more_class(BACKGROUND)
            name = new.name
            if not any(each.colour == GREY for each in classes):
                classes = lists.recolour(classes, new.number, GREY)
        went_on = self._goes_on()
        self._do(classes, scribbles=on)
        retrain = went_on and not self._goes_on()
        self._note.say(class_words.style_changed(on, len(project.painted), name, retrain))

    # -- doing it ---------------------------------------------------------------------------------------------------

    @property
    def _project(self) -> Project:
        if self._bridge.project is None or self._bridge.masks is None:
            raise EngineError("Press New masks first: classes are what you paint there.")
        return self._bridge.project

    def _do(
        self,
        classes: Classes,
        scribbles: bool | None = None,
        first: Callable[[], object] = lambda: None,
        then_undo: Callable[[], object] = lambda: None,
    ) -> None:
        """Make `classes` those of the project as one step; `first` is part of it, and `then_undo` takes that back."""
        project = self._project
        before = project.class_list, project.scribbles
        after = classes, before[1] if scribbles is None else scribbles
        if before == after:
            return
        self._note.say("")

        def forth() -> None:
            first()
            project.set_classes(*after)

        def back() -> None:
            self._note.say("")
            project.set_classes(*before)
            then_undo()

        forth()
        self._bridge.history.add(back, forth)
        self._bridge.viewer.layers.selection.active = self._bridge.masks  # so that Ctrl+Z goes to the masks

    def _write(self, change: Callable[[], object]) -> None:
        """Change the masks and have the change read at once."""
        change()
        self._bridge.read_all_masks()

    def _confirmed(self, name: str, painted: dict[int, int]) -> bool:
        """Say what happens to painted pixels and ask whether that is wanted."""
        project = self._project
        verified = sum(project.review.is_verified(plane) for plane in painted)
        box = QMessageBox(self._picker)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle(f"Delete {name}?")
        box.setText(class_words.deletes(name, sum(painted.values()), len(painted), verified, project.scribbles))
        delete = box.addButton("Delete", QMessageBox.ButtonRole.DestructiveRole)
        keep = box.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(keep)
        box.setEscapeButton(keep)
        box.exec()
        clicked = box.clickedButton()
        box.deleteLater()
        return clicked is delete

    def _goes_on(self) -> bool:
        """Whether the next round would go on from a model, as far as classes and style decide that."""
        project = self._project
        return bool(project.rounds) and project.goes_on_from(project.rounds[-1].settings.backbone) is not None

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Do something of the user's wish, say what is wrong with it, and show how things are now."""
        try:
            action(*arguments)
        except EngineError as error:
            self._note.say(str(error))
            show_warning(str(error))
        self._show()

    # -- following --------------------------------------------------------------------------------------------------

    def _on_project(self) -> None:
        if self._listening is not None:
            self._listening.classes_changed.disconnect(self._show)
            self._listening.masks_changed.disconnect(self._note.clear_it)
        self._listening = project = self._bridge.project
        self._note.say("")
        if project is not None:
            project.classes_changed.connect(self._show)
            project.masks_changed.connect(self._note.clear_it)
            self._show()

    def _show(self) -> None:
        project = self._bridge.project
        if project is not None:
            self._picker.setValue(project.class_list)
            self._style.setValue(project.scribbles)
            self._on_class()

    def _on_class(self) -> None:
        if self._bridge.masks is not None:
            self._picker.set_current(int(self._bridge.masks.selected_label))

    def _on_digit(self, number: int) -> None:
        if number in self._project.classes:
            self._bridge.pick_class(number)
        else:
            show_warning(class_words.no_class(number))
