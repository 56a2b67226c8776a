"""Large images as a layer of tiles, when they are chosen to be painted and trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image

from napari_semigda.engine.types import EngineError, Plane
from napari_semigda.formats import is_image, open_source
from napari_semigda.images import planes_of
from napari_semigda.stacks import ImageStack
from napari_semigda.tiling import can_cut, cut, tile_at
from napari_semigda.widgets import opened, place
from napari_semigda.widgets.words import tiles_made

KEY = "semigda_tiles"
"""In the metadata of a layer of tiles: the unique id of the layer that they are of."""


def as_tiles(viewer: Any, layer: Image) -> Image:
    """The layer to work on when `layer` is chosen: its tiles where it is too large to be painted as one image.

    Nothing is read. The tiles begin with the one that is in the middle of the view.
    """
    from napari.utils.notifications import show_info

    known = [x for x in viewer.layers if x.metadata.get(KEY) == str(layer.unique_id)]
    if known:
        return known[0]
    data = layer.data[0] if layer.multiscale else layer.data
    if isinstance(data, np.ndarray) or KEY in layer.metadata or opened.is_kept(layer):
        return layer
    try:
        whole = ImageStack(layer.name, data, layer.rgb, axis="")
    except EngineError:  # said by whoever works on it
        return layer
    planes = [whole.plane(index) for index in range(len(whole))]
    if not can_cut(planes):
        return layer
    spot = layer.world_to_data((*viewer.dims.point[:-2], *viewer.scene.camera.center[-2:]))[-2:]
    shown = place.plane_in_view(viewer, layer, whole)
    planes = _of_file(layer, planes) or planes
    stack = cut(planes)
    made = Image(stack, **_look(layer, stack.rgb))
    layer.visible = False
    viewer.add_layer(made)
    viewer.dims.set_point(viewer.dims.ndim - 3, tile_at(stack, planes[shown].image, *spot))
    viewer.reset_view(layers=[made])
    show_info(tiles_made(layer.name, made.name, whole.size(shown), len(stack)))
    return made


def _of_file(layer: Image, planes: Sequence[Plane]) -> list[Plane]:
    """The same images in the file that another plugin has opened, which needs no copy; none where they differ."""
    path = Path(layer.source.path) if layer.source.path else None
    if path is None or not path.exists() or not is_image(path) or any(hasattr(x.image, "part") for x in planes):
        return []
    try:
        found = planes_of(open_source(path))
        same = [(x.image.shape, x.image.dtype) for x in found] == [(x.image.shape, x.image.dtype) for x in planes]
        return found if same and can_cut(found) and all(map(_alike, found, planes)) else []
    except EngineError:
        return []


def _alike(one: Plane, other: Plane) -> bool:
    """Whether two images of one size are the same in their middle and beside it."""
    middle, third = (tuple(slice(n // at, n // at + 32) for n in one.size) for at in (2, 3))
    return all(np.array_equal(one.image[area], other.image[area]) for area in (middle, third))


def _look(layer: Image, rgb: bool) -> dict[str, Any]:
    """How the tiles are shown: as the layer."""
    look = {} if rgb else {"contrast_limits": layer.contrast_limits, "colormap": layer.colormap, "gamma": layer.gamma}
    return {
        "name": f"{layer.name} tiles",
        "rgb": rgb,
        "multiscale": False,
        "scale": (1.0, *layer.scale[-2:]),
        "units": ("pixel", *layer.units[-2:]),
        "axis_labels": ("tile", "y", "x"),
        "metadata": {KEY: str(layer.unique_id)},
        **look,
    }
