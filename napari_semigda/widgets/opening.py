"""Files that napari cannot read by itself, or not with the size of their pixels, as layers: NIfTI and DICOM."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_semigda.engine.types import EngineError
from napari_semigda.formats import Source, is_image, open_source, stem_of
from napari_semigda.store.stack import FileStack, StackPlane


def image_reader(path: str | list[str]) -> Callable[[Any], list[tuple]] | None:
    """For napari: how to read files that were dropped or opened; None when one of them is none of ours."""
    paths = [Path(each) for each in ([path] if isinstance(path, str) else path)]
    if not all(is_image(each) for each in paths):
        return None

    def read(_: Any) -> list[tuple]:
        from napari.utils.notifications import show_warning

        try:
            return [_layer([open_source(each) for each in paths], show_warning)]
        except EngineError as error:
            show_warning(str(error))
            return [(None,)]  # napari's word for "there are no layers to add"

    return read


def _layer(sources: list[Source], say: Callable[[str], object]) -> tuple[FileStack, dict[str, Any], str]:
    """The planes of some files as one lazy layer, with the size that the first one tells."""
    first = sources[0]
    planes = [
        StackPlane(image.name, source.path.name if len(source.planes) > 1 else "", image)
        for source in sources
        for image in source.planes
    ]
    stack = FileStack(planes, say)
    known = first.spacing is not None and all(source.spacing == first.spacing for source in sources)
    deep = known and len(sources) == 1 and first.depth is not None and first.volumes == 1
    unit = first.unit if known else "pixel"
    options = {
        "name": stem_of(first.path),
        "rgb": stack.rgb,
        "multiscale": False,
        "contrast_limits": None if stack.rgb else first.window or stack.limits(),
        "scale": (first.depth if deep else 1.0, *(first.spacing if known else (1.0, 1.0))),
        "units": (unit if deep else "pixel", unit, unit),
        "axis_labels": ("z" if deep else "image", "y", "x"),
    }
    return stack, options, "image"
