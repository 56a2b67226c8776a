"""A problem report from the dock, and what goes wrong in the viewer noted in the log."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import Notification, notification_manager
from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QProcess, QTimer
from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from napari_semigda import problem
from napari_semigda.engine.types import EngineError
from napari_semigda.log import Log, computer_log
from napari_semigda.widgets import errand
from napari_semigda.widgets.runner import Failure

DOCTOR = (sys.executable, "-P", "-m", "napari_semigda.cli", "doctor")  # -P: as for the training process
PATIENCE_MS = 90_000


class Reporter:
    """Has `doctor` look in a process of its own, for torch stays out of the viewer, and then writes the report."""

    finished = Signal(bool, str)
    """Whether there is a report now, and a sentence."""

    def __init__(self) -> None:
        self._wanted: tuple[Path, dict[str, Any]] | None = None
        self._process = QProcess()
        self._process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self._process.finished.connect(self._on_examined)
        self._process.errorOccurred.connect(self._on_error)
        self._patience = QTimer(self._process)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._process.kill)

    def start(self, out: Path, **session: Any) -> None:
        """Write a report to `out` in some seconds; `session` is what `problem.compose` takes.

        Raises
        ------
        EngineError
            When one is being made already.
        """
        if self._wanted is not None:
            raise EngineError("A report is being made just now: wait a moment.")
        self._wanted = out, session
        program, *arguments = DOCTOR
        self._patience.start(PATIENCE_MS)
        self._process.start(program, [*arguments, str(session.get("folder") or Path.home())])

    def close(self) -> None:
        """Give up a report that is being made."""
        self._wanted = None
        if isalive(self._patience):  # Qt may have gone before us
            self._patience.stop()
        errand.end(self._process)

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:  # after every other one comes `finished`
            self._on_examined()

    def _on_examined(self, *_: Any) -> None:
        if self._wanted is None:
            return
        (out, session), self._wanted = self._wanted, None
        self._patience.stop()
        said = bytes(self._process.readAll()).decode(errors="replace").splitlines()
        try:
            problem.write(out, problem.compose(said or ["doctor said nothing"], **session))
        except EngineError as error:
            self.finished.emit(False, str(error))
        else:
            self.finished.emit(
                True, f"Wrote {out.name}: say in it what you did, and look through it before you send it."
            )


class ReportButton(QPushButton):
    """Asks where to, writes the report, and says how that went.

    Attributes
    ----------
    session : callable
        Gives what `problem.compose` takes, when the button is pressed.
    reporter : Reporter
        To be closed by whoever made the button.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Report a problem…", parent)
        self.setToolTip(
            "Write one text file for whoever helps you: versions, settings, this computer, what happened. No picture "
            "and no name of a file goes in. It is sent nowhere: that is up to you."
        )
        self.session: Callable[[], dict[str, Any]] = dict
        self.reporter = Reporter()
        self.reporter.finished.connect(errand.tell)
        self.clicked.connect(self.ask)

    def ask(self) -> None:
        """Ask for a place and write the report there."""
        path, _ = QFileDialog.getSaveFileName(self, "Report a problem", "semigda-problem.txt", "Text (*.txt)")
        if path:
            self.write(Path(path))

    def write(self, out: Path) -> bool:
        """Write the report; returns whether that was started."""
        return errand.begin(
            lambda: self.reporter.start(out if out.suffix else out.with_suffix(".txt"), **self.session()),
            "Looking at this computer for the report: that takes some seconds.",
        )


def note_failure(failure: Failure, log: Log | None = None) -> None:
    """Note why a run failed, with what the child process said of it."""
    (log or computer_log()).problem("run failed", f"{failure.message}\n{failure.details}")


class ErrorNotes:
    """Notes errors that nobody foresaw, as napari shows them.

    Parameters
    ----------
    log
        Gives the log of the moment.
    """

    def __init__(self, log: Callable[[], Log]) -> None:
        self._log = log
        notification_manager.notification_ready.connect(self._on_notification)

    def close(self) -> None:
        """Listen no more."""
        notification_manager.notification_ready.disconnect(self._on_notification)

    def _on_notification(self, notification: Notification) -> None:
        error = getattr(notification, "exception", None)
        if isinstance(error, BaseException) and _is_ours(error):
            self._log().problem("error", error)


def _is_ours(error: BaseException) -> bool:
    """Whether code of ours had a part in it; other plugins have their own logs."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("napari_semigda"):
            return True
        trace = trace.tb_next
    return False
