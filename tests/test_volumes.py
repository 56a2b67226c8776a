"""Volumes in a batch: slices steadied along z, in whatever file, and never across volumes or points in time."""

import json
import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import tifffile

from napari_semigda import batch as batch_module
from napari_semigda import cli, file_work
from napari_semigda.batch import check_batch, run_batch
from napari_semigda.engine.answers import prediction_from_json
from napari_semigda.engine.exchange import Job, PredictRequest, write_job
from napari_semigda.engine.jobs import Jobs
from napari_semigda.engine.types import BatchRequest, EngineError, Plane
from napari_semigda.formats import open_source
from napari_semigda.images import planes_of, read_mask
from napari_semigda.journal import FOLDER
from tests.fake_engine import FakePredictor
from tests.formats.conftest import dicom_file
from tests.formats.test_omezarr import save

SIZE = (24, 32)
LEFT = np.broadcast_to(np.arange(SIZE[1]) < 16, SIZE)
RIGHT = ~LEFT


class Counting(FakePredictor):
    """Remembers how often it looked at a slice."""

    def __init__(self, model):
        super().__init__(model)
        self.looks = 0

    def see(self, plane):
        self.looks += 1
        return super().see(plane)

    def predict(self, plane, index=0, probabilities=False):
        return self.decide(self.see(plane), plane, index, probabilities)

    def blocks(self, plane, done):
        raise AssertionError("smoothed slices are predicted whole")


def flickering(count=7, odd=3):
    """(Z, H, W) int16: bright on the left, but for one slice."""
    return np.stack([np.where(RIGHT if i == odd else LEFT, 900, 20) for i in range(count)]).astype(np.int16)


def nifti(folder, pixels, depth=1.0):
    """Save (Z, H, W), or (T, Z, H, W)."""
    order = (2, 3, 1, 0) if pixels.ndim == 4 else (1, 2, 0)
    image = nibabel.Nifti1Image(pixels.transpose(order), np.diag([0.8, 0.8, depth, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def dicom(folder, pixels, depth=1.0):
    for i, plane in enumerate(pixels):
        told = {"ImagePositionPatient": [0, 0, depth * i], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        dicom_file(folder / "scan" / f"{97 * (i + 1) % 13}.dcm", plane, PixelSpacing=[0.8, 0.8], **told)
    return folder / "scan"


def imagej(folder, pixels, depth=1.0, axes="ZYX"):
    told = {"axes": axes, "spacing": depth, "unit": "mm"}
    tifffile.imwrite(folder / "scan.tif", pixels, imagej=True, resolution=(1.25, 1.25), metadata=told)
    return folder / "scan.tif"


def pages(folder, pixels, depth=1.0):
    tifffile.imwrite(folder / "scan.tif", pixels, photometric="minisblack")
    return folder / "scan.tif"


def zarr(folder, pixels, depth=1.0):
    return save(folder / "scan.zarr", pixels, "zyx")  # 2 µm apart


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "m.semigda").write_text(json.dumps({"wish": "bright"}))
    return tmp_path


def run(folder, path, smooth=1.0, stop=lambda predictor: False, **changes):
    """Predict one file; the predictor, and the masks as they are read again."""
    predictor = Counting(folder / "m.semigda")
    request = BatchRequest(folder / "m.semigda", (path,), folder / "out", smooth=smooth, keep_going=False, **changes)
    list(run_batch(request, predictor, lambda: stop(predictor)))
    written = [each for each in (folder / "out").iterdir() if each.name.startswith("scan.")]
    return predictor, read_mask(written[0], open_source(path)) if written else []


@pytest.mark.parametrize(("make", "width"), [(nifti, 1), (dicom, 1), (imagej, 1), (pages, 1), (zarr, 2)])
def test_slices_are_steadied_in_every_kind_of_volume(folder, make, width):
    path = make(folder / "images", flickering())
    predictor, plain = run(folder, path, smooth=0.0)
    np.testing.assert_array_equal(plain, [RIGHT if i == 3 else LEFT for i in range(7)])
    predictor, masks = run(folder, path, smooth=width)
    np.testing.assert_array_equal(masks, [LEFT] * 7)
    assert predictor.looks == 7


@pytest.mark.parametrize("make", [nifti, dicom, imagej])
def test_thick_slices_are_left_alone(folder, make):
    _, masks = run(folder, make(folder / "images", flickering(), depth=5.0))
    np.testing.assert_array_equal(masks[3], RIGHT)


def test_volumes_of_one_scan_are_not_mixed(folder):
    """Two points in time, three slices each: the last slices of the first lie beside the first ones of the second."""
    pixels = np.stack([np.where(LEFT, 900, 20)] * 3 + [np.where(RIGHT, 900, 20)] * 3).astype(np.int16)
    path = nifti(folder / "images", pixels.reshape(2, 3, *SIZE))
    _, masks = run(folder, path, smooth=1.5)
    np.testing.assert_array_equal(masks, [LEFT] * 3 + [RIGHT] * 3)


@pytest.mark.parametrize(
    ("axes", "shape", "volumes"),
    [("TZYX", (2, 3), [0, 0, 0, 1, 1, 1]), ("ZYX", (6,), [0] * 6), ("TYX", (6,), None)],
)
@pytest.mark.parametrize("kind", ["tiff", "zarr"])
def test_which_planes_are_slices_of_a_volume(folder, kind, axes, shape, volumes):
    pixels = flickering(6).reshape(*shape, *SIZE)
    path = imagej(folder, pixels, axes=axes) if kind == "tiff" else save(folder / "scan.zarr", pixels, axes.lower())
    told = [plane.volume for plane in planes_of(open_source(path))]
    assert told == ([""] * 6 if volumes is None else [f"{path.name} {number}" for number in volumes])


def test_slices_that_do_not_follow_each_other_are_no_neighbours(folder):
    path = save(folder / "scan.zarr", flickering(6).reshape(3, 2, *SIZE), "ztyx")
    assert {plane.volume for plane in planes_of(open_source(path))} == {""}


def test_maps_come_from_what_was_smoothed(folder):
    path = nifti(folder / "images", flickering())
    _, masks = run(folder, path, maps=("probabilities", "uncertainty"))
    likely, doubt = (tifffile.imread(folder / "out" / f"scan_{kind}.tif") for kind in ("probabilities", "uncertainty"))
    np.testing.assert_array_equal(likely.argmax(1), masks)
    inside = likely[3, 1][LEFT]
    np.testing.assert_allclose(inside, inside[0])
    assert 0.5 < inside[0] < 0.65  # two fifths of the weight say no
    far, near = likely[0, 1][LEFT][0], likely[2, 1][LEFT][0]
    assert inside[0] < near < far == pytest.approx(0.95)
    np.testing.assert_allclose(doubt, 1 - np.abs(likely[:, 1] - likely[:, 0]), atol=1e-5)
    assert doubt[0][LEFT].max() == pytest.approx(0.1, abs=1e-5) and doubt[3][LEFT].min() > 0.7


def test_masks_of_another_smoothing_are_made_anew(folder):
    path = nifti(folder / "images", flickering())
    assert run(folder, path, smooth=1.0)[0].looks == 7
    assert run(folder, path, smooth=1.0)[0].looks == 0
    predictor, masks = run(folder, path, smooth=0.0)
    assert predictor.looks == 7
    np.testing.assert_array_equal(masks[3], RIGHT)
    note = folder / "out" / FOLDER / "scan.json"
    told = json.loads(note.read_text())
    del told["smooth"]  # as a version wrote it that knew of no smoothing
    note.write_text(json.dumps(told))
    assert run(folder, path, smooth=0.0)[0].looks == 0
    assert run(folder, path, smooth=0.5)[0].looks == 7


def test_a_large_volume_is_smoothed_block_by_block_and_gone_on_with(folder, monkeypatch):
    monkeypatch.setattr(file_work, "_MOST_MASKS", 100)
    path = zarr(folder / "images", flickering(12))
    begun, masks = run(folder, path, smooth=2, stop=lambda predictor: predictor.looks > 7)
    assert not masks and 7 < begun.looks < 12
    gone_on, masks = run(folder, path, smooth=2)
    np.testing.assert_array_equal(masks, [LEFT] * 12)
    assert gone_on.looks < 12
    shutil.rmtree(folder / "out")
    run(folder, path, smooth=2, stop=lambda predictor: predictor.looks > 7)
    assert run(folder, path, smooth=3)[0].looks == 12  # another width: from the start


@pytest.mark.parametrize(("width", "depth", "says"), [(-1.0, 1.0, "0 (off) or more"), (1.0, 0.01, "would mix 401")])
def test_what_cannot_be_smoothed_is_refused_before_anything_is_written(folder, width, depth, says):
    path = nifti(folder / "images", flickering(), depth=depth)
    with pytest.raises(EngineError) as caught:
        run(folder, path, smooth=width)
    assert says in str(caught.value)
    assert not (folder / "out").exists()
    if width < 0:
        with pytest.raises(EngineError):
            check_batch(BatchRequest(folder / "m.semigda", (path,), folder / "out", smooth=width))


def test_a_volume_in_the_viewer_is_steadied_from_the_slice_in_view_outwards(folder):
    planes = tuple(
        Plane(f"slice {i}", pixels, group="scan", volume="scan", depth=2.5) for i, pixels in enumerate(flickering(9))
    )
    request = PredictRequest(planes, folder / "m.semigda", "cpu", smooth=2.5)
    list(write_job(folder / "run", Job(request, 1, view=6)))
    predictors, said = [], []
    engine = SimpleNamespace(predictor=lambda model, device: predictors.append(Counting(model)) or predictors[-1])
    Jobs(engine, lambda **words: said.append(words)).do(folder / "run" / "request.json")
    found = [prediction_from_json(x, folder / "run" / "round-1") for x in said if x["kind"] == "prediction"]
    assert [each.index for each in found] == [6, 5, 7, 4, 8, 3, 2, 1, 0]
    np.testing.assert_array_equal([each.mask for each in found], [LEFT] * 9)
    assert predictors[0].looks == 9


def test_the_command_asks_for_it(folder, monkeypatch, capfd):
    path, asked = nifti(folder / "images", flickering()), []
    args = ["predict", "--model", folder / "m.semigda", "--images", path, "--out", folder / "out"]
    args = [str(arg) for arg in args]
    assert cli.run([*args, "--smooth-slices=-1"]) == 2
    assert capfd.readouterr().err == "The width to smooth between slices is -1: give 0 (off) or more.\n"

    def note(request):
        asked.append(request.smooth)
        raise EngineError("That is all.")

    monkeypatch.setattr(batch_module, "check_batch", note)
    assert cli.run(args) == cli.run([*args, "--smooth-slices", "2.5"]) == 2
    assert asked == [0.0, 2.5]
