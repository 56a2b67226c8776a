"""Commands of the palette and of files: they find the Train dock, or open it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_semigda.launch import dock_train
from napari_semigda.store import is_project, project_folder
from napari_semigda.widgets.train import TrainDock


def new_project() -> None:
    """Ask for a folder of images and make it a project."""
    train_dock().projects.ask_new()


def open_project() -> None:
    """Ask for the folder of a project and open it."""
    train_dock().projects.ask_open()


def show_keys() -> None:
    """Show the keys of the docks, or put them away."""
    train_dock().show_keys()


def report_problem() -> None:
    """Ask for a place and write there what whoever helps has to know."""
    train_dock().report_button.ask()


def project_reader(path: str | list[str]) -> Callable[[Any], list[tuple[None]]] | None:
    """For napari: how to read a ``project.json`` that was dropped; None when it is not one of ours."""
    first = Path(path if isinstance(path, str) else path[0])
    folder = project_folder(first)
    if first.name != "project.json" or folder == first.parent or not is_project(folder):
        return None

    def read(_: Any) -> list[tuple[None]]:
        train_dock().projects.open(folder)
        return [(None,)]  # napari's word for "there are no layers to add"

    return read


def train_dock() -> TrainDock:
    """The Train dock of the current viewer, opened when it is not there."""
    import napari

    def find() -> TrainDock | None:
        docks = napari.current_viewer().window.dock_widgets.values()
        return next((each for each in docks if isinstance(each, TrainDock)), None)

    if (dock := find()) is None:
        dock_train()
        dock = find()
    return dock
