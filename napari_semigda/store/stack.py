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
        few = {int(at) for at in np.linspace(0, len(self.planes) - 1, 5)}
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
        pixels = self._as_shown(pixels, getattr(self.planes[index].image, "whole", None))
        height, width = pixels.shape[:2]
        canvas = np.zeros(self.shape[1:], self.dtype)
        canvas[:height, :width] = pixels  # grey among colours: the same in all three
        canvas.flags.writeable = False
        return canvas

    def _as_shown(self, pixels: np.ndarray, whole: Any = None) -> np.ndarray:
        """Grey or three colours from pixels of an image as they are stored; `whole` tells black and white of a part."""
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        if self._stretched:
            return to_picture(pixels, whole)
        if pixels.ndim == 3 and not self.rgb:
            return pixels[..., 0]
        if self.rgb:
            return pixels[..., None] if pixels.ndim == 2 else pixels[..., : 3 if pixels.shape[2] >= 3 else 1]
        return pixels


class LevelStack(FileStack):
    """One resolution of images too large to be read whole: (N, H, W) or (N, H, W, 3), without N where there is one.

    Only what lies in the rows and columns asked for is read; ``stack[:, rows, columns]`` of several reads nothing yet.

    Parameters
    ----------
    planes, say
        As of `FileStack`, with the images of this resolution.
    finest
        The images in full resolution, for one black and white at every zoom.
    """

    def __init__(
        self, planes: Sequence[StackPlane], finest: Sequence[Any], say: Callable[[str], object] = lambda sentence: None
    ) -> None:
        super().__init__(planes, say)
        self._finest = tuple(finest)
        self._alone = len(self.planes) == 1
        self.shape = self.shape[1:] if self._alone else self.shape

    def __getitem__(self, key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        first, rest = (0, key) if self._alone else (key[0], key[1:])
        if not isinstance(first, slice):
            return self._part(range(len(self.planes))[first], rest)
        chosen = range(len(self.planes))[first]
        if len(rest) < 2:  # whole rows, which nobody needs who shows pictures
            return np.stack([self._part(index, rest) for index in chosen])
        return _Later(self, chosen, rest)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        parts = [self._part(index, ()) for index in range(len(self.planes))]
        return np.asarray(parts[0] if self._alone else np.stack(parts), dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def _read(self, index: int) -> np.ndarray:
        return self._part(index, ())

    def _part(self, index: int, key: tuple[Any, ...]) -> np.ndarray:
        """``plane[rows, columns]`` as it is shown; beside a smaller image there is black."""
        height, width = self.shape[-2 - self.rgb :][:2]
        places = [range(n)[_sliced(at)] for n, at in zip((height, width), (*key[:2], *[slice(None)] * 2), strict=False)]
        canvas = np.zeros((*map(len, places), *((3,) if self.rgb else ())), self.dtype)
        image = self.planes[index].image
        inside = [range(at.start, min(at.stop, n), at.step) for at, n in zip(places, image.shape, strict=False)]
        try:
            check_room(self.planes[index].name, canvas.shape, self.dtype)
            if all(inside):
                pixels = np.asarray(image[tuple(slice(at.start, at.stop, at.step) for at in inside)])
                canvas[: len(inside[0]), : len(inside[1])] = self._as_shown(pixels, self._finest[index])
        except EngineError as error:
            if index not in self._said:
                self._said.add(index)
                self._say(str(error))
        picked = tuple(slice(None) if isinstance(at, slice) else 0 for at in key[:2])
        return canvas[(*picked, *key[2:])]


class _Later:
    """``stack[first, rows, columns]`` of which nothing is read before one of the images is asked for."""

    def __init__(self, stack: LevelStack, chosen: range, area: tuple[Any, ...]) -> None:
        self._stack, self._chosen, self._area = stack, chosen, area
        sides = [len(range(n)[_sliced(at)]) for n, at in zip(stack.shape[1:3], area, strict=False)]
        self.shape = (len(chosen), *sides, *stack.shape[3:])
        self.dtype, self.ndim = stack.dtype, stack.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        if isinstance(key[0], slice):
            return np.stack([self[int(at), *key[1:]] for at in np.arange(len(self._chosen))[key[0]]])
        return self._stack[self._chosen[key[0]], *self._area][key[1:]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def _sliced(at: Any) -> slice:
    """A slice for a number; counted from the end, as an array takes it."""
    return at if isinstance(at, slice) else slice(at, at + 1 if at != -1 else None)
