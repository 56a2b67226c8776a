"""How a command ends: with a status and, where something is wrong, one sentence on stderr."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from napari_semigda.console import warn
from napari_semigda.engine.types import EngineError

# Typer brought its own click at some point: its exceptions are found from one that typer has always named.
_ClickException = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

_INTERRUPTED = 130


def status_of(app: typer.Typer, args: list[str]) -> int:
    """Run one command of an application.

    Returns
    -------
    int
        0 done, 1 done but for files that failed, 2 refused with one sentence on stderr, 130 interrupted.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries warn developers; whoever wants that has python -W
    try:
        status = int(app(args=args, standalone_mode=False, prog_name="semigda") or 0)
        if status == _INTERRUPTED:  # some versions of Typer turn Ctrl+C into a status, others into an exception
            raise KeyboardInterrupt
        return status
    except EngineError as error:
        return _refuse(str(error))
    except _ClickException as error:
        return _refuse(_usage(error))
    except (typer.Abort, KeyboardInterrupt):
        warn("Interrupted: what was not finished is not written.")
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _refuse(f"{error.filename or 'A file'} cannot be used ({error.strerror or error}): check its rights.")


@contextmanager
def first_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl+C asks to stop; pressed again it interrupts as usual."""

    def handle(number, frame) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()
        warn("Stopping and saving the last good weights; press Ctrl+C again to give up.")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _refuse(sentence: str) -> int:
    warn(" ".join(sentence.split()))
    return 2


def _usage(error) -> str:
    """What is wrong with the command line, as a sentence that tells where to look."""
    message = error.format_message().removesuffix(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "semigda"
    return f"{message or _choice_of(context.command)}; {command} --help tells more."


def _choice_of(group) -> str:
    """What to say to somebody who named no command."""
    *names, last = group.commands
    return f"Say what to do: {', '.join(names)} or {last}"
