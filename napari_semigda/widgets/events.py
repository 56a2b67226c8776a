"""What the viewer hears of its training process, as frozen events."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_semigda.engine import answers
from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.types import BatchReport, Prediction, Report


@dataclass(frozen=True)
class Ready:
    """The process has loaded the engine."""

    device: str


@dataclass(frozen=True)
class Copied:
    """So many of so many images are where the process can read them."""

    done: int
    total: int


@dataclass(frozen=True)
class Failure:
    """Why a run ended without a result."""

    message: str
    details: str = ""


@dataclass(frozen=True)
class Lost:
    """The process has ended in the middle of its work."""

    status: int
    details: str = ""  # the end of its log

    def failure(self, hung: bool = False) -> Failure:
        """That nothing more is done about it."""
        kept = "Your painted masks are untouched; press Train to start again."
        return Failure(f"{_cause(self.status, hung)} {kept}", self.details)


Event = Ready | Copied | Report | BatchReport | Prediction | Outcome | Failure | Lost


def event_of(line: dict[str, Any], folder: Path | None) -> list[Event]:
    """The events of one line that the process has said; `folder` is where its arrays are."""
    match line["kind"]:
        case "ready":
            return [Ready(line["device"])]
        case "report":
            report = answers.report_from_json(line, folder)
            return [report] if report.preview is None else [report, report.preview]
        case "batch":
            return [answers.batch_from_json(line)]
        case "prediction":
            return [answers.prediction_from_json(line, folder)]
        case "done":
            return [answers.outcome_from_json(line)]
        case "error":
            return [Failure(line["message"], line["details"])]
    return []


def _cause(status: int, hung: bool) -> str:
    """An exit status as a sentence."""
    if hung:
        return "The training process stopped answering and was ended."
    if status < 0 and -status in (getattr(signal, "SIGKILL", 9), 9):
        return (
            "The system ended the training process, most likely because memory ran out. "
            "Close other programs or use smaller images."
        )
    if status < 0:
        return f"The training process crashed (signal {-status})."
    return f"The training process ended unexpectedly (exit status {status})."
