"""`napari-semigda`: the viewer with the Train dock open."""

from pathlib import Path
from typing import Annotated, Any

import typer

TRAIN = "napari-semigda.train"


def open_viewer(
    files: Annotated[list[Path] | None, typer.Argument(help="Images to open.", show_default=False)] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Open the bundled brain slices with some masks.")] = False,
) -> None:
    """Open napari with the SemiGDA Train dock on the right, ready to paint and train."""
    # Here and not above: the package itself must import without a viewer.
    import napari  # noqa: TID251

    viewer = napari.Viewer(title="SemiGDA")
    if sample:
        viewer.open_sample("napari-semigda", "brain")
    if files:
        viewer.open([str(file) for file in files], stack=False)
    dock_train()
    napari.run()


def dock_train() -> Any:
    """Open the Train dock of the current viewer as its menu entry does, so that the entry makes no second one."""
    from app_model import Application

    return Application.get_app("napari").commands.execute_command(TRAIN).result()


def main() -> None:
    """Run the command line."""
    typer.run(open_viewer)
