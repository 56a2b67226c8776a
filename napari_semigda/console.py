"""What the command line says: progress to people on stderr, results and JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from napari_semigda.engine.types import Report

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from napari_semigda.engine.metrics import Average
    from napari_semigda.evaluation import Evaluation

_STAGES = {
    "starting": "Getting ready",
    "aligning": "Aligning the branches",
    "learning": "Learning from masks",
    "unlabelled": "Learning from all images",
    "checking": "Checking",
    "predicting": "Predicting",
    "done": "Done",
    "stopped": "Stopped",
}


@contextmanager
def json_lines() -> Iterator[Callable[[Report], None]]:
    """Yields a function that writes a report to stdout; anything else printed meanwhile goes to stderr."""
    from napari_semigda.engine.answers import report_to_json

    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        yield lambda report: write_line(stdout, report_to_json(replace(report, preview=None), Path(), ""))


@contextmanager
def progress_bar() -> Iterator[Callable[[Report], None]]:
    """Yields a function that shows a report to people: a moving bar on a terminal, a line a stage in a log file."""
    with bar("Getting ready", guess=False) as (progress, task):
        progress.update(task, total=1.0)
        shown = noted = ""

        def show(report: Report) -> None:
            nonlocal shown, noted
            named = (("loss", report.loss), ("held-out Dice", report.dice))
            figures = [f"{name} {value:.3f}" for name, value in named if value is not None]
            if report.remaining and report.model is None:
                figures.append(f"{'at most ' * report.at_most}{timedelta(seconds=round(report.remaining))} left")
            status = " · ".join([_STAGES[report.stage], *figures])
            progress.update(task, completed=report.fraction, description=status)
            lines = [report.message, f"Saved {report.model}" if report.model is not None else ""]
            if report.note != noted:
                lines.insert(0, report.note)
                noted = report.note
            if progress.disable and report.stage != shown:
                lines.insert(0, f"{report.elapsed:6.0f} s  {status}")
                shown = report.stage
            for line in filter(None, lines):
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield show


@contextmanager
def bar(description: str, *, guess: bool = True) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on stderr where that is a terminal; yields it and its only task.

    With `guess` it works the time left out by itself, from how far the task has come.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()]
    columns += [TimeRemainingColumn()] * guess
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress, progress.add_task(description, total=None)


def print_table(result: Evaluation) -> None:
    """Show scores to people, on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result.images} images")
    for heading in ("class", "Dice", "IoU", f"HD95 [{result.unit}]"):
        table.add_column(heading.replace("[", r"\["), justify="right")
    for name, summary in [*((str(c), s) for c, s in result.by_class.items()), ("overall", result.overall)]:
        table.add_row(name, _told(summary.dice, 4), _told(summary.iou, 4), _told(summary.hausdorff, 2))
    console = Console()
    console.print(table)
    console.print("mean ± standard deviation (number of images)", highlight=False)


def _told(average: Average, digits: int) -> str:
    if not average.images:
        return "- (0)"
    spread = f" ± {average.sd:.{digits}f}" if average.images > 1 else ""
    return f"{average.mean:.{digits}f}{spread} ({average.images})"


def write_line(stream: TextIO, content: dict[str, Any]) -> None:
    """Write one line of JSON at once; nan becomes null, which JSON has a word for."""
    stream.write(json.dumps(_finite(content), allow_nan=False) + "\n")
    stream.flush()


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not abs(content) < float("inf") else content


def warn(*sentences: str) -> None:
    """One line each, on stderr."""
    for sentence in sentences:
        typer.echo(sentence, err=True)


def some(names: Iterable[str]) -> str:
    """The first few of many names."""
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
