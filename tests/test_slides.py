"""Layers larger than memory: handed over without a copy, cut into tiles, masks that grow where they can be seen."""

import json

import dask.array
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers._source import layer_source

from napari_semigda import grown, tiling
from napari_semigda.engine import blocks
from napari_semigda.engine.blocks import Window, count_blocks
from napari_semigda.engine.exchange import Job, PredictRequest, read_job, write_job
from napari_semigda.engine.normalise import Input
from napari_semigda.engine.types import EngineError, Plane
from napari_semigda.formats import LazyImage, growing, open_source
from napari_semigda.images import opener, planes_of
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store.stack import FileStack, StackPlane
from napari_semigda.widgets import opened, opening, tiled
from tests.fake_engine import FakePredictor
from tests.formats.test_omezarr import describe
from tests.test_large import scene

SIZE = (1100, 1300)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(blocks, "LARGE", 2**18)
    monkeypatch.setattr(tiling, "SIDE", 400)


def save(path, pixels, levels=3, first="z"):
    """An OME-Zarr, (y, x) or with one axis before them, each level every second pixel of the one before."""
    group = zarr.open_group(path, mode="w")
    axes = f"{first}yx"[3 - pixels.ndim :]
    for level in range(levels):
        part = pixels[..., :: 2**level, :: 2**level]
        array = group.create_array(
            str(level), shape=part.shape, chunks=(*[1] * (part.ndim - 2), 200, 200), dtype=part.dtype
        )
        array[...] = part
    scales = [[1.0] * (pixels.ndim - 2) + [0.5 * 2**level] * 2 for level in range(levels)]
    told = [
        {"path": str(at), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for at, scale in enumerate(scales)
    ]
    units = [{"name": axis, **({"unit": "micrometer"} if axis in "yx" else {})} for axis in axes]
    describe(group, {"multiscales": [{"axes": units, "datasets": told}]})
    return path


@pytest.fixture
def slide(tmp_path):
    return save(tmp_path / "slide.ome.zarr", scene())


def sent_and_read(folder, planes):
    """Planes as the training process gets them, and the files that were made for it."""
    list(write_job(folder, Job(PredictRequest(tuple(planes), folder / "m.semigda"))))
    got = read_job(folder / "request.json", opener()).request.planes
    return got, sorted(path.name for path in (folder / "images").iterdir())


def test_a_large_image_in_a_file_is_read_where_it_lies(slide, tmp_path):
    array = zarr.open_group(slide, mode="r")["0"]
    stack = ImageStack("plain zarr", array)
    for planes in (planes_of(open_source(slide)), [stack.plane(0)], _tiles(slide)):
        got, copies = sent_and_read(tmp_path / "run", planes)
        assert copies == []
        for one, other in zip(planes, got, strict=True):
            np.testing.assert_array_equal(np.asarray(other.image), np.asarray(one.image))
    save(slide, scene()[:1000])
    with pytest.raises(EngineError, match=r"slide\.ome\.zarr.* is another image"):
        read_job(tmp_path / "run" / "request.json", opener())


def test_a_large_image_in_no_file_is_copied_once_in_bands(tmp_path, monkeypatch):
    seen = []

    def chunk(block, block_info=None):
        seen.append(block_info[0]["chunk-location"])
        return block

    monkeypatch.setattr("napari_semigda.engine.arrays._BAND_BYTES", 1300 * 275)
    data = dask.array.from_array(scene(), chunks=(275, 1300)).map_blocks(chunk, dtype=np.uint8, meta=scene()[:0])
    whole = ImageStack("dask", data).plane(0)
    tiles = [Plane(tile.name, tile.image) for tile in tiling.cut([whole]).planes]
    got, copies = sent_and_read(tmp_path / "run", tiles)
    assert len(copies) == 1 and sorted(set(seen)) == sorted(seen) and len(seen) == 4
    for one, other in zip(tiles, got, strict=True):
        np.testing.assert_array_equal(np.asarray(other.image), scene()[tuple(_area(one.image))])
    assert sent_and_read(tmp_path / "run", tiles)[1] == copies and len(seen) == 4
    with monkeypatch.context() as patch, pytest.raises(EngineError, match="make room"):
        patch.setattr("napari_semigda.engine.handover.shutil.disk_usage", lambda _: type("Disk", (), {"free": 2**20}))
        sent_and_read(tmp_path / "other", tiles)


def _area(window):
    top, left, bottom, right = window.area
    return slice(top, bottom), slice(left, right)


def _tiles(path):
    return [Plane(tile.name, tile.image, group=tile.group) for tile in tiling.cut(planes_of(open_source(path))).planes]


@pytest.mark.parametrize("size", [SIZE, (599, 600), (400, 1001), (4000, 16)])
def test_tiles_cover_an_image_once(size):
    seen = np.zeros(size, int)
    for top, left, bottom, right in tiling.areas(size):
        seen[top:bottom, left:right] += 1
        assert bottom - top < 600 and right - left < 601
    assert (seen == 1).all()


def test_a_tile_is_a_part_with_the_black_and_white_of_the_whole(monkeypatch):
    monkeypatch.setattr(blocks, "LARGE", 2**30)
    pixels = scene().astype(np.uint16) * 7 + np.arange(1300, dtype=np.uint16)
    tile, expected = Window(pixels, (100, 200, 500, 700)), pixels[100:500, 200:700]
    for key in np.s_[:, :], np.s_[3:90:7, ::11], np.s_[-5:], np.s_[5], np.s_[9:2:-1, 4], np.s_[0:0, 3:9]:
        np.testing.assert_array_equal(tile[key], expected[key])
    assert Input().own_contrasts(tile) == Input().own_contrasts(pixels) != Input().own_contrasts(expected)


def test_black_and_white_of_a_large_image_come_from_a_part_of_it():
    read = []

    def part(key):
        read.append(scene()[key])
        return read[-1]

    image = LazyImage("slide", SIZE, np.dtype(np.uint8), scene, part)
    tiles = tiling.cut([Plane("slide", image)]).planes
    assert {Input().own_contrasts(each) for each in (image, *(tile.image for tile in tiles))} == {((20, 220),)}
    assert sum(pixels.size for pixels in read) == 512 * 512  # once for all, and no more of it


def test_a_large_file_is_shown_by_resolution_and_only_where_one_looks(slide, tmp_path, monkeypatch):
    ((levels, options, _),) = opening.image_reader(str(slide))(str(slide))
    assert options["multiscale"] and options["axis_labels"] == ("y", "x") and options["scale"] == (0.5, 0.5)
    assert [level.shape for level in levels] == [SIZE, (550, 650), (275, 325)]
    for level, stack in enumerate(levels):
        np.testing.assert_array_equal(stack[20:60, 30:90], scene()[:: 2**level, :: 2**level][20:60, 30:90])

    volume = save(tmp_path / "volume.ome.zarr", np.stack([scene(1), scene(2)]))
    ((levels, options, _),) = opening.image_reader(str(volume))(str(volume))
    assert options["axis_labels"] == ("z", "y", "x") and levels[1].shape == (2, 550, 650)
    monkeypatch.setattr(LazyImage, "__array__", None)  # nothing is read whole
    later = levels[0][:, 100:200, 300:500]  # as napari slices
    assert later.shape == (2, 100, 200)
    np.testing.assert_array_equal(np.asarray(later[1, :, :]), scene(2)[100:200, 300:500])


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_of_a_large_file_are_shown_together(tmp_path, channels):
    pixels = np.stack([scene(seed) for seed in range(channels)]).astype(np.uint16 if channels == 2 else np.uint8)
    path = save(tmp_path / "slide.ome.zarr", pixels, first="c")
    ((levels, options, _),) = opening.image_reader(str(path))(str(path))
    assert options["multiscale"] and [level.shape for level in levels] == [(*SIZE, 3), (550, 650, 3), (275, 325, 3)]
    seen, stored = levels[1][20:60, 30:90], np.moveaxis(pixels[:, ::2, ::2][:, 20:60, 30:90], 0, -1)
    if channels == 2:  # as the networks see it, with the black and white of the whole
        stored = np.concatenate([stored, stored.mean(-1, keepdims=True)], -1)
        stored = np.round((stored.astype(float) - 20) / 200 * 255)
    np.testing.assert_array_equal(seen, stored)


class Slow(FakePredictor):
    """Thresholds block by block, and remembers which."""

    def __init__(self, model):
        super().__init__(model)
        self.asked = []

    def blocks(self, plane, done=()):
        for block in super().blocks(plane, done):
            self.asked.append((plane.name, block.place.number))
            yield block


def test_masks_grow_where_they_can_be_seen_and_are_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(grown, "_COARSEST", 512)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE)).astype(np.uint8)
    path = save(tmp_path / "volume.ome.zarr", pixels)
    planes, model = planes_of(open_source(path)), tmp_path / "m.semigda"
    model.write_text(json.dumps({"wish": ""}))
    request = PredictRequest(tuple(planes), model, masks=tmp_path / "grown", shape=(2, *SIZE))
    masks = grown.masks_in(request.masks, model, request.shape)
    shown = grown.levels(masks.store)
    assert [array.shape for array in shown] == [(2, *SIZE), (2, 550, 650), (2, 275, 325)]

    first, again = Slow(model), Slow(model)
    *_, share = grown.grow(request, first, lambda: len(first.asked) == 5, lambda: 1)
    assert {name for name, _ in first.asked} == {planes[1].name}  # the image in view
    assert share == 5 / 18 and shown[0][1].any() and not shown[0][0].any()
    *_, share = grown.grow(request, again, lambda: False, lambda: 0)
    assert share == 1 and len(set(first.asked + again.asked)) == len(first.asked + again.asked) == 2 * count_blocks(
        SIZE
    )
    for index in (0, 1):
        fine = pixels[index] > pixels[index].mean()
        np.testing.assert_array_equal(shown[0][index], fine)
        coarse = fine[np.ix_(growing.nearest(1100, 550), growing.nearest(1300, 650))]
        np.testing.assert_array_equal(shown[1][index], coarse)
        coarse = coarse[np.ix_(growing.nearest(550, 275), growing.nearest(650, 325))]
        np.testing.assert_array_equal(shown[2][index], coarse)

    saved = grown.save(masks.store, tmp_path / "saved.zarr", "zyx", (1.0, 0.5, 0.5), "um")
    source = open_source(saved)
    assert saved.name == "saved.ome.zarr" and (source.spacing, source.unit) == ((0.5, 0.5), "um")
    np.testing.assert_array_equal(np.asarray(source.planes[1]), pixels[1] > pixels[1].mean())

    model.write_text(json.dumps({"wish": "another"}))
    assert grown.masks_in(request.masks, model, request.shape).count == 0


def test_another_plugins_layer_of_a_file_is_trained_on_from_the_file(slide, tmp_path):
    viewer = ViewerModel()

    def tiles_of(pixels):
        with layer_source(path=str(slide)):
            layer = viewer.add_image([dask.array.from_array(pixels[:: 2**n, :: 2**n]) for n in (0, 1)], multiscale=True)
        tiles = tiled.as_tiles(viewer, layer)
        assert tiles.data.shape == (9, 400, 500) and tiled.as_tiles(viewer, layer) is tiles
        planes = [Plane(tile.name, tile.image) for tile in tiles.data.planes]
        got, copies = sent_and_read(tmp_path / "run", planes)
        np.testing.assert_array_equal(np.asarray(got[4].image), pixels[400:800, 400:800])
        return copies

    assert tiles_of(scene()) == []
    assert len(tiles_of(255 - scene())) == 1  # another image than the file now holds


def test_a_project_on_disk_is_never_cut(slide):
    project = Project(ImageStack("study", FileStack([StackPlane("a", "", open_source(slide).planes[0])])))
    layer = opened.image_layer(project, str(slide.parent), None)
    assert tiled.as_tiles(ViewerModel(), layer) is layer
    project.close()
