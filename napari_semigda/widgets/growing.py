"""The masks of a large image as a layer that shows them while they grow."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from napari.layers import Image

from napari_semigda import grown
from napari_semigda.classes import of_model
from napari_semigda.engine.header import read_header
from napari_semigda.engine.types import EngineError
from napari_semigda.journal import digest
from napari_semigda.project import Project
from napari_semigda.tiling import can_cut
from napari_semigda.widgets.colours import class_colormap
from napari_semigda.widgets.ours import masks_on, note

_FOLDER = "grown"
"""In our note on the layer: where its masks are."""


def is_for(project: Project) -> bool:
    """Whether the masks of a project's images grow, because they are too large to come as a whole."""
    return can_cut([project.stack.plane(index) for index in range(len(project.stack))])


class Growing:
    """Masks that a model makes of one layer; going on with those that it has made so far.

    Parameters
    ----------
    viewer : napari.Viewer
        Where they are shown.
    image : napari.layers.Image
        The images.
    project : Project
        The same images, whose folder the masks are in.
    model : Path
        The model file.

    Raises
    ------
    EngineError
        When the model cannot be read, or the folder not be written.
    """

    def __init__(self, viewer: Any, image: Image, project: Project, model: Path) -> None:
        self.folder = project.folder / f"grown-{digest(model)[:16]}"
        store = grown.masks_in(self.folder, model, project.stack.shape).store
        known = [x for x in viewer.layers if note(x).get(_FOLDER) == str(store)]
        if known:
            self.layer = known[0]
            return
        name = f"{image.name} masks by {model.stem}"
        self.layer = masks_on(image, project.stack.shape, grown.levels(store), name=name, multiscale=True)
        note(self.layer)[_FOLDER] = str(store)
        with suppress(EngineError):  # the file went away meanwhile
            self.layer.colormap = class_colormap(of_model(read_header(model)))
        viewer.add_layer(self.layer)

    def show(self) -> None:
        """Show what has come since."""
        self.layer.refresh(extent=False)

    def save(self, path: Path) -> Path:
        """Copy the masks into an OME-Zarr, see `grown.save`."""
        layer, leading = self.layer, self.layer.ndim - 2
        axes = [*(label if label in ("t", "c") else "z" for label in layer.axis_labels[:leading]), "y", "x"]
        unit = {"micrometer": "um", "millimeter": "mm"}.get(str(layer.units[-1]), "")
        return grown.save(Path(note(layer)[_FOLDER]), path, axes[-2 - leading :], layer.scale, unit)
