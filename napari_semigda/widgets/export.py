"""A model to a BioImage.IO package, in a process of its own: torch stays out of the viewer."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from psygnal import Signal
from qtpy.QtCore import QProcess
from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from napari_semigda.engine.types import EngineError
from napari_semigda.scratch import Scratch
from napari_semigda.widgets import errand

COMMAND = (sys.executable, "-P", "-m", "napari_semigda.cli", "export")  # -P: as for the training process


class Exporter:
    """Runs ``semigda export``, one at a time."""

    finished = Signal(bool, str)
    """Whether there is a package now, and a sentence."""

    def __init__(self) -> None:
        self._folder: Scratch | None = None  # holds copies of what the export reads
        self._process = QProcess()
        self._process.finished.connect(self._on_finished)

    @property
    def running(self) -> bool:
        """Whether an export is going on."""
        return self._process.state() != QProcess.ProcessState.NotRunning

    def start(self, save: Callable[[Path], Path], image: Any, out: Path) -> None:
        """Export a model with an example picture.

        Parameters
        ----------
        save : callable
            Writes the model file to a path, as `Project.save_model` does: a copy, so that it may go away meanwhile.
        image : array-like
            (H, W) or (H, W, C).
        out : Path
            The package; ``.zip`` is added where it is missing.

        Raises
        ------
        EngineError
            When an export is running, or there is no room for the copies.
        """
        if self.running:
            raise EngineError("A model is being exported just now: wait for it to end.")
        self._folder = Scratch()
        example = self._folder.path / "example.tif"
        try:
            pixels = np.asarray(image)
            colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
            tifffile.imwrite(example, pixels, photometric="rgb" if colour else "minisblack")
        except (OSError, ValueError) as error:
            raise EngineError(f"The model could not be made ready for export ({error}): free some space.") from error
        copy = save(example.with_name("model.semigda"))
        package = out if out.suffix.lower() == ".zip" else out.with_name(f"{out.name}.zip")
        program, *arguments = COMMAND
        self._process.start(program, [*arguments, str(copy), str(package), "--image", str(example)])

    def close(self) -> None:
        """End an export that is running."""
        errand.end(self._process)

    def _on_finished(self, status: int, _: Any = None) -> None:
        said = bytes(self._process.readAllStandardError()).decode(errors="replace").split("\n")
        sentence = next((line for line in reversed(said) if line.strip()), "The export was ended.")
        self.finished.emit(status == 0, sentence)


class ExportButton(QPushButton):
    """Asks where to, exports, and says how that went.

    Attributes
    ----------
    chosen : callable
        Gives what saves the model, and the example picture, when the button is pressed.
    exporter : Exporter
        To be closed by whoever made the button.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Export model…", parent)
        self.setToolTip(
            "Make a BioImage.IO package, which Fiji, ilastik and others can run. The middle of the slice in view goes "
            "into it as an example: go to one that others may see first."
        )
        self.chosen: Callable[[], tuple[Callable[[Path], Path], Any]] | None = None
        self.exporter = Exporter()
        self.exporter.finished.connect(errand.tell)
        self.clicked.connect(self._ask)

    def export(self, out: Path) -> bool:
        """Export to a file; returns whether that was started."""
        return errand.begin(
            lambda: self.exporter.start(*self.chosen(), out),
            "Exporting the model and trying the package out: that takes about half a minute.",
        )

    def _ask(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the model", "model.zip", "BioImage.IO packages (*.zip)")
        if path:
            self.export(Path(path))
