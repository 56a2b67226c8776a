"""Layers that the plugin makes: how they are marked, and the prediction that is updated in place."""

import math
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer

from napari_semigda.engine.types import EngineError, Prediction
from napari_semigda.spill import SpilledStack
from napari_semigda.stacks import ImageStack
from napari_semigda.widgets.colours import class_colormap

KEY = "semigda"
"""Where our notes are in ``layer.metadata``: names of layers change behind one's back, this does not."""


def note(layer: Layer) -> dict[str, Any]:
    """Our entry in a layer's metadata."""
    found = layer.metadata.get(KEY, {})
    return found if isinstance(found, dict) else {}


def role(layer: Layer) -> str | None:
    """What a layer of ours is for; None for all others."""
    return note(layer).get("role")


def same(one: Layer | None, other: Layer | None) -> bool:
    """Whether two layers are one; napari hands plugins proxies, which ``is`` tells apart."""
    return (one is None and other is None) or (one is not None and other is not None and one == other)


def layer_on(image: Image, kind: type[Layer], data: Any, use: str, **options: Any) -> Any:
    """A layer of ours that lies exactly on `image`, for `use` ("masks", "predicted" or "doubt")."""
    return kind(
        data,
        name=options.pop("name", f"{image.name} {use}"),
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        shear=image.shear,
        affine=image.affine,
        axis_labels=image.axis_labels,
        units=image.units,
        metadata={KEY: {"role": use, "image": str(image.unique_id)}},
        **options,
    )


def masks_on(image: Image, shape: tuple[int, ...], data: Any = None, **options: Any) -> Labels:
    """Masks for `image` in the class colours, empty unless `data` is given.

    Empty ones take memory where they are painted only, but the system may refuse to promise as much as they could take;
    that is said with an EngineError.
    """
    try:
        data = np.zeros(shape, np.uint8) if data is None else data
    except MemoryError as error:
        raise EngineError(
            f"{image.name} is too large to be painted ({math.prod(shape) / 1e9:.3g} GB of masks): crop it, or paint on "
            "some images of its size and use SemiGDA: Batch for the rest."
        ) from error
    return layer_on(image, Labels, data, "masks", colormap=class_colormap(), **options)


def write_plane(layer: Any, stack: ImageStack, index: int, values: np.ndarray) -> None:
    """Write plane `index` in place; an image smaller than the plane lies in its upper left corner."""
    height, width = values.shape
    layer.data[stack.position(index)][:height, :width] = values


class PredictionLayers:
    """The predicted masks and the doubt of each image layer: made once, then written slice by slice.

    Their data are a `SpilledStack`: nobody has room for the planes of a thousand images.

    Parameters
    ----------
    viewer : napari.Viewer
        Where they are shown.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer

    def find(self, image: Image, use: str) -> Any | None:
        """The layer "predicted" or "doubt" of `image`, if it is there."""
        wanted = str(image.unique_id)
        return next((x for x in self._viewer.layers if role(x) == use and note(x).get("image") == wanted), None)

    def show(self, image: Image, stack: ImageStack, prediction: Prediction, above: Layer | None, in_view: bool) -> None:
        """Write one plane in place.

        Parameters
        ----------
        image : napari.layers.Image
            The images that were predicted.
        stack : ImageStack
            The same, as the project knows them.
        prediction : Prediction
            Of one plane.
        above : napari.layers.Layer or None
            New layers go right below this one.
        in_view : bool
            Whether this plane is on screen, and therefore has to be redrawn.
        """
        masks = self.find(image, "predicted")
        if masks is None:
            look = {"colormap": class_colormap(), "opacity": 0.5}
            masks = self._add(layer_on(image, Labels, SpilledStack(stack.shape), "predicted", **look), image, above)
        doubt = self.find(image, "doubt")
        if doubt is None:
            look = {"colormap": "magma", "blending": "additive", "contrast_limits": (0, 255), "visible": False}
            doubt = self._add(layer_on(image, Image, SpilledStack(stack.shape), "doubt", **look), image, above)
        position = stack.position(prediction.index)
        masks.data.write(position, prediction.mask)
        doubt.data.write(position, np.round(prediction.doubt * 255))
        if in_view:
            masks.refresh(extent=False)
            doubt.refresh(extent=False)

    def _add(self, layer: Layer, image: Image, above: Layer | None) -> Layer:
        layers = self._viewer.layers
        active = layers.selection.active
        layers.insert(layers.index(above) if above is not None else layers.index(image) + 1, layer)
        layer.editable = False
        if active is not None:  # a new layer selects itself, but the user is painting
            layers.selection.active = active
        return layer
