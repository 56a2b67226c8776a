"""Files that napari cannot read by itself, or not with the size of their pixels and their channels, as layers."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from napari import current_viewer
from napari.layers import Image

from napari_semigda.engine.blocks import is_large
from napari_semigda.engine.types import EngineError
from napari_semigda.formats import LazyImage, Source, is_image, open_source, stem_of
from napari_semigda.formats.dicom import is_dicom, is_one_series, open_series
from napari_semigda.formats.place import laid_on
from napari_semigda.stacks import TIMES
from napari_semigda.store.stack import FileStack, LevelStack, StackPlane
from napari_semigda.widgets.colours import class_colormap

SOURCE = "semigda_source"
"""In the metadata of a layer of one file that tells its place: what masks of it are laid on."""
KEY = "semigda_channels"
"""In the metadata of a layer that `channels_together` has dealt with."""
_CHANNEL = ("c", "ch", "channel", "channels")
_MOST_PAINTED = 2**28  # pixels of masks that are read into memory, where they can be painted
_MOST_CHANNELS = 64  # an axis that is longer is something else, whatever it is called


def image_reader(path: str | list[str]) -> Callable[[Any], list[tuple]] | None:
    """For napari: how to read files that were dropped or opened; None when one of them is none of ours."""
    paths = [Path(each) for each in ([path] if isinstance(path, str) else path)]
    if not all(is_image(each) for each in paths):
        return None

    def read(_: Any) -> list[tuple]:
        from napari.utils.notifications import show_warning

        try:
            sources = _sources(paths)
            if len(sources) == 1 and sources[0].is_mask:
                return [_masks_layer(sources[0], _image_of(sources[0]))]
            return [_layer(sources, show_warning)]
        except EngineError as error:
            show_warning(str(error))
            return [(None,)]  # napari's word for "there are no layers to add"

    return read


def _sources(paths: list[Path]) -> list[Source]:
    """Each file, or one volume where they are the slices of a DICOM series, next to each other."""
    if len(paths) > 1 and all(path.is_file() and is_dicom(path) for path in paths):
        with suppress(EngineError):  # a few slices from here and there are images of their own
            if is_one_series(paths):
                return [open_series(paths)]
    return [open_source(path) for path in paths]


def _image_of(mask: Source) -> Source | None:
    """The image that a mask belongs to by its name, where the viewer shows it and it tells its place."""
    viewer = current_viewer()
    shown = [layer.metadata.get(SOURCE) for layer in viewer.layers] if viewer is not None else []
    return next((x for x in shown if x is not None and stem_of(x.path) == stem_of(mask.path)), None)


def _masks_layer(mask: Source, image: Source | None) -> tuple[Any, dict[str, Any], str]:
    """Masks as one layer, turned to lie on their image where that is known; too large ones can only be looked at."""
    data, options, _ = _layer([mask])
    placed = {key: options[key] for key in ("scale", "units", "axis_labels", "multiscale")}
    if not options["multiscale"] and data.size <= _MOST_PAINTED:
        planes = [np.asarray(plane) for plane in mask.planes]
        data = np.stack(planes if image is None else laid_on(image, mask, planes))
        placed |= _placed([image or mask])
    return data, {"name": f"{stem_of(mask.path)} masks", "colormap": class_colormap()} | placed, "labels"


def _layer(
    sources: list[Source], say: Callable[[str], object] = lambda sentence: None
) -> tuple[FileStack | list[LevelStack], dict[str, Any], str]:
    """The planes of some files as one lazy layer, with the size that the first one tells; large ones in resolutions."""
    first = sources[0]
    planes = [
        StackPlane(image.name, group, image, source.window, source.volume_of(index))
        for source in sources
        for group in [source.path.name if len(source.planes) > 1 else ""]
        for index, image in enumerate(source.planes)
    ]
    levels = _levels(planes, say)
    stack = levels[0] if levels else FileStack(planes, say)
    options = {
        "name": stem_of(first.path),
        "rgb": stack.rgb,
        "multiscale": bool(levels),
        "contrast_limits": None if stack.rgb else (levels or [stack])[-1].limits(),
        "metadata": {SOURCE: first} if len(sources) == 1 and first.affine is not None else {},
    }
    placed = _placed(sources)
    if levels and len(planes) == 1:
        placed = {key: each[1:] for key, each in placed.items()}
    return levels or stack, options | placed, "image"


def _placed(sources: list[Source]) -> dict[str, Any]:
    """Scale, units and names of the axes of a layer of planes."""
    first, alone = sources[0], len(sources) == 1
    known = first.spacing is not None and all(source.spacing == first.spacing for source in sources)
    deep = known and alone and first.depth is not None and first.volumes == 1
    unit = first.unit if known else "pixel"
    return {
        "scale": (first.depth if deep else 1.0, *(first.spacing if known else (1.0, 1.0))),
        "units": (unit if deep else "pixel", unit, unit),
        "axis_labels": ((alone and first.axis) or "image", "y", "x"),
    }


def _levels(planes: list[StackPlane], say: Callable[[str], object]) -> list[LevelStack]:
    """Large images in the resolutions that their files have, finest first; none where all are small or one has none."""
    finest = [plane.image for plane in planes]
    count = min(len(image.coarser) for image in finest)
    if not count or not any(is_large(image.shape) for image in finest):
        return []
    levels = [finest, *([image.coarser[at] for image in finest] for at in range(count))]
    return [
        LevelStack([replace(plane, image=image) for plane, image in zip(planes, level, strict=True)], finest, say)
        for level in levels
    ]


def channels_together(viewer: Any, layer: Image) -> Image:
    """The layer to work on when `layer` is chosen: one more where its channels lie along a slider, else itself.

    napari shows an axis of channels as a slider, so that each channel looks like an image of its own. That there are
    channels is told by the file, or by the name of the axis; nothing is read. It is done once: who then chooses the
    first layer again wants it as it is.
    """
    from napari.utils.notifications import show_info

    data = layer.data[0] if layer.multiscale else layer.data
    if layer.rgb or layer.ndim < 3 or KEY in layer.metadata or isinstance(data, FileStack):
        return layer
    made = _of_file(layer, data.shape) or _of_axes(layer, data)
    if made is None:
        return layer
    layer.metadata[KEY] = made.metadata[KEY] = True
    layer.visible = False
    viewer.add_layer(made)
    show_info(
        f"{layer.name} has channels along a slider: {made.name} shows each image with its channels together. "
        f"{layer.name} is hidden; remove it if you have no use for it."
    )
    return made


def _of_file(layer: Image, shape: tuple[int, ...]) -> Image | None:
    """Opened anew from the file, where that has channels and nothing else than the layer."""
    path = Path(layer.source.path) if layer.source.path else None
    if path is None or not path.exists() or not is_image(path):
        return None
    try:
        source = open_source(path)
    except EngineError:
        return None
    values = sum(prod(plane.shape) for plane in source.planes)
    if values != prod(shape):
        return None
    if all(len(plane.shape) == 2 for plane in source.planes):
        return None
    data, options, _ = _layer([source])
    return Image(data, **(options | {"name": f"{layer.name} channels"}))


def _of_axes(layer: Image, data: Any) -> Image | None:
    """Put together from the layer itself, where one of its axes is called channel."""
    found = [axis for axis, label in enumerate(layer.axis_labels[:-2]) if label.lower() in _CHANNEL]
    if len(found) != 1 or not 1 < data.shape[found[0]] <= _MOST_CHANNELS:
        return None
    (channel,) = found
    kept = [axis for axis in range(layer.ndim) if axis != channel]
    leading = [data.shape[axis] for axis in kept[:-2]]
    shape = (*data.shape[-2:], data.shape[channel])

    def load(position: tuple[int, ...]) -> np.ndarray:
        where = [*position[:channel], slice(None), *position[channel:]]
        return np.moveaxis(np.asarray(data[tuple(where)]), 0, -1)

    several, label = prod(leading) > 1, layer.axis_labels[kept[-3]] if leading else "image"
    planes = [
        StackPlane(
            name := f"{layer.name}, slice {', '.join(map(str, at))}" if several else layer.name,
            layer.name if several else "",
            LazyImage(name, shape, np.dtype(data.dtype), partial(load, at)),
            volume=f"{layer.name} {at[:-1]}" if several and label not in TIMES else "",
        )
        for at in np.ndindex(*leading)
    ]
    stack = FileStack(planes)
    first = layer.scale[kept[-3]] if len(leading) == 1 else 1.0
    scale = (first, *layer.scale[-2:])
    labels = (label if len(leading) == 1 else "image", *layer.axis_labels[-2:])
    return Image(stack, name=f"{layer.name} channels", rgb=stack.rgb, multiscale=False, scale=scale, axis_labels=labels)
