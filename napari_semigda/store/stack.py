"""The images of a project as one stack that looks like an array and reads each file when it is looked at.

Images of different sizes lie in one stack too: each in the upper left corner of a plane of the largest size, black
around it. So there is one slider and one masks layer whatever the sizes are; what is painted beside an image is of no
consequence, because training, prediction and saving take the image's own size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_semigda.engine.check import HUGE
from napari_semigda.engine.normalise import channel_count, has_channels_to_choose, to_picture
from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import check_room

KEPT_BYTES = 64 * 2**20
"""Of planes read most recently, for scrolling back and forth."""


@dataclass(frozen=True, eq=False)
class StackPlane:
    """One image of the stack."""

    name: str
    """What the user calls it: ``"ax031.png"``, ``"scan.nii.gz, slice 3"``."""
    group: str
    """The file's name when it has several planes, else empty."""
    image: Any
    """(H, W) or (H, W, C), read with ``np.asarray`` as it is stored."""
    window: tuple[float, float] | None = None
    """Values to show as black and as white, where the file recommends them."""
    volume: str = ""
    """Which volume it is a slice of, as far as that is known; see `Plane.volume`."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.image.shape[:2])


class FileStack:
    """(N, H, W), or (N, H, W, 3) when any image has channels; planes are read one by one and few are kept.

    Where the channels are not red, green and blue in 8 bits, every image is shown as `normalise.to_picture` makes it,
    which is how the networks see it by default. `planes` have the values as they are stored.

    Parameters
    ----------
    planes
        In order; not empty.
    say
        Told a sentence, once for each image, when one cannot be read; it is then shown black.
    """

    def __init__(self, planes: Sequence[StackPlane], say: Callable[[str], object] = lambda sentence: None) -> None:
        self.planes = tuple(planes)
        self._say = say
        self._said: set[int] = set()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self.rgb = any(channel_count(plane.image) > 1 for plane in planes)
        height, width = (max(plane.size[axis] for plane in planes) for axis in (0, 1))
        self.shape = (len(planes), height, width, *((3,) if self.rgb else ()))
        self.dtype = np.result_type(*{np.dtype(plane.image.dtype) for plane in planes})
        self._stretched = any(has_channels_to_choose(plane.image) for plane in planes)
        if self.dtype == bool or self._stretched:
            self.dtype = np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """3, or 4 with colours."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many values there are."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def mixed(self) -> bool:
        """Whether the images differ in size."""
        return len({plane.size for plane in self.planes}) > 1

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        if key and key[0] is Ellipsis:
            key = (slice(None),) * (self.ndim - len(key) + 1) + key[1:]
        first, rest = (key[0], key[1:]) if key else (slice(None), ())
        if isinstance(first, int | np.integer):
            return self._plane(range(len(self))[first])[rest]
        chosen = np.arange(len(self))[first]
        return np.stack([self._plane(int(at)) for at in chosen])[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def limits(self) -> tuple[float, float]:
        """Darkest and brightest value to show: as the files recommend, or from a few images spread over the stack."""
        if self.dtype == np.uint8:
            return 0.0, 255.0
        windows = {plane.window for plane in self.planes}
        if None not in windows:
            return min(low for low, _ in windows), max(high for _, high in windows)
        few = {int(at) for at in np.linspace(0, len(self) - 1, 5)}
        seen = [self._plane(at) for at in sorted(few)]
        finite = [plane[np.abs(plane.astype(np.float64)) < HUGE] for plane in seen]  # False for NaN
        low = min((float(each.min()) for each in finite if each.size), default=0.0)
        high = max((float(each.max()) for each in finite if each.size), default=1.0)
        return (low, high) if high > low else (low, low + 1)

    def _plane(self, index: int) -> np.ndarray:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        plane = self._read(index)
        self._kept[index] = plane
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return plane

    def _read(self, index: int) -> np.ndarray:
        try:
            check_room(self.planes[index].name, self.shape[1:], self.dtype)
            pixels = np.asarray(self.planes[index].image)
        except EngineError as error:
            if index not in self._said:
                self._said.add(index)
                self._say(str(error))
            return np.broadcast_to(np.zeros((), self.dtype), self.shape[1:])  # black, and takes no memory
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        if self._stretched:
            pixels = to_picture(pixels)
        elif pixels.ndim == 3 and not self.rgb:
            pixels = pixels[..., 0]
        elif self.rgb:
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., : 3 if pixels.shape[2] >= 3 else 1]
        height, width = pixels.shape[:2]
        canvas = np.zeros(self.shape[1:], self.dtype)
        canvas[:height, :width] = pixels  # grey among colours: the same in all three
        canvas.flags.writeable = False
        return canvas
