"""Files whose masks come in block by block: written where they belong, stopped and gone on with, never half a file."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_semigda import file_work
from napari_semigda.batch import run_batch
from napari_semigda.engine import blocks
from napari_semigda.engine.blocks import Block, count_blocks, places
from napari_semigda.engine.types import BatchRequest, EngineError
from napari_semigda.formats import growing, is_image, open_source
from napari_semigda.images import find_images, read_mask
from napari_semigda.journal import FOLDER, Unfinished
from tests.fake_engine import FakePredictor
from tests.formats.test_omezarr import describe, labels_of

SIZE = (1100, 1300)  # 3 x 3 blocks


def scene(seed=0):
    """Smooth blobs, (1100, 1300) uint8: some bright, some dark."""
    coarse = np.random.default_rng(seed).choice([20, 60, 180, 220], (11, 13)).astype(np.uint8)
    return np.kron(coarse, np.ones((100, 100), np.uint8))


def save(path, pixels):
    """An OME-Zarr of one resolution, (z, y, x)."""
    group = zarr.open_group(path, mode="w")
    group.create_array("0", shape=pixels.shape, chunks=(1, 400, 400), dtype=pixels.dtype)[...] = pixels
    scale = [{"type": "scale", "scale": [2.0, 0.5, 0.25]}]
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    described = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    describe(group, {"multiscales": [described]})


class Blockwise(FakePredictor):
    """Thresholds block by block, and remembers which."""

    def __init__(self, folder):
        super().__init__(folder / "m.semigda")
        self.asked, self.whole = [], 0

    def predict(self, plane, index=0, probabilities=False):
        self.whole += 1
        return super().predict(plane, index, probabilities)

    def blocks(self, plane, done=(), probabilities=False, contrasts=()):
        for row in places(plane.size, 2):
            for place in row:
                if place.number not in done:
                    self.asked.append((plane.name, place.number))
                    mask = (np.asarray(plane.image[place.area]) > 127).astype(np.uint8)
                    yield Block(place, mask, mask.astype(np.float32))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiled TIFF of one page, and an OME-Zarr of two planes; both count as large here."""
    monkeypatch.setattr(blocks, "LARGE", 2**18)
    images = tmp_path / "images"
    images.mkdir()
    how = {"tile": (256, 256), "compression": "zlib", "resolution": (4000, 4000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(images / "1.tif", scene(), photometric="minisblack", **how)
    save(images / "2.ome.zarr", np.stack([scene(1), scene(2)]))
    (tmp_path / "m.semigda").write_text(json.dumps({"wish": "bright"}))
    return tmp_path


def batch(folder, predictor=None, stop=lambda: False, **changes):
    predictor = predictor or Blockwise(folder)
    request = BatchRequest(folder / "m.semigda", tuple(find_images([folder / "images"])), folder / "out", **changes)
    return predictor, list(run_batch(request, predictor, stop))


def left(folder):
    """Names in the output folder and in the journal."""
    out = folder / "out"
    return {path.name for each in (out, out / FOLDER) if each.is_dir() for path in each.iterdir()} - {FOLDER}


def masks_are_right(folder):
    np.testing.assert_array_equal(read_mask(folder / "out" / "1.tif")[0], scene() > 127)
    first, second = read_mask(folder / "out" / "2.ome.zarr", open_source(folder / "images" / "2.ome.zarr"))
    np.testing.assert_array_equal(first, scene(1) > 127)
    np.testing.assert_array_equal(second, scene(2) > 127)


@pytest.mark.parametrize("resume", [True, False])
def test_masks_where_other_programs_expect_them(folder, resume):
    predictor, reports = batch(folder, resume=resume)
    assert len(predictor.asked) == len(set(predictor.asked)) == 27 and predictor.whole == 0
    masks_are_right(folder)
    assert left(folder) == {"1.tif", "2.ome.zarr"} | ({"1.json", "2.json"} if resume else set())
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and len(set(fractions)) > 27 and fractions[-1] == 1
    with tifffile.TiffFile(folder / "out" / "1.tif") as tif:
        page = tif.pages.first
        assert page.is_tiled and page.compression != 1 and page.resolution == (4000, 4000)
        assert [level.shape for level in tif.series[0].levels] == [SIZE, (550, 650)]
        coarse = tif.series[0].levels[1].asarray()
    np.testing.assert_array_equal(coarse, (scene() > 127)[1::2, 1::2])
    _, first, arrays = labels_of(folder / "out" / "2.ome.zarr")
    assert [array.shape for array in arrays] == [(2, *SIZE), (2, 550, 650)]
    np.testing.assert_array_equal(arrays[1][1], (scene(2) > 127)[1::2, 1::2])
    assert first["datasets"][1]["coordinateTransformations"][0]["scale"] == [2.0, 1.0, 0.5]


@pytest.mark.parametrize("finished", [0, 1, 8, 9, 20])
def test_a_stopped_run_goes_on_within_the_file(folder, finished):
    predictor = Blockwise(folder)
    _, reports = batch(folder, predictor, lambda: len(predictor.asked) >= finished)
    assert len(predictor.asked) == finished
    assert reports[-1].done == (finished >= 9) < reports[-1].total
    assert {name for name in left(folder) if not name.endswith((".json", ".unfinished"))} == (
        {"1.tif"} if finished >= 9 else set()
    )
    again, reports = batch(folder)
    first = next(report for report in reports if report.remaining)
    assert first.fraction < 0.99 and first.remaining > first.elapsed  # what was done before tells nothing of the speed
    assert sorted(predictor.asked + again.asked) == sorted(set(predictor.asked + again.asked))  # every block once
    assert len(again.asked) == 27 - finished
    masks_are_right(folder)
    assert left(folder) == {"1.tif", "2.ome.zarr", "1.json", "2.json"}


def killed(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["mask", "notes", "coarsen", "describe"])
def test_a_killed_run_leaves_nothing_that_reads_as_whole(folder, monkeypatch, where):
    (folder / "images" / "1.tif").unlink()
    predictor = Blockwise(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        put, add = growing.MaskPlane.__setitem__, Unfinished.add

        def half(self, key, block):
            if len(predictor.asked) < 12:
                return put(self, key, block)
            put(self, (slice(key[0].start, key[0].start + 99), key[1]), block[:99])
            raise KeyboardInterrupt

        def torn(self, plane, mask, block):
            add(self, plane, mask, block)
            if len(predictor.asked) == 12:
                notes = self._notes.read_text()
                self._notes.write_text(notes[:-2])  # "1 2" is now "1 "
                raise KeyboardInterrupt

        if where == "mask":
            patch.setattr(growing.MaskPlane, "__setitem__", half)
        elif where == "notes":
            patch.setattr(Unfinished, "add", torn)
        else:
            patch.setattr(f"napari_semigda.formats.omezarr._{where}", killed)
        batch(folder, predictor)
    assert not (folder / "out" / "2.ome.zarr").exists()
    store = folder / "out" / FOLDER / "2.unfinished" / "masks"
    assert store.is_dir() and not is_image(store) and not is_image(store.parent)
    renamed = folder / "half.ome.zarr"
    store.rename(renamed)
    with pytest.raises(EngineError, match=r"half\.ome\.zarr"):
        open_source(renamed)
    renamed.rename(store)
    (store / "labels" / "masks" / "0.partial").touch()  # of a chunk that was being written
    again, _ = batch(folder)
    assert len(again.asked) == {"mask": 7, "notes": 7}.get(where, 0)
    first, second = read_mask(folder / "out" / "2.ome.zarr")
    np.testing.assert_array_equal(first, scene(1) > 127)
    np.testing.assert_array_equal(second, scene(2) > 127)
    assert left(folder) == {"2.ome.zarr", "2.json"} and not list((folder / "out").rglob("*.partial"))


def other_image(folder):
    tifffile.imwrite(folder / "images" / "1.tif", scene(7), photometric="minisblack")


def other_model(folder):
    (folder / "m.semigda").write_text(json.dumps({"wish": "dark"}))


def lose_store(folder):
    (folder / "out" / FOLDER / "1.unfinished" / "masks").rename(folder / "lost")


def damage_notes(folder):
    (folder / "out" / FOLDER / "1.unfinished" / "blocks").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("change", [other_image, other_model, lose_store, damage_notes])
def test_blocks_of_something_else_are_not_gone_on_with(folder, change):
    predictor = Blockwise(folder)
    batch(folder, predictor, lambda: len(predictor.asked) >= 5)
    change(folder)
    again, _ = batch(folder)
    assert len(again.asked) == 27
    expected = scene(7) if change is other_image else scene()
    np.testing.assert_array_equal(read_mask(folder / "out" / "1.tif")[0], expected > 127)


def test_without_resuming_an_interrupted_run_leaves_nothing(folder):
    predictor = Blockwise(folder)
    request = BatchRequest(folder / "m.semigda", (folder / "images" / "1.tif",), folder / "out", resume=False)
    run = run_batch(request, predictor)
    while len(predictor.asked) < 4:
        next(run)
    run.close()
    assert list((folder / "out").iterdir()) == []


def test_what_needs_the_image_whole_is_refused_for_it(folder, monkeypatch):
    monkeypatch.setattr(file_work, "_MOST_WHOLE", SIZE[0] * SIZE[1] - 1)
    with pytest.raises(EngineError, match=r"1\.tif is too large .* for overlays and measurements.*leave these out"):
        batch(folder, overlays=True, measurements=True, keep_going=False)
    assert not (folder / "out").exists()
    _, reports = batch(folder, maps=("uncertainty",))
    assert reports[-1].failures == 2 and "for uncertainty" in reports[0].failed[0]
    assert not list((folder / "out").glob("*.*r"))


def test_what_still_fits_has_its_overlays(folder):
    shutil.rmtree(folder / "images" / "2.ome.zarr")
    predictor, _ = batch(folder, overlays=True)
    assert predictor.whole == 1 and (folder / "out" / "overlays" / "1.png").is_file()
    np.testing.assert_array_equal(read_mask(folder / "out" / "1.tif")[0], scene() > 127)


def test_masks_of_somebody_are_kept(folder):
    batch(folder, keep_masks=True)
    store = zarr.open_group(folder / "out" / "2.ome.zarr")["labels/masks/0"]
    store[0, 5:9, 5:9] = 7
    other_model(folder)
    _, reports = batch(folder, keep_masks=True)
    assert reports[-1].failures == 1 and reports[-1].written == 1
    assert "2.ome.zarr was not made by a batch" in " ".join(s for report in reports for s in report.failed)
    assert store[0, 5, 5] == 7


def test_a_full_disk_is_told_and_the_blocks_so_far_are_kept(folder, monkeypatch):
    predictor, put = Blockwise(folder), growing.MaskPlane.__setitem__

    def full(self, key, block):
        if len(predictor.asked) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, key, block)

    with monkeypatch.context() as patch:
        patch.setattr(growing.MaskPlane, "__setitem__", full)
        with pytest.raises(EngineError, match=r"cannot be written \(No space left"):
            batch(folder, predictor)
    assert len(batch(folder)[0].asked) == 27 - 4


LAYOUTS = {
    "tiles": {"tile": (256, 128), "compression": "zlib"},
    "tiles of colours one after the other": {"tile": (256, 128), "compression": "zlib", "planarconfig": "separate"},
    "strips": {"rowsperstrip": 40, "compression": "zlib", "predictor": True},
    "bare": {},
    "bare and big-endian": {"byteorder": ">"},
}


@pytest.mark.parametrize(
    ("name", "colours"),
    [(name, colours) for name in LAYOUTS for colours in (False, True) if colours or "colours" not in name],
)
def test_parts_of_a_tiff_page(tmp_path, name, colours):
    how = dict(LAYOUTS[name])
    planar = how.get("planarconfig") == "separate"
    pixels = np.random.default_rng(0).integers(0, 60000, (2, *SIZE, *((3,) if colours else ()))).astype(np.uint16)
    file = np.moveaxis(pixels, -1, 1) if planar else pixels
    options = {"byteorder": how.pop("byteorder")} if "byteorder" in how else {}
    kind = "rgb" if colours else "minisblack"
    with tifffile.TiffWriter(tmp_path / "a.tif", **options) as writer:
        for page in file:
            writer.write(page, photometric=kind, **how)
    plane = open_source(tmp_path / "a.tif").planes[1]
    assert plane.by_parts
    for key in np.s_[200:700, 300:1290], np.s_[::37, ::41], np.s_[1090:], np.s_[5], np.s_[0:0, 3:9], np.s_[9:2:-1, 4]:
        found = plane[key]
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, pixels[1][key])
    if colours:
        np.testing.assert_array_equal(plane[3:5, 6:9, 1], pixels[1][3:5, 6:9, 1])


def test_a_part_reads_only_its_tiles(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), tile=(256, 256), compression="zlib", photometric="minisblack")
    plane, read = open_source(path).planes[0], []
    segment = tifffile.FileHandle.read

    def counted(self, size=-1, /):
        data = segment(self, size)
        read.append(len(data))
        return data

    with tifffile.TiffFile(path) as tif:
        counts = tif.pages.first.databytecounts
    monkeypatch.setattr(tifffile.FileHandle, "read", counted)
    np.testing.assert_array_equal(plane[300:400, 600:700], scene()[300:400, 600:700])
    assert sum(n in counts for n in read) <= 1 or sum(read) < sum(counts) / 4


def test_blocks_of_many_sizes_make_the_same_levels(tmp_path, monkeypatch):
    """A level far coarser than the one before is read in bands."""
    monkeypatch.setattr(growing, "_BAND", 5000)
    root = zarr.open_group(tmp_path / "a", mode="w")
    fine = growing.MaskPlane(root.create_array("0", shape=SIZE, chunks=(512, 512), dtype="uint8"), "yx")
    coarse = growing.MaskPlane(root.create_array("1", shape=(13, 11), chunks=(13, 11), dtype="uint8"), "xy")
    fine[:, :] = scene()
    growing.coarsen(fine, coarse)
    np.testing.assert_array_equal(np.asarray(coarse), scene()[50::100, 50::100])
    assert count_blocks(fine.shape) == 9 and not Path(tmp_path / "a" / "2").exists()
