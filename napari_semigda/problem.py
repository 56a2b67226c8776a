"""A problem report: one text file with what whoever helps has to know, and nothing of the pictures.

In it are versions, what `doctor` found, the settings, what a project holds in numbers, and the end of its log. Names of
files and people are left out (see `redact`).
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import replacing
from napari_semigda.log import computer_log, last_lines
from napari_semigda.redact import Redactor, ending_of
from napari_semigda.store import FOLDER, LOGS, is_project
from napari_semigda.store.index import Index, peek

LINES = 300
"""Of a log that go into a report."""
_OPENING = """\
napari-semigda: a problem report, made {when}

It holds no picture, no mask and no name of a file. Look through it before you pass it on, and say here what you
did, what you saw, and what you had expected:


"""


def compose(
    examined: Iterable[str],
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    said: str = "",
    hidden: Iterable[str] = (),
) -> str:
    """The whole text.

    Parameters
    ----------
    examined
        Lines that `doctor` gave.
    folder
        Of the project, where there is one.
    settings
        What is chosen for the next round.
    said
        The error on show, with its details.
    hidden
        Names that must not be in it, besides those of the project.
    """
    plain = Redactor()
    plain.hide(hidden)
    index = Index()
    logs = {"of the computer": computer_log().folder}
    if folder is not None and is_project(folder):
        index = peek(folder / FOLDER)
        logs = {"of the project": folder / FOLDER / LOGS} | logs
        plain.hide([str(folder), folder.name, *(entry.file for entry in index.images)])
    parts: dict[str, Iterable[str]] = {
        "What was said last": [plain(said)],
        "What was found": map(plain, examined),
        "This computer": map(plain, _computer()),
        "Versions": versions(),
        "Settings": [plain(json.dumps(dict(settings or {})))],
        "Project": _project(index),
        **{f"Log {which}": last_lines(path, LINES) for which, path in logs.items()},  # without names as it is
    }
    opening = _OPENING.format(when=datetime.now(UTC).isoformat(timespec="seconds"))
    return opening + "\n".join("\n".join([f"== {title}", *lines, ""]) for title, lines in parts.items())


def write(out: Path, text: str) -> None:
    """Write a report, whole or not at all.

    Raises
    ------
    EngineError
        When it cannot be written.
    """
    with replacing(out) as part:
        part.write_text(text, encoding="utf-8")


def versions() -> list[str]:
    """A line for each package that we need, and whether it is there."""
    try:
        names = {re.match(r"[\w.-]+", line)[0] for line in requires("napari-semigda") or ()}
    except PackageNotFoundError:
        names = set()
    found = {"Python": platform.python_version()}
    for name in ("napari-semigda", *sorted(names | {"PyQt5", "PyQt6", "PySide6", "numcodecs", "vispy"}, key=str.lower)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return [f"{name} {number}" for name, number in found.items()]


def _computer() -> list[str]:
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "CUDA_VISIBLE_DEVICES",
        "QT_QPA_PLATFORM",
        "QT_API",
        "XDG_SESSION_TYPE",
    )
    return [
        f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} processors",
        *(f"{name}={os.environ[name]}" for name in names if name in os.environ),
    ]


def _project(index: Index) -> list[str]:
    """What a project holds, in numbers."""
    kinds = Counter((ending_of(entry.file), entry.dtype, len(entry.planes), entry.planes[0]) for entry in index.images)
    lines = [
        f"{count} {ending} images, {dtype}, {planes} planes of {' x '.join(map(str, size))}"
        for (ending, dtype, planes, size), count in kinds.most_common(20)
    ]
    marks = {
        kind: sum(len(getattr(entry, kind)) for entry in index.images) for kind in ("verified", "skipped", "empty")
    }
    lines.append(f"{len(index.classes)} classes, scribbles {index.scribbles}, {marks}")
    for each in index.rounds[-10:]:
        facts = {"dice": each.dice, "labelled": each.labelled, "seconds": round(each.seconds), "stopped": each.stopped}
        settings = asdict(each.settings) | {
            "backbone_source": each.settings.backbone_source is not None
        }  # a path, perhaps
        lines.append(f"round {each.number}: {json.dumps(facts | {'settings': settings})}")
    return lines


def examined(folder: Path) -> list[str]:
    """What `doctor` finds, a line each; imports torch."""
    from napari_semigda.doctor import examine

    try:
        return [str(finding) for finding in examine(folder)]
    except (EngineError, ImportError, OSError, RuntimeError) as error:  # what is broken is what the report is about
        return [f"the examination ended with {type(error).__name__}: {error}"]
