"""OME-Zarr 0.1 to 0.5: a folder with one image in several resolutions, of which the full one is read chunk by chunk.

Masks are a label image under ``labels/masks`` of an OME-Zarr of their own, of the same version and with the same
resolutions, axes and sizes. Images are never written to: who wants the masks inside an image copies ``labels`` there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_semigda.engine.types import EngineError
from napari_semigda.formats.source import Format, LazyImage, Source, plane_names

LABELS = "labels"
NAME = "masks"
_MICROMETRES = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
_CHUNK = 1024


class _Image(NamedTuple):
    """Where the pixels of an OME-Zarr are and how they are laid out."""

    place: str
    """Of the array of the full resolution, inside the folder."""
    axes: tuple[dict[str, str], ...]
    """``{"name": "y", "type": "space", "unit": "micrometer"}`` for each axis of the array."""
    levels: tuple[tuple[tuple[int, ...], list[dict[str, Any]]], ...]
    """Shape and coordinate transformations of each resolution."""
    common: list[dict[str, Any]]
    """Coordinate transformations of all of them."""
    zarr_format: int

    @property
    def names(self) -> str:
        """One letter for each axis."""
        return "".join(axis["name"] for axis in self.axes)

    def scale(self, axis: str) -> float:
        """Size of a pixel along an axis in its unit; nan where it is not told."""
        at, told = self.names.find(axis), [*self.levels[0][1], *self.common]
        scales = [float(each["scale"][at]) for each in told if each.get("type") == "scale" and "scale" in each]
        return math.prod(scales) if at >= 0 and scales else math.nan


def _read(path: Path) -> Source:
    import zarr

    try:
        root = zarr.open_group(path, mode="r")
    except (FileNotFoundError, zarr.errors.ContainsArrayError):
        raise EngineError(f"{path} holds no zarr group, so no OME-Zarr: choose its outermost folder.") from None
    image = _image(path, root)
    array = root[image.place]
    names = image.names
    if len(names) != array.ndim or names.count("y") != 1 or names.count("x") != 1:
        raise EngineError(
            f"{path} has the axes {names} for {array.ndim} dimensions, not rows (y) and columns (x): export it again."
        )
    colours = array.shape[names.index("c")] if "c" in names else 1
    shape = (array.shape[names.index("y")], array.shape[names.index("x")], *((colours,) if colours > 1 else ()))
    leading = [array.shape[at] for at, name in enumerate(names) if name not in "cyx"]
    dtype = np.dtype(array.dtype).newbyteorder("=")
    titles = plane_names(path.name, ZARR.word, math.prod(leading))
    planes = []
    for title, at in zip(titles, np.ndindex(*leading), strict=True):
        part = partial(_part, path, image.place, names, at, colours > 1)
        planes.append(LazyImage(title, shape, dtype, partial(part, ()), part))
    unit, (height, width, depth) = _sizes(image)
    spacing = (height, width) if height and width else None
    long = {name for at, name in enumerate(names) if array.shape[at] > 1}
    axis = next((name for name in "zt" if name in long), "")
    return Source(path, tuple(planes), spacing, image, unit, depth if "z" in names else None, axis=axis)


def _image(path: Path, root: Any) -> _Image:
    """Find the image of a folder, or the labels where it holds nothing else."""
    group, place = root, ""
    told = _told(group)
    if "multiscales" not in told and "bioformats2raw.layout" in {**root.attrs, **told}:
        inner = sorted(name for name in root.group_keys() if name.isdecimal())
        if len(inner) != 1:
            raise EngineError(f"{path} holds {len(inner)} images: save the one you want as an OME-Zarr of its own.")
        place = inner[0]
    elif "multiscales" not in told and LABELS in root:
        inner = list(_told(root[LABELS]).get("labels", ()))
        if len(inner) != 1:
            raise EngineError(f"{path} holds {len(inner)} label images and no other: keep one of them.")
        place = f"{LABELS}/{inner[0]}"
    elif "plate" in told or "well" in told:
        raise EngineError(f"{path} is a plate of many images: save the ones you want as OME-Zarr of their own.")
    if place:
        group = root[place]
        told = _told(group)
    if not told.get("multiscales"):
        raise EngineError(
            f"{path} is a zarr without the description that OME-Zarr has (multiscales), so what its axes are is not "
            "known: export it as OME-Zarr, or open it in the viewer as a layer."
        )
    first = told["multiscales"][0]
    levels = [(group[each["path"]], each.get("coordinateTransformations", [])) for each in first["datasets"]]
    axes = first.get("axes") or list("tczyx")  # versions 0.1 and 0.2 have always these five
    axes = tuple({"name": axis} if isinstance(axis, str) else dict(axis) for axis in axes)
    return _Image(
        f"{place}/{first['datasets'][0]['path']}".strip("/"),
        tuple({**axis, "name": str(axis["name"]).lower()[:1]} for axis in axes),
        tuple((tuple(array.shape), transforms) for array, transforms in levels),
        first.get("coordinateTransformations", []),
        group.metadata.zarr_format,
    )


def _told(group: Any) -> dict[str, Any]:
    """What OME says of a group: since version 0.5 under a name of its own."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


def _sizes(image: _Image) -> tuple[str, tuple[float | None, ...]]:
    """Unit, and height, width and depth of a pixel in it."""
    units = {axis["name"]: _MICROMETRES.get(axis.get("unit", ""), math.nan) for axis in image.axes}
    sizes = [image.scale(axis) * units.get(axis, math.nan) for axis in "yxz"]
    unit, factor = ("mm", 1e-3) if units.get("y", 0) >= 1e3 else ("um", 1.0)
    known = tuple(size * factor if math.isfinite(size) and size > 0 else None for size in sizes)
    return (unit if known[0] and known[1] else "mm"), known


def _part(path: Path, place: str, names: str, at: tuple[int, ...], colours: bool, key: Any) -> np.ndarray:
    """Pixels of one plane: ``plane[key]``, of which no more chunks are read than needed where `key` has two slices."""
    import zarr

    key = key if isinstance(key, tuple) else (key,)
    wanted = [*key[:2], *[slice(None)] * (2 - len(key[:2]))]
    simple = all(isinstance(each, slice) and (each.step is None or each.step > 0) for each in wanted)
    rows, columns = wanted if simple else (slice(None), slice(None))
    leading = iter(at)
    select = {"y": rows, "x": columns, "c": slice(None) if colours else 0}
    array = zarr.open_group(path, mode="r")[place]
    pixels = np.asarray(array[tuple(select[name] if name in select else next(leading) for name in names)])
    left = [name for name in names if name in ("yxc" if colours else "yx")]
    pixels = pixels.transpose([left.index(name) for name in ("yxc" if colours else "yx")])
    return pixels[(slice(None), slice(None), *key[2:])] if simple else pixels[key]


def _write(path: Path, source: Source, masks: Sequence[np.ndarray]) -> None:
    import zarr

    image: _Image = source.header
    root = zarr.open_group(path, mode="w-", zarr_format=image.zarr_format)
    labels = root.create_group(LABELS)
    group = labels.create_group(NAME)
    kept = [at for at, name in enumerate(image.names) if name != "c"]
    shapes = [tuple(shape[at] for at in kept) for shape, _ in image.levels]
    rows, columns = (image.names.replace("c", "").index(name) for name in "yx")
    for number, shape in enumerate(shapes):
        array = _create(group, str(number), shape, (rows, columns), [image.names[at] for at in kept])
        finer = [_nearest(shapes[0][axis], n) for axis, n in enumerate(shape)]
        others = [axis for axis in range(len(shape)) if axis not in (rows, columns)]
        for index in np.ndindex(*(shape[axis] for axis in others)):
            at = [finer[axis][i] for axis, i in zip(others, index, strict=True)]
            mask = masks[int(np.ravel_multi_index(at, [shapes[0][axis] for axis in others]))] if others else masks[0]
            small = mask[np.ix_(finer[rows], finer[columns])]
            inside = iter(index)
            where = tuple(slice(None) if axis in (rows, columns) else next(inside) for axis in range(len(shape)))
            array[where] = small if rows < columns else small.T
    _describe(labels, {"labels": [NAME]})
    version = _version(image.zarr_format)
    described = {
        "name": NAME,
        "axes": [image.axes[at] for at in kept],
        "datasets": [
            {"path": str(number), "coordinateTransformations": _without_channels(transforms, kept) or _ones(len(kept))}
            for number, (_, transforms) in enumerate(image.levels)
        ],
        **({"coordinateTransformations": _without_channels(image.common, kept)} if image.common else {}),
        **({"version": version} if image.zarr_format == 2 else {}),
    }
    own = {"version": version} if image.zarr_format == 2 else {}
    _describe(group, {"multiscales": [described], "image-label": {"source": {"image": "../../"}, **own}})


def _create(group: Any, name: str, shape: tuple[int, ...], flat: tuple[int, int], axes: list[str]) -> Any:
    """An array of class ids in the format of its group, a plane in one chunk or more."""
    chunks = tuple(min(_CHUNK, n) if axis in flat else 1 for axis, n in enumerate(shape))
    if group.metadata.zarr_format == 2:
        how: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    else:
        how = {"dimension_names": axes}
    return group.create_array(name, shape=shape, chunks=chunks, dtype="uint8", fill_value=0, **how)


def _nearest(fine: int, coarse: int) -> np.ndarray:
    """Which of `fine` pixels lies under the middle of each of `coarse` ones: class ids cannot be averaged."""
    return np.minimum(((np.arange(coarse) + 0.5) * fine / max(coarse, 1)).astype(int), fine - 1)


def _without_channels(transforms: list[dict[str, Any]], kept: list[int]) -> list[dict[str, Any]]:
    numbers = ("scale", "translation")
    return [
        {key: [value[at] for at in kept] if key in numbers else value for key, value in each.items()}
        for each in transforms
    ]


def _ones(count: int) -> list[dict[str, Any]]:
    return [{"type": "scale", "scale": [1.0] * count}]


def _version(zarr_format: int) -> str:
    return "0.4" if zarr_format == 2 else "0.5"


def _describe(group: Any, told: dict[str, Any]) -> None:
    if group.metadata.zarr_format == 2:
        group.attrs.update(told)
    else:
        group.attrs.update({"ome": {"version": _version(3), **told}})


ZARR = Format(_read, _write, ".ome.zarr", "plane")
