"""Planes predicted block by block: the same masks as at once, little memory, few pixels read twice."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_semigda.engine import blocks, normalise, predict, tiles, view
from napari_semigda.engine.blocks import count_blocks, is_large, places
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.types import EngineError, Plane
from napari_semigda.formats import LazyImage


class Counted:
    """Pixels that are read by parts, and how many were at once and in all."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype, self.ndim = pixels, pixels.shape, pixels.dtype, pixels.ndim
        self.largest = self.total = 0

    def __getitem__(self, key):
        part = self.pixels[key]
        self.largest, self.total = max(self.largest, part.size), self.total + part.size
        return part

    def __array__(self, *_, **__):
        raise AssertionError("read whole")


def texture(height, width, seed=0):
    """Grains of all sizes, bright and dark, (H, W) uint8."""
    rng = np.random.default_rng(seed)
    grains = sum(gaussian_filter(rng.normal(size=(height, width)), s) * s for s in (1, 3, 8))
    return (115 + 45 * grains / grains.std()).clip(0, 255).astype(np.uint8)


@pytest.fixture
def predictor(tiny_run):
    return Predictor(tiny_run[2], "cpu")


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 pixels, pieces of 80, in strips of two blocks, so that a small picture has many of them."""
    monkeypatch.setattr(blocks, "SIDE", 64)
    monkeypatch.setattr(tiles, "SIDE", 64)
    monkeypatch.setattr(tiles, "_PICTURE_SIDE", 80)
    monkeypatch.setattr(tiles, "_BAND", 5000)
    monkeypatch.setattr(view, "_CACHE_BYTES", 0)
    monkeypatch.setattr(normalise, "_SAMPLE", 32)
    monkeypatch.setattr(tiles, "_KEPT_BYTES", 2 * 2 * 2 * 4 * 96**2 * 4 * 2)


def looked_at(predictor, monkeypatch, **changes):
    monkeypatch.setattr(predictor, "_view", replace(predictor._view, **changes))
    return predictor


@pytest.mark.parametrize(
    ("scale", "size"), [(1.0, (180, 230)), (0.7, (210, 230)), (1.6, (90, 100)), (1.0, (50, 200)), (0.2, (200, 230))]
)
def test_blocks_are_the_whole_without_seams(predictor, small_blocks, monkeypatch, scale, size):
    looked_at(predictor, monkeypatch, scale=scale)
    plane = Plane("p", texture(*size, seed=3))
    whole = predictor.predict(plane, probabilities=True)
    seen = np.zeros(size, int)
    for block in predictor.blocks(plane, probabilities=True):
        seen[block.place.area] += 1
        np.testing.assert_allclose(block.doubt, whole.doubt[block.place.area], atol=1e-4)
        np.testing.assert_allclose(block.probabilities, whole.probabilities[:, *block.place.area], atol=1e-4)
        assert np.mean(block.mask != whole.mask[block.place.area]) < 1e-3
    assert (seen == 1).all()
    assert 0.05 < whole.mask.mean() < 0.95  # there was something to go wrong


@pytest.fixture
def quick(predictor, monkeypatch):
    """A network that only thresholds, so that planes can be large."""

    def looking(model):
        def look(window):
            bright = (window.mean(1, keepdim=True) > 0).float()
            return torch.cat([1 - bright, bright] * 2, 1)

        return look

    monkeypatch.setattr(predict, "_looking", looking)
    return predictor


def test_memory_is_that_of_a_strip_and_hardly_a_pixel_is_read_twice(quick, small_blocks, monkeypatch):
    kept, forget = [], tiles.WindowSight.forget

    def watched(self, *place):
        kept.append(len(self._kept))
        forget(self, *place)

    monkeypatch.setattr(tiles.WindowSight, "forget", watched)
    most = {}
    for size in [(192, 256), (768, 256), (384, 512)]:
        image = Counted(texture(*size))
        middle = np.mean(np.percentile(image.pixels, normalise.PERCENTILES))  # between black and white
        tracemalloc.start()
        for block in quick.blocks(Plane("p", image)):
            rows, columns = block.place.area
            assert np.mean(block.mask == (image.pixels[rows, columns] > middle)) > 0.95
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        most[size] = max(kept), image.largest, peak
        assert image.total < 1.7 * image.pixels.size  # those at the border of two strips are
        kept.clear()
    (few, read, peak), *larger = most.values()
    assert few < 40
    assert all(k <= few + 2 and r <= read and p < 1.5 * peak + 2**18 for k, r, p in larger), most


@pytest.mark.parametrize("kind", ["dask", "zarr", "memmap", "whole file"])
def test_whatever_gives_parts_is_read_by_parts(quick, small_blocks, tmp_path, kind):
    import dask.array
    import zarr

    pixels = np.dstack([texture(150, 140, seed) for seed in range(3)])
    np.save(tmp_path / "a.npy", pixels)
    image = {
        "dask": lambda: dask.array.from_array(pixels, chunks=(50, 60, 3)),
        "zarr": lambda: zarr.array(pixels, chunks=(50, 60, 3)),
        "memmap": lambda: np.load(tmp_path / "a.npy", mmap_mode="r"),
        "whole file": lambda: LazyImage("a.jpg", pixels.shape, pixels.dtype, lambda: pixels),
    }[kind]()
    found = np.zeros(pixels.shape[:2], np.uint8)
    for block in quick.blocks(Plane("p", image)):
        found[block.place.area] = block.mask
    assert np.mean(found == (pixels.mean(-1) > 127.5)) > 0.999


def test_what_is_not_asked_for_is_not_read(quick, small_blocks):
    image = Counted(texture(512, 512))
    found = quick.blocks(Plane("p", image))
    assert next(found).place.number == 0
    assert image.total < image.pixels.size / 4
    image.total = 0
    (last,) = quick.blocks(Plane("p", image), done=set(range(63)))
    assert last.place.number == 63 == count_blocks(image.shape) - 1
    assert image.total < image.pixels.size / 4


def test_a_large_plane_is_predicted_in_blocks(predictor, small_blocks, monkeypatch):
    plane = Plane("p", texture(130, 140))
    whole = predictor.predict(plane, 3, probabilities=True)
    monkeypatch.setattr(blocks, "LARGE", 130 * 140 - 1)
    monkeypatch.setattr(normalise, "is_large", lambda size: False)  # the same black and white, which large ones sample
    pieces = predictor.predict(plane, 3, probabilities=True)
    assert whole.description is not None and pieces.description is None  # so it was the other way
    assert (pieces.index, pieces.name) == (3, "p")
    np.testing.assert_array_equal(pieces.mask, whole.mask)
    np.testing.assert_allclose(pieces.doubt, whole.doubt, atol=1e-5)
    np.testing.assert_allclose(pieces.probabilities, whole.probabilities, atol=1e-5)


def test_from_which_size_on():
    assert not is_large((4096, 4096)) and is_large((4096, 4097)) and is_large((4096, 4096), 1.1)
    assert not is_large((4096, 4096), 0.1)


def test_every_pixel_is_in_one_block():
    for size, columns in [((1100, 1500), 2), ((512, 512), 1), ((10, 3000), 9)]:
        seen, numbers = np.zeros(size, int), []
        for row in places(size, columns):
            assert len(row) <= columns
            for place in row:
                seen[place.area] += 1
                numbers.append(place.number)
        assert (seen == 1).all() and sorted(numbers) == list(range(count_blocks(size)))


def test_what_cannot_be_read_or_computed_is_told_of_the_plane(quick, small_blocks, monkeypatch):
    class Broken(Counted):
        def __getitem__(self, key):
            raise EngineError("slide.tif cannot be read.")

    with pytest.raises(EngineError, match="slide"):
        next(quick.blocks(Plane("p", Broken(texture(200, 200)))))

    def lost(area):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiles.ScaledPlane, "read", lambda self, area: lost(area))
    with pytest.raises(EngineError, match="big slide could not be predicted"):
        next(quick.blocks(Plane("big slide", texture(200, 200))))
