"""OME-Zarr 0.1 to 0.5: a folder with one image in several resolutions, of which the full one is read chunk by chunk.

Masks are a label image under ``labels/masks`` of an OME-Zarr of their own, of the same version and with the same
resolutions, axes and sizes. Images are never written to: who wants the masks inside an image copies ``labels`` there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from operator import sub
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_semigda.engine.blocks import SIDE
from napari_semigda.engine.types import EngineError
from napari_semigda.formats.growing import MaskPlane, coarsen, halves, nearest
from napari_semigda.formats.source import (
    Format,
    LazyImage,
    Source,
    area_of,
    check_claim,
    check_room,
    count_volumes,
    plane_names,
)
from napari_semigda.formats.unpacking import check_chunks

LABELS = "labels"
NAME = "masks"
_MICROMETRES = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}


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
    places: tuple[str, ...] = ()
    """Of the array of each resolution, inside the folder."""

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
    if "pickle" in f"{array.filters} {array.compressors}".lower():
        raise EngineError(f"{path} is packed with code of its own, which is never run: export it again.")
    check_claim(path, math.prod(leading), 1)
    check_room(f"A chunk of {path}", array.chunks, dtype)
    titles = plane_names(path.name, ZARR.word, math.prod(leading))
    planes = []
    for title, at in zip(titles, np.ndindex(*leading), strict=True):
        part = partial(_part, path, image.place, names, at, colours > 1)
        coarser = _coarser(path, image, title, at, dtype)
        planes.append(LazyImage(title, shape, dtype, partial(part, ()), part, coarser))
    unit, (height, width, depth) = _sizes(image)
    spacing = (height, width) if height and width else None
    long = {name for at, name in enumerate(names) if array.shape[at] > 1}
    axis = next((name for name in "zt" if name in long), "")
    volumes = count_volumes("".join(name for name in names if name not in "cyx"), leading)
    depth = depth if "z" in names else None
    is_mask = image.place.startswith(f"{LABELS}/")
    return Source(path, tuple(planes), spacing, image, unit, depth, axis=axis, volumes=volumes, is_mask=is_mask)


def _coarser(path: Path, image: _Image, title: str, at: tuple[int, ...], dtype: np.dtype) -> tuple[LazyImage, ...]:
    """The resolutions below the full one of a plane, where they have the same planes."""
    found, names = [], image.names
    full = image.levels[0][0]
    for place, (sides, _) in list(zip(image.places, image.levels, strict=True))[1:]:
        if all(n == m for name, n, m in zip(names, sides, full, strict=True) if name not in "yx"):
            colours = sides[names.index("c")] if "c" in names else 1
            shape = (sides[names.index("y")], sides[names.index("x")], *((colours,) if colours > 1 else ()))
            part = partial(_part, path, place, names, at, colours > 1)
            found.append(LazyImage(title, shape, dtype, partial(part, ()), part))
    return tuple(found)


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
    finest = levels[0][0].shape
    if any(len(array.shape) != len(finest) or max(map(sub, array.shape, finest)) > 0 for array, _ in levels):
        raise ValueError("a coarser resolution is larger than the finest")
    places = tuple(f"{place}/{each['path']}".strip("/") for each in first["datasets"])
    return _Image(
        places[0],
        tuple({**axis, "name": str(axis["name"]).lower()[:1]} for axis in axes),
        tuple((tuple(array.shape), _transforms(transforms, len(axes))) for array, transforms in levels),
        _transforms(first.get("coordinateTransformations", []), len(axes)),
        group.metadata.zarr_format,
        places,
    )


def _transforms(told: Any, count: int) -> list[dict[str, Any]]:
    """Coordinate transformations of so many axes; ValueError for what is none, because masks are told them too."""
    for each in told:
        for numbers in ([float(x) for x in each[key]] for key in ("scale", "translation") if key in each):
            if len(numbers) != count:
                raise ValueError(f"{len(numbers)} scales for {count} axes")
    return [dict(each) for each in told]


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

    area = area_of(key)
    rows, columns, rest = area or (slice(None), slice(None), ())
    leading = iter(at)
    select = {"y": rows, "x": columns, "c": slice(None) if colours else 0}
    array = zarr.open_group(path, mode="r")[place]
    wanted = tuple(select[name] if name in select else next(leading) for name in names)
    check_chunks(array, path / place, wanted)
    pixels = np.asarray(array[wanted])
    left = [name for name in names if name in ("yxc" if colours else "yx")]
    pixels = pixels.transpose([left.index(name) for name in ("yxc" if colours else "yx")])
    return pixels[(slice(None), slice(None), *rest)] if area else pixels[key]


def _write(path: Path, source: Source, masks: Sequence[Any]) -> None:
    begin(path, source)
    for plane, mask in zip(planes(path, source), masks, strict=True):
        plane[:, :] = np.asarray(mask)
    finish(path, source)


def begin(path: Path, source: Source) -> None:
    """Make an OME-Zarr of empty masks for an image; it is none before `finish`, for it lacks the description."""
    import zarr

    image: _Image = source.header
    group = zarr.open_group(path, mode="w-", zarr_format=image.zarr_format).create_group(LABELS).create_group(NAME)
    names = image.names.replace("c", "")
    for number, (shape, _) in enumerate(_levels(image)):
        chunks = tuple(min(SIDE, n) if name in "yx" else 1 for n, name in zip(shape, names, strict=True))
        if image.zarr_format == 2:
            how: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        else:
            how = {"dimension_names": list(names)}
        group.create_array(str(number), shape=shape, chunks=chunks, dtype="uint8", fill_value=0, **how)


def planes(path: Path, source: Source, level: int = 0) -> list[MaskPlane]:
    """The masks that `begin` has made, in the order of the planes of the image; fewer where a level is coarser."""
    import zarr

    names = source.header.names.replace("c", "")
    array = zarr.open_group(path, mode="r+")[LABELS][NAME][str(level)]
    leading = [n for n, name in zip(array.shape, names, strict=True) if name not in "yx"]
    return [MaskPlane(array, names, at) for at in np.ndindex(*leading)]


def finish(path: Path, source: Source) -> None:
    """Make the coarser levels of masks that are complete, then say what they are."""
    import zarr

    image: _Image = source.header
    levels = _levels(image)
    for left in path.rglob("*.partial"):  # of chunks that somebody was killed at; zarr calls them so
        left.unlink(missing_ok=True)
    for number in range(1, len(levels)):
        _coarsen(
            planes(path, source, number - 1), planes(path, source, number), levels[number - 1][0], levels[number][0]
        )
    kept = [at for at, name in enumerate(image.names) if name != "c"]
    labels = zarr.open_group(path, mode="r+")[LABELS]
    version = _version(image.zarr_format)
    described = {
        "name": NAME,
        "axes": [image.axes[at] for at in kept],
        "datasets": [
            {"path": str(number), "coordinateTransformations": transforms}
            for number, (_, transforms) in enumerate(levels)
        ],
        **({"coordinateTransformations": _without_channels(image.common, kept)} if image.common else {}),
        **({"version": version} if image.zarr_format == 2 else {}),
    }
    own = {"version": version} if image.zarr_format == 2 else {}
    _describe(labels[NAME], {"multiscales": [described], "image-label": {"source": {"image": "../../"}, **own}})
    _describe(labels, {"labels": [NAME]})


def _levels(image: _Image) -> list[tuple[tuple[int, ...], list[dict[str, Any]]]]:
    """Shape and transformations of each resolution of the masks: those of the image, or halves of a large one."""
    kept = [at for at, name in enumerate(image.names) if name != "c"]
    names = "".join(image.names[at] for at in kept)
    levels = [
        (tuple(shape[at] for at in kept), _without_channels(transforms, kept) or _ones(len(kept)))
        for shape, transforms in image.levels
    ]
    if len(levels) > 1:
        return levels
    ((full, transforms),) = levels
    for height, width in halves((full[names.index("y")], full[names.index("x")])):
        sides = {"y": height, "x": width}
        shape = tuple(sides.get(name, n) for name, n in zip(names, full, strict=True))
        levels.append((shape, _stretched(transforms, [n / m for n, m in zip(full, shape, strict=True)])))
    return levels


def _coarsen(fine: list[MaskPlane], coarse: list[MaskPlane], fine_shape: tuple, coarse_shape: tuple) -> None:
    """Fill a coarser level, which may have fewer planes as well."""
    y, x = fine[0].axes
    leading = [
        (n, nearest(n, m))
        for axis, (n, m) in enumerate(zip(fine_shape, coarse_shape, strict=True))
        if axis not in (y, x)
    ]
    for plane, index in zip(coarse, np.ndindex(*(len(near) for _, near in leading)), strict=True):
        at = [near[i] for (_, near), i in zip(leading, index, strict=True)]
        coarsen(fine[int(np.ravel_multi_index(at, [n for n, _ in leading])) if at else 0], plane)


def _stretched(transforms: list[dict[str, Any]], factors: list[float]) -> list[dict[str, Any]]:
    """Transformations of a level whose pixels are so many times as large along each axis."""
    return [
        {**each, "scale": [size * factor for size, factor in zip(each["scale"], factors, strict=True)]}
        if each.get("type") == "scale" and "scale" in each
        else each
        for each in transforms
    ]


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


ZARR = Format(_read, _write, ".ome.zarr", "plane", by_parts=True)
