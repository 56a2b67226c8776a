"""Small pictures of images, made in a thread when somebody looks at them, and only as many kept as fit on screens."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from PIL import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap

from napari_semigda.engine.normalise import to_picture

SIZE = (44, 34)
"""Width and height at most, in pixels."""
KEPT = 400
WAITING = 40  # about what a tall table shows; who scrolls past faster than images are read waits for the last ones only


class Kept(Protocol):
    """Where pictures are kept from session to session; neither method ever raises."""

    def get(self, plane: int) -> np.ndarray | None:
        """(h, w, 3) uint8 of an image, or None."""

    def put(self, plane: int, pixels: np.ndarray) -> None:
        """Keep (h, w, 3) uint8."""


class Thumbnails(QObject):
    """Asked for by number; what is not there yet is announced by `made` when it is.

    Its thread lives while there is something to make.
    """

    made = Signal(int)
    _drawn = Signal(int, int, object)  # from the thread: generation, number, (h, w, 3) uint8

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._read: Callable[[int], Any] | None = None
        self._on_disk: Kept | None = None
        self._kept: OrderedDict[int, QIcon] = OrderedDict()
        self._wanted: deque[int] = deque(maxlen=WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._generation = 0
        self._drawn.connect(self._on_drawn)

    def show(self, read: Callable[[int], Any] | None, on_disk: Kept | None = None) -> None:
        """Forget all pictures.

        Parameters
        ----------
        read
            Gives an image by its number, (H, W) or (H, W, C), in whatever thread.
        on_disk
            Asked before an image is read, and given what was made of it.
        """
        with self._lock:
            self._generation += 1
            self._read, self._on_disk = read, on_disk
            self._wanted.clear()
        self._kept.clear()

    def close(self) -> None:
        """Make no more pictures."""
        self.show(None)

    def get(self, number: int) -> QIcon | None:
        """The picture of an image, or None until `made` names it."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        with self._lock:
            if self._read is not None:
                with suppress(ValueError):
                    self._wanted.remove(number)
                self._wanted.append(number)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="semigda-thumbnails", daemon=True)
                    self._thread.start()
        return None

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                number = self._wanted.pop()  # what was asked for last is what is on screen
                read, on_disk, generation = self._read, self._on_disk, self._generation
            pixels = None if on_disk is None else on_disk.get(number)
            if pixels is None:
                pixels = self._make(number, read, on_disk)
            with suppress(RuntimeError):  # the dock is gone
                self._drawn.emit(generation, number, pixels)

    @staticmethod
    def _make(number: int, read: Callable[[int], Any], on_disk: Kept | None) -> np.ndarray:
        try:
            pixels = thumbnail(np.asarray(read(number)))
        except Exception:  # an image that cannot be read is said when it is looked at
            return np.zeros((*SIZE[::-1], 3), np.uint8)
        if on_disk is not None:
            on_disk.put(number, pixels)
        return pixels

    def _on_drawn(self, generation: int, number: int, pixels: np.ndarray) -> None:
        if generation != self._generation:
            return
        height, width = pixels.shape[:2]
        image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        icon = QIcon(QPixmap.fromImage(image))
        icon.addPixmap(icon.pixmap(width, height), QIcon.Mode.Selected)  # or Qt tints the one in the chosen row
        self._kept[number] = icon
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        self.made.emit(number)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A small picture of an image.

    Parameters
    ----------
    pixels
        (H, W) or (H, W, C) of any number type; other types than uint8 are stretched by their own brightness.

    Returns
    -------
    ndarray
        (h, w, 3) uint8, at most `SIZE`.
    """
    step = max(1, min(pixels.shape[0] // (2 * SIZE[1]), pixels.shape[1] // (2 * SIZE[0])))
    small = pixels[::step, ::step]
    if small.ndim == 3:
        small = to_picture(small) if small.shape[2] > 1 else small[..., 0]
    if small.dtype != np.uint8:
        values = np.nan_to_num(small.astype(np.float32))
        low, high = np.percentile(values, (1, 99))
        small = (np.clip((values - low) / ((high - low) or 1), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(small)).convert("RGB")
    picture.thumbnail(SIZE, Image.Resampling.BOX)
    return np.array(picture)
