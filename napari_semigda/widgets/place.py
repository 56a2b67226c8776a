"""Where the viewer looks: which image of a stack, and which point of it."""

from typing import Any

from napari.layers import Image

from napari_semigda.stacks import ImageStack


def slice_distance(image: Image) -> tuple[float | None, str]:
    """From one slice of a layer to the next in mm or µm, and which; None where its scale is in no unit of length."""
    if image.ndim < 3 or not image.units[-3].is_compatible_with("mm"):
        return None, ""
    length = float((1 * image.units[-3]).to("mm").magnitude)
    thickness = float(abs(image.scale[-3]))
    return (thickness * length, "mm") if length >= 1 else (thickness * length * 1000, "\N{MICRO SIGN}m")


def plane_in_view(viewer: Any, image: Image, stack: ImageStack) -> int:
    """Number of the image of `stack`, shown by the layer `image`, that the viewer shows."""
    position = image.world_to_data(viewer.dims.point)
    return stack.index(position[: len(stack.leading)])


def go_to(viewer: Any, image: Image, stack: ImageStack, plane: int, point: tuple[float, float] | None = None) -> None:
    """Show image number `plane`, with `point` (row, column) in the middle when there is one; the zoom stays."""
    row, column = point or (0.0, 0.0)
    spot = image.data_to_world((*stack.position(plane), row, column))
    first = viewer.dims.ndim - len(spot)  # other layers may have more axes
    if plane != plane_in_view(viewer, image, stack):
        axes = [first + axis for axis in range(len(stack.leading))]
        viewer.dims.set_point(axes, list(spot[: len(axes)]))
    if point is not None and viewer.dims.ndisplay == 2 and shows_planes(viewer):
        shown = [spot[axis - first] for axis in viewer.dims.displayed]
        viewer.scene.camera.center = (0.0, *shown)


def shows_planes(viewer: Any) -> bool:
    """Whether the viewer shows the last two axes, so that painting stays on one image."""
    return sorted(viewer.dims.order[-2:]) == [viewer.dims.ndim - 2, viewer.dims.ndim - 1]
