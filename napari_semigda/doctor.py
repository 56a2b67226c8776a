"""Whether this computer has what painting, training and saving need, and what to do where it has not."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from napari_semigda.engine.types import EngineError

LEAST_MEMORY = 2 * 2**30
"""Bytes free: a round on ordinary images takes about one, the viewer half of that."""
LEAST_DISK = 2**30
"""Bytes free: a model is 20 MB, and what a run exchanges with the viewer rarely more than a few hundred."""
_DRAWING_SECONDS = 60
_DRAW = """
from qtpy import API_NAME
from qtpy.QtWidgets import QApplication
from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
app, surface, context = QApplication([]), QOffscreenSurface(), QOpenGLContext()
surface.create()
drawn = context.create() and context.makeCurrent(surface)
print(API_NAME, *((context.format().majorVersion(), context.format().minorVersion()) if drawn else (0, 0)))
"""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing."""

    what: str
    """Its name: ``"Memory"``."""
    fact: str
    """How it is, without identifying anybody: ``"12.3 GB free of 16.0 GB"``."""
    advice: str = ""
    """What to do; empty where nothing needs to be done."""

    def __str__(self) -> str:
        """One line: ``"ok Memory: 12.3 GB free of 16.0 GB."``."""
        return f"{'!' if self.advice else 'ok':<3}{self.what}: {self.fact}. {self.advice}".rstrip()


def examine(folder: Path) -> Iterator[Finding]:
    """Look at everything, one after the other; it takes some seconds.

    Parameters
    ----------
    folder
        Where images and masks are, or will be.
    """
    looks: tuple[tuple[str, Callable[[], tuple[str, str]]], ...] = (
        ("Versions", _versions),
        ("Drawing", _drawing),
        ("Computing", _computing),
        ("Memory", _memory),
        ("Disk", lambda: _disk(folder)),
        ("Temporary files", lambda: _disk(Path(tempfile.gettempdir()))),
        ("Model parts", _weights),
    )
    for what, look in looks:
        yield Finding(what, *look())


def _versions() -> tuple[str, str]:
    named = [f"{name} {_version(name)}" for name in ("napari-semigda", "napari", "torch", "numpy")]
    return f"Python {platform.python_version()} on {platform.system()}, " + ", ".join(named), ""


def _drawing() -> tuple[str, str]:
    """Qt and OpenGL, in a process of their own: without a screen Qt ends the process it is in."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _DRAW], capture_output=True, text=True, timeout=_DRAWING_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "Qt does not answer", "Restart the computer; if that does not help, reinstall its graphics driver."
    if "QtBindingsNotFound" in done.stderr:
        return "no Qt", 'Install one: pip install "napari-semigda[app]".'
    if done.returncode:
        return "no screen can be opened", "On a server use the command semigda; over a network, a remote desktop."
    name, major, minor = done.stdout.split()[-3:]
    if (int(major), int(minor)) < (2, 1):
        return f"{name}, OpenGL does not work", "Install the driver of the graphics card, or the package libgl1."
    return f"{name}, OpenGL {major}.{minor}", ""


def _computing() -> tuple[str, str]:
    import torch

    from napari_semigda.engine.device import describe_device, pick_device

    device = pick_device()
    try:
        torch.nn.functional.conv2d(torch.ones(1, 3, 64, 64, device=device), torch.ones(8, 3, 3, 3, device=device)).sum()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        return (
            f"{describe_device(device)} does not compute ({reason})",
            "Choose the CPU under Advanced, or --device cpu.",
        )
    return describe_device(device), ""


def _memory() -> tuple[str, str]:
    import psutil

    memory = psutil.virtual_memory()
    fact = f"{_size(memory.available)} free of {_size(memory.total)}"
    return fact, "" if memory.available >= LEAST_MEMORY else "Close other programs before you train."


def _disk(folder: Path) -> tuple[str, str]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return (
            f"nothing can be written into {folder} ({reason})",
            "Choose another folder, or ask for its rights.",
        )
    return f"{_size(free)} free in {folder}", "" if free >= LEAST_DISK else "Free some space before you train."


def _weights() -> tuple[str, str]:
    from napari_semigda.engine.backbones import load_backbone

    try:
        load_backbone("compact")
    except (EngineError, ImportError, OSError) as error:
        return f"damaged or missing ({error})", "Install again: pip install --force-reinstall napari-semigda."
    return "complete, nothing needs to be downloaded", ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GB"
