"""A program that runs beside the viewer for a button: begun in words, its outcome told, ended with the dock."""

from collections.abc import Callable

from napari.utils.notifications import show_info, show_warning
from qtpy.compat import isalive
from qtpy.QtCore import QProcess

from napari_semigda.engine.types import EngineError


def begin(start: Callable[[], None], sentence: str) -> bool:
    """Start it and say so, or say why not; returns whether it was started."""
    try:
        start()
    except EngineError as error:
        tell(False, str(error))
        return False
    show_info(sentence)
    return True


def tell(well: bool, sentence: str) -> None:
    """Say how it went."""
    (show_info if well else show_warning)(sentence)


def end(process: QProcess) -> None:
    """End it now; nobody hears of that any more."""
    if isalive(process):  # Qt may have gone before us
        process.blockSignals(True)
        process.kill()
        process.waitForFinished(3000)
        process.blockSignals(False)
