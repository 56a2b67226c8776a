"""OME-Zarr of versions 0.4 and 0.5: read lazily, masks as labels, and what is no OME-Zarr."""

import json

import numpy as np
import pytest
import zarr

from napari_semigda.engine.types import EngineError
from napari_semigda.formats import open_source, output_name, write_masks
from napari_semigda.formats.fingerprint import contents, size_and_date
from napari_semigda.images import images_in, read_mask
from napari_semigda.store import ProjectStore
from tests.formats.conftest import ids_for, noise, refused

SCALE = {"t": 3.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}
KINDS = {"t": "time", "c": "channel"}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def describe(group, told):
    v3 = group.metadata.zarr_format == 3
    group.attrs.update({"ome": {"version": "0.5", **told}} if v3 else told)


def save(path, pixels, axes, zarr_format=3, levels=2, units=UNITS):
    """Write an OME-Zarr with one chunk for each 16 x 16 pixels."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    datasets = []
    for level in range(levels):
        step = 2**level
        small = pixels[tuple(slice(None, None, step if axis in "yx" else 1) for axis in axes)]
        how = (
            {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
            if zarr_format == 2
            else {"dimension_names": list(axes)}
        )
        chunks = tuple(16 if axis in "yx" else 1 for axis in axes)
        array = group.create_array(f"s{level}", shape=small.shape, chunks=chunks, dtype=pixels.dtype, **how)
        array[...] = small
        scale = [SCALE[axis] * (step if axis in "yx" else 1) for axis in axes]
        datasets.append({"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    told = [{"name": axis, "type": KINDS.get(axis, "space")} for axis in axes]
    for axis in told:
        if axis["name"] in units:
            axis["unit"] = units[axis["name"]]
    describe(group, {"multiscales": [{"version": "0.4", "axes": told, "datasets": datasets}]})
    return path


def labels_of(path):
    """The label image of a folder as any program finds it: the names of labels first, then their resolutions."""

    def told(group):
        attributes = dict(group.attrs)
        return attributes.get("ome", attributes)

    labels = zarr.open_group(path, mode="r")["labels"]
    (name,) = told(labels)["labels"]
    group = labels[name]
    (first,) = told(group)["multiscales"]
    return told(group), first, [group[each["path"]] for each in first["datasets"]]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("yx", (40, 50)),
        ("cyx", (3, 40, 50)),
        ("zyx", (4, 40, 50)),
        ("czyx", (3, 4, 40, 50)),
        ("tczyx", (2, 1, 4, 40, 50)),
        ("tzyxc", (2, 4, 40, 50, 3)),
        ("zxy", (4, 50, 40)),
    ],
)
def test_planes_and_masks(tmp_path, zarr_format, axes, shape):
    pixels = noise(shape, np.uint16, 60000)
    source = open_source(save(tmp_path / "a.ome.zarr", pixels, axes, zarr_format))
    assert (source.spacing, source.unit, source.depth) == ((0.5, 0.25), "um", 2.0 if "z" in axes else None)
    order = [axes.index(axis) for axis in "tzyxc" if axis in axes]
    expected = pixels.transpose(order)
    colours = expected.shape[-1] if "c" in axes else 1
    expected = expected.reshape(-1, 40, 50, *((colours,) if colours > 1 else ()))
    np.testing.assert_array_equal([np.asarray(plane) for plane in source.planes], expected)
    assert source.planes[0].dtype == np.uint16

    path = write_masks(source, tmp_path / "out", ids_for(source))
    assert path.name == "a.ome.zarr" == output_name(tmp_path / "a.ome.zarr")
    told, first, arrays = labels_of(path)
    kept = [axis for axis in axes if axis != "c"]
    assert [axis["name"] for axis in first["axes"]] == kept
    assert told["image-label"]["source"] == {"image": "../../"}
    for level, (array, dataset) in enumerate(zip(arrays, first["datasets"], strict=True)):
        assert array.dtype == np.uint8 and array.metadata.zarr_format == zarr_format
        scale = [SCALE[axis] * (2**level if axis in "yx" else 1) for axis in kept]
        assert dataset["coordinateTransformations"] == [{"type": "scale", "scale": scale}]
    masks = np.stack(ids_for(source))
    full = arrays[0][...].transpose([kept.index(axis) for axis in "tzyx" if axis in kept]).reshape(masks.shape)
    np.testing.assert_array_equal(full, masks)
    assert set(np.unique(arrays[1][...])) <= set(np.unique(masks))
    np.testing.assert_array_equal(read_mask(path, source), masks)
    write_masks(source, tmp_path / "out", [mask * 0 for mask in ids_for(source)])
    assert not np.any(read_mask(path, source))
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["a.ome.zarr"]


@pytest.mark.parametrize(
    "key", [np.s_[3:20], np.s_[16:32, 17:30], np.s_[::3, ::4], np.s_[5], np.s_[..., 2], np.s_[9:2:-1]]
)
@pytest.mark.parametrize("axes", ["zyx", "zxy", "zyxc", "czyx"])
def test_parts_of_a_plane(tmp_path, axes, key):
    shape = tuple({"z": 2, "y": 40, "x": 50, "c": 3}[axis] for axis in axes)
    plane = open_source(save(tmp_path / "a.zarr", noise(shape), axes)).planes[1]
    np.testing.assert_array_equal(plane[key], np.asarray(plane)[key])


def test_only_the_chunks_wanted_are_read(tmp_path):
    save(tmp_path / "a.zarr", noise((2, 48, 48)), "zyx", levels=1)
    source = open_source(tmp_path / "a.zarr")
    for chunk in (tmp_path / "a.zarr" / "s0" / "c").rglob("*"):
        if chunk.is_file() and chunk.relative_to(tmp_path / "a.zarr" / "s0" / "c").parts != ("1", "1", "2"):
            chunk.write_bytes(b"damaged")
    np.testing.assert_array_equal(source.planes[1][16:32, 33:40], noise((2, 48, 48))[1, 16:32, 33:40])
    assert "a.zarr, plane 2" in refused(lambda: source.planes[1][0:4])
    assert "a.zarr, plane 1" in refused(np.asarray, source.planes[0])


@pytest.mark.parametrize(
    ("units", "spacing", "unit"),
    [
        ({"y": "millimeter", "x": "millimeter"}, (0.5, 0.25), "mm"),
        ({"y": "nanometer", "x": "nanometer"}, (0.0005, 0.00025), "um"),
        ({}, None, "mm"),
        ({"y": "furlong", "x": "furlong"}, None, "mm"),
    ],
)
def test_units(tmp_path, units, spacing, unit):
    source = open_source(save(tmp_path / "a.zarr", noise((40, 50)), "yx", units=units))
    assert source.spacing == (pytest.approx(spacing) if spacing else None)
    assert source.unit == unit


def test_old_versions_have_five_axes_or_bare_names(tmp_path):
    for axes in (None, list("tczyx")):
        save(tmp_path / "a.zarr", noise((1, 1, 4, 40, 50)), "tczyx", 2)
        attributes = tmp_path / "a.zarr" / ".zattrs"
        told = json.loads(attributes.read_text())
        del told["multiscales"][0]["axes"]
        told["multiscales"][0] |= {"axes": axes} if axes else {}
        for dataset in told["multiscales"][0]["datasets"]:
            del dataset["coordinateTransformations"]
        attributes.write_text(json.dumps(told))
        source = open_source(tmp_path / "a.zarr")
        assert (len(source.planes), source.spacing) == (4, None)
        path = write_masks(source, tmp_path / "out", ids_for(source))
        np.testing.assert_array_equal(read_mask(path, source), ids_for(source))


def bare_array(path):
    zarr.create_array(path, shape=(40, 50), dtype="uint8")


def bare_group(path):
    zarr.open_group(path, mode="w").create_array("0", shape=(40, 50), dtype="uint8")


def no_zarr(path):
    path.mkdir()
    (path / "readme.txt").write_text("x")


def plate(path):
    describe(zarr.open_group(path, mode="w"), {"plate": {"wells": []}})


def several(path):
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for name in ("0", "1"):
        root.create_group(name)


def odd_axes(path):
    save(path, noise((40, 50)), "zy")


def lost_level(path):
    save(path, noise((40, 50)), "yx", 2)
    (path / "s0" / ".zarray").unlink()


def no_pixels(path):
    save(path, np.zeros((0, 50), np.uint8), "yx", levels=1)


def no_planes(path):
    save(path, np.zeros((0, 40, 50), np.uint8), "zyx", levels=1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (bare_array, "no zarr group"),
        (bare_group, "multiscales"),
        (no_zarr, "no zarr group"),
        (plate, "plate"),
        (several, "2 images"),
        (odd_axes, "axes zy"),
        (lost_level, "damaged"),
        (no_pixels, "no pixels"),
        (no_planes, "no images"),
    ],
)
def test_what_is_no_image_is_refused_in_words(tmp_path, make, words):
    make(tmp_path / "a.zarr")
    sentence = refused(open_source, tmp_path / "a.zarr")
    assert "a.zarr" in sentence and words in sentence


def test_the_one_image_of_a_converted_file(tmp_path):
    save(tmp_path / "a.zarr" / "0", noise((40, 50)), "yx", 2)
    zarr.open_group(tmp_path / "a.zarr", mode="a", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    np.testing.assert_array_equal(np.asarray(open_source(tmp_path / "a.zarr").planes[0]), noise((40, 50)))


def test_a_failed_writing_leaves_the_masks_that_were_there(tmp_path):
    source = open_source(save(tmp_path / "a.zarr", noise((4, 40, 50)), "zyx"))
    path = write_masks(source, tmp_path / "out", ids_for(source))
    with pytest.raises(EngineError):
        write_masks(source, tmp_path / "out", [np.zeros((9, 9), np.uint8)] * 4)
    np.testing.assert_array_equal(read_mask(path), ids_for(source))
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["a.ome.zarr"]


def test_a_project_with_one_among_its_images(tmp_path):
    save(tmp_path / "a.zarr", noise((3, 40, 50)), "zyx")
    assert images_in(tmp_path) == images_in(tmp_path / "a.zarr") == [tmp_path / "a.zarr"]
    assert "folder it lies in" in refused(ProjectStore.create, tmp_path / "a.zarr")
    store = ProjectStore.create(tmp_path)
    mask = np.zeros((40, 50), np.uint8)
    mask[3:9, 5:30] = 2
    store.save_masks([1], {1: mask})
    assert store.close()
    assert (tmp_path / "semigda" / "masks" / "a.tif").is_file()
    store = ProjectStore.open(tmp_path)
    assert store.problems == [] and store.images.planes[1].name == "a.zarr, plane 2"
    assert store.spacing == pytest.approx((0.0005, 0.00025))  # millimetres
    np.testing.assert_array_equal(store.images.planes[1].image[3:8, ::2], noise((3, 40, 50))[1, 3:8, ::2])
    ((number, kept),) = store.read_masks()
    assert number == 1 and (kept == mask).all()
    store.close()


def test_a_change_is_noticed_and_labels_are_none(tmp_path):
    source = open_source(save(tmp_path / "a.zarr", noise((40, 50)), "yx"))
    before = size_and_date(source.path), b"".join(contents(source.path))
    written = write_masks(source, tmp_path / "out", ids_for(source))
    (written / "labels").rename(source.path / "labels")
    assert (size_and_date(source.path), b"".join(contents(source.path))) == before
    zarr.open_group(source.path)["s0"][...] = 7
    assert b"".join(contents(source.path)) != before[1]
