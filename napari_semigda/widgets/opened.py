"""A project on disk as layers: its images as one lazy stack, its masks on top."""

from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_semigda.project import Project
from napari_semigda.widgets.ours import KEY, note

PROJECT = "project"
"""Key of our note on the layers of a project: the folder it is kept in."""


def is_kept(layer: Layer) -> bool:
    """Whether a layer shows a project that is kept on disk."""
    return PROJECT in note(layer)


def image_layer(project: Project, folder: str, spacing: tuple[float, float] | None) -> Image:
    """The images of a project as a layer; none is read but a few to find the brightness."""
    data = project.stack.data
    return Image(
        data,
        name=project.stack.name,
        rgb=project.stack.rgb,
        multiscale=False,
        contrast_limits=None if project.stack.rgb else data.limits(),
        scale=(1.0, *(spacing or (1.0, 1.0))),
        axis_labels=("image", "y", "x"),
        units=("pixel", *(("mm", "mm") if spacing else ("pixel", "pixel"))),
        metadata={KEY: {PROJECT: folder}},
    )


def masks_of(project: Project) -> np.ndarray:
    """All masks of a project in one array, (N, H, W) uint8."""
    data = np.zeros(project.stack.shape, np.uint8)  # pages without paint take no memory
    for index, mask in project.masks():
        data[project.stack.position(index)][: mask.shape[0], : mask.shape[1]] = mask
    return data


def layers_of(viewer: Any, image: Image) -> list[Layer]:
    """The layers of ours that lie on `image`, and itself."""
    identity = str(image.unique_id)
    return [x for x in viewer.layers if x == image or note(x).get("image") == identity]
