"""Making, opening and closing projects from the dock; what a project has to say reaches the user here."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QFileDialog

from napari_semigda.classes import Classes
from napari_semigda.engine.types import EngineError
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore, is_project, project_folder
from napari_semigda.widgets import opened
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.project_row import SAVED, ProjectRow


class Projects(QObject):
    """Follows the row at the top of a dock.

    Parameters
    ----------
    bridge : LayerBridge
        What shows a project and says when its layers are gone.
    row : ProjectRow
        What the user presses.
    busy : callable
        Whether a training is running, during which no project is opened or closed.
    """

    # From the writing thread to this one:
    _said = Signal(str)
    _saving = Signal(str)

    def __init__(self, bridge: LayerBridge, row: ProjectRow, busy: Callable[[], bool]) -> None:
        super().__init__(row)
        self._bridge, self._row, self._busy = bridge, row, busy
        self._seen: set[str] = {str(layer.unique_id) for layer in bridge.viewer.layers}
        self._said.connect(show_warning)
        self._saving.connect(self._on_saving)
        bridge.layers_changed.connect(self._on_layers)
        bridge.project_changed.connect(self._on_project)
        row.new_wanted.connect(self.ask_new)
        row.open_wanted.connect(lambda folder: self.ask_open() if folder is None else self.open(folder))
        row.close_wanted.connect(self.close)
        row.accepted.connect(self._on_accepted)

    # -- what the user can do -----------------------------------------------------------------------------------

    def ask_new(self) -> None:
        """Ask for a folder of images and make it a project."""
        if folder := QFileDialog.getExistingDirectory(self._row, "A folder of images"):
            self.new(Path(folder))

    def ask_open(self) -> None:
        """Ask for the folder of a project and open it."""
        if folder := QFileDialog.getExistingDirectory(self._row, "The folder of a project"):
            self.open(Path(folder))

    def new(self, folder: Path) -> bool:
        """Make a project of the images in a folder; paint on the same images in the viewer is taken over."""
        return self._show(lambda: ProjectStore.create(folder, *self._loose_classes(folder)))

    def open(self, folder: Path) -> bool:
        """Open a project."""
        if project_folder(folder).absolute() == self._row.value():
            return True
        return self._show(lambda: ProjectStore.open(folder))

    def close(self) -> None:
        """Close the project that is open; everything in it is saved."""
        if not self._refused() and (image := self._image()) is not None:
            for layer in reversed(opened.layers_of(self._bridge.viewer, image)):
                self._bridge.viewer.layers.remove(layer)

    # -- opening ------------------------------------------------------------------------------------------------

    def _show(self, make: Callable[[], ProjectStore]) -> bool:
        if self._refused():
            return False
        try:
            store = make()
            store.on_problem = lambda sentence: self._tell(self._said, sentence)
            store.on_saving = lambda sentence: self._tell(self._saving, sentence)
            project = Project(ImageStack(store.folder.name, store.images, store.images.rgb), keeper=store)
        except EngineError as error:
            show_warning(str(error))
            return False
        self.close()
        painted = self._take_over(project, store.folder)
        for layer in painted:
            self._bridge.viewer.layers.remove(layer)
        self._bridge.open_project(project, opened.image_layer(project, str(store.folder), store.spacing))
        self._row.recent.add(store.folder)
        if store.read_only:
            self._row.show_saved("not saved", store.problems[0])
        for sentence in store.problems:
            show_warning(sentence)
        return True

    def _refused(self) -> bool:
        if self._busy():
            show_warning("A training is running: press Stop first.")
            return True
        return False

    def _loose_images(self, folder: Path) -> list[Any]:
        """Layers that were opened from `folder` as a whole."""
        layers = [x for x in self._bridge.image_layers() if not opened.is_kept(x)]
        return [x for x in layers if x.source.path and Path(x.source.path).absolute() == folder.absolute()]

    def _loose_classes(self, folder: Path) -> tuple[Classes, bool]:
        """Classes and style of painting of loose layers that show the same images."""
        project, image = self._bridge.project, self._bridge.image
        loose = image is not None and image in self._loose_images(folder)
        return (project.class_list, project.scribbles) if loose else ((), False)

    def _take_over(self, project: Project, folder: Path) -> list[Any]:
        """Copy paint from loose layers that show the same images; returns the layers that are of no more use."""
        images, bridge = self._loose_images(folder), self._bridge
        if bridge.image in images and bridge.masks is not None and not project.painted:
            bridge.read_all_masks()
            if bridge.project.stack.shape == project.stack.shape:
                project.update_masks(bridge.masks.data)
                images = [*images, bridge.masks]
        return images

    # -- following ----------------------------------------------------------------------------------------------

    def _image(self) -> Any | None:
        return next((x for x in self._bridge.image_layers() if opened.is_kept(x)), None)

    def _on_project(self) -> None:
        image = self._image()
        folder = None if image is None else Path(opened.note(image)[opened.PROJECT])
        if folder != self._row.value():
            self._row.setValue(folder)

    def _on_layers(self) -> None:
        """A folder that was dragged onto the viewer is offered as a project, or opened when it is one."""
        for layer in self._bridge.image_layers():
            if str(layer.unique_id) in self._seen:
                continue
            self._seen.add(str(layer.unique_id))
            path = layer.source.path
            if path and not opened.is_kept(layer) and Path(path).is_dir():
                QTimer.singleShot(0, lambda folder=Path(path): self._on_folder(folder))
        if (offered := self._row.offered()) is not None and not self._loose_images(offered):
            self._row.offer(None)
        self._on_project()

    def _on_folder(self, folder: Path) -> None:
        if not is_project(folder):
            self._row.offer(
                folder, f"Make {folder.name} a project? What you paint is then saved as you go.", "Make a project"
            )
        elif self._image() is not None or self._busy() or not self.open(folder):
            self._row.offer(folder, f"{folder.name} is a project.", "Open it")

    def _on_accepted(self, folder: Path) -> None:
        if (self.open if is_project(folder) else self.new)(folder):
            self._row.offer(None)

    def _on_saving(self, problem: str) -> None:
        """Saving failed, or nothing: all is well again."""
        if problem:
            self._row.show_saved("not saved", problem)
            show_warning(problem)
        else:
            self._row.show_saved(*SAVED)
            show_info("Everything is saved again.")

    @staticmethod
    def _tell(signal: Any, sentence: str) -> None:
        with suppress(RuntimeError):  # the viewer is closing: there is nobody to tell
            signal.emit(sentence)
