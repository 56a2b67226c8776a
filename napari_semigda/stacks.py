"""The images of one layer, and how its planes are named and numbered. No Qt, no napari."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_semigda.engine.blocks import is_large
from napari_semigda.engine.normalise import channel_count, has_channels_to_choose
from napari_semigda.engine.types import EngineError, Plane

StackName = Literal["slices", "times", "images"]
"""What the planes of a stack are: slices of one volume, points in time, or images that have nothing to do with each
other. Of the first two, neighbours look alike, so they never sit on both sides of a hold-out."""


TIMES = ("t", "time", "frame", "frames")
"""What an axis of points in time is called."""


class LazyPlane:
    """One plane of a stack that is not in memory; computed when somebody asks for its pixels.

    Parameters
    ----------
    stack : array-like
        Dask, zarr or anything that slices like them.
    position : tuple of int
        Index of the plane on the leading axes.
    key : str
        Names the content, so that a copy of it can be recognised without computing it.
    """

    def __init__(self, stack: Any, position: tuple[int, ...], key: str) -> None:
        self._stack, self._position, self.key = stack, position, key
        self.shape: tuple[int, ...] = tuple(stack.shape[len(position) :])
        self.dtype = np.dtype(stack.dtype)
        self.ndim = len(self.shape)

    by_parts = True

    @property
    def place(self) -> dict[str, Any] | None:
        """Where another process finds it, if it is large and lies in a zarr folder; see `formats.LazyImage`."""
        folder, name = getattr(getattr(self._stack, "store", None), "root", None), getattr(self._stack, "path", None)
        if folder is None or not isinstance(name, str) or not is_large(self.shape):
            return None
        return {"store": str(Path(folder).absolute()), "array": name, "at": list(self._position)}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._stack[self._position], dtype=dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self._stack[(*self._position, *(key if isinstance(key, tuple) else (key,)))])


@dataclass(frozen=True, eq=False)
class ImageStack:
    """Images of one layer: its last two axes (and colours) are the image, every leading index is another image.

    Data with `planes` (`napari_semigda.store.FileStack`) knows a name, a group and a size of each image, which then
    count.

    Parameters
    ----------
    name : str
        What the user calls the layer. It stays for the session, so that renaming the layer cannot make a
        held-out image look like a new one.
    data : array-like
        (..., H, W), or (..., H, W, 3 or 4) when `rgb`.
    rgb : bool
        Whether the last axis is colours.
    """

    name: str
    data: Any
    rgb: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    axis: str = ""
    """What the viewer calls the axis of the slider."""
    depth: float | None = None
    """From one slice to the next, where the layer tells it."""
    unit: str = ""
    """Of `depth`: mm or µm."""

    def __post_init__(self) -> None:
        if len(self.data.shape) < 2 + self.rgb:
            raise EngineError(f"The layer {self.name} is not an image: choose one with height and width.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the masks: that of the images without colours."""
        return tuple(self.data.shape[:-1] if self.rgb else self.data.shape)

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes that tell images apart; empty for a single image."""
        return self.shape[:-2]

    def __len__(self) -> int:
        return int(np.prod(self.leading, dtype=int))

    def position(self, index: int) -> tuple[int, ...]:
        """Where plane number `index` is on the leading axes."""
        return tuple(int(place) for place in np.unravel_index(index, self.leading)) if self.leading else ()

    def index(self, position: Iterable[float]) -> int:
        """Number of the plane at `position`; a position outside the stack gives the nearest plane."""
        place = [int(np.clip(round(at), 0, n - 1)) for at, n in zip(position, self.leading, strict=True)]
        return int(np.ravel_multi_index(place, self.leading)) if place else 0

    @property
    def kind(self) -> StackName:
        """What the planes are, as far as names tell; slices where nothing does, because that does least harm."""
        if self._planes is not None and not any(plane.group for plane in self._planes):
            return "images"
        return "times" if self.axis.lower() in TIMES else "slices"

    @property
    def is_volume(self) -> bool:
        """Whether any planes are neighbouring slices of a volume."""
        if self._planes is not None:
            return any(plane.volume for plane in self._planes)
        return len(self) > 1 and self.kind == "slices"

    @property
    def channels(self) -> int:
        """How many channels there are to choose from; 0 where images are grey or in 8-bit red, green and blue."""
        if self._planes is None:
            return 0
        return max((channel_count(x.image) for x in self._planes if has_channels_to_choose(x.image)), default=0)

    @property
    def _planes(self) -> Any | None:
        return getattr(self.data, "planes", None)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of image `index`; the plane it lies in may be larger."""
        return self.shape[-2:] if self._planes is None else self._planes[index].size

    def plane_name(self, index: int) -> str:
        """What a message calls plane `index`: the layer's name and the numbers beside the viewer's sliders."""
        if (planes := self._planes) is not None:
            return planes[index].name
        if not self.leading:
            return self.name
        return f"{self.name}, slice {', '.join(str(place) for place in self.position(index))}"

    def plane(self, index: int, mask: np.ndarray | None = None, kind: StackName | None = None) -> Plane:
        """One image and its mask for the engine; nothing is computed.

        Parameters
        ----------
        index : int
            Its number.
        mask : ndarray, optional
            (H, W) of the whole plane.
        kind : str, optional
            What the user says that the planes are; else it is as the files tell, or one volume.
        """
        if (planes := self._planes) is not None:
            height, width = self.size(index)
            group = planes[index].group
            if kind is not None:
                group = "" if kind == "images" else group or self.name
            volume = planes[index].volume if kind in (None, "slices") else ""
            mask = None if mask is None else mask[:height, :width]
            return Plane(planes[index].name, planes[index].image, mask, group, volume, self.depth)
        position = self.position(index)
        if isinstance(self.data, np.ndarray):
            image = self.data[position]
        else:
            image = LazyPlane(self.data, position, f"{self.token}-{index}")
        alone = not self.leading or kind == "images"
        slices = self.leading and (kind or self.kind) == "slices"
        volume = f"{self.name} {position[:-1]}" if slices else ""
        return Plane(self.plane_name(index), image, mask, "" if alone else self.name, volume, self.depth)
