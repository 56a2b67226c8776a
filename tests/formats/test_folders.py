"""Images that are folders go through batches and evaluation like files: whole, once, and never written to."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import zarr
from PIL import Image

from napari_semigda.batch import run_batch
from napari_semigda.engine.types import BatchRequest
from napari_semigda.evaluation import evaluate_folders
from napari_semigda.formats import is_image
from napari_semigda.formats.fingerprint import contents
from napari_semigda.images import find_images, labelled_planes, read_mask
from tests.fake_engine import FakePredictor
from tests.formats.conftest import CORONAL, dicom_series
from tests.formats.test_omezarr import save


@pytest.fixture
def folder(tmp_path):
    """A DICOM series, an OME-Zarr, and a model."""
    dicom_series(tmp_path / "images" / "ct", count=3, shape=(32, 40), orientation=CORONAL)
    pixels = np.zeros((2, 40, 50), np.uint8)
    pixels[:, 4:14, 6:26] = 200
    save(tmp_path / "images" / "slide.ome.zarr", pixels, "zyx")
    (tmp_path / "m.semigda").write_text(json.dumps({"wish": "square"}))
    return tmp_path


def batch(folder, **changes):
    request = BatchRequest(folder / "m.semigda", tuple(find_images([folder / "images"])), folder / "out", **changes)
    return list(run_batch(request, FakePredictor(folder / "m.semigda")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_what_is_no_file_is_passed_over_without_waiting_for_it(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    assert find_images([tmp_path]) == [tmp_path / "a.png"]


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="only on Linux")
@pytest.mark.timeout(20)
def test_what_linux_shows_of_itself_is_no_series():
    assert not is_image(Path("/proc"))


def test_a_batch_over_folders(folder):
    before = [b"".join(contents(path)) for path in find_images([folder / "images"])]
    last = batch(folder, measurements=True, resume=True, keep_masks=True, overlays=True)[-1]
    assert (last.done, last.failures) == (2, 0)
    out = folder / "out"
    mask = sitk.ReadImage(out / "ct.nii.gz")
    assert mask.GetSize() == (40, 32, 3) and mask.GetSpacing() == pytest.approx((0.5, 0.7, 2.5))
    assert zarr.open_group(out / "slide.ome.zarr")["labels/masks/0"][1, 4:14, 6:26].all()
    with (out / "totals.csv").open(newline="") as file:
        slide = next(row for row in csv.DictReader(file) if row["file"] == "slide.ome.zarr")
    assert float(slide["area_um2"]) == 2 * 10 * 20 * 0.5 * 0.25
    assert [b"".join(contents(path)) for path in find_images([folder / "images"])] == before

    assert batch(folder, measurements=True, resume=True, keep_masks=True)[-1].before == 2
    zarr.open_group(folder / "images" / "slide.ome.zarr")["s0"][1, 30:33, 30:33] = 199
    last = batch(folder, measurements=True, resume=True, keep_masks=True)[-1]
    assert (last.before, last.failures) == (1, 0)
    assert zarr.open_group(out / "slide.ome.zarr")["labels/masks/0"][1, 30:33, 30:33].all()


def test_masks_corrected_by_hand_are_kept(folder):
    batch(folder, resume=True, keep_masks=True)
    masks = zarr.open_group(folder / "out" / "slide.ome.zarr")["labels/masks/0"]
    masks[0, 0, 0] = 1
    (folder / "m.semigda").write_text(json.dumps({"wish": "square", "again": True}))
    last = batch(folder, resume=True, keep_masks=True, keep_going=True)[-1]
    assert last.failures == 1 and masks[0, 0, 0] == 1


def test_what_a_batch_writes_is_a_mask_and_a_prediction(folder):
    batch(folder)
    planes, warnings = labelled_planes(folder / "images", folder / "out")
    assert len(planes) == 5 and not warnings
    assert sum(plane.mask is not None for plane in planes) >= 2
    result = evaluate_folders(folder / "out", folder / "out")
    assert result.images == 5
    turned = sitk.Flip(sitk.PermuteAxes(sitk.ReadImage(folder / "out" / "ct.nii.gz"), [1, 2, 0]), [True, False, False])
    (folder / "turned").mkdir()
    sitk.WriteImage(turned, folder / "turned" / "ct.nii.gz")
    assert evaluate_folders(folder / "turned", folder / "out").by_class.keys() == result.by_class.keys()
    assert read_mask(folder / "turned" / "ct.nii.gz")[0].shape != read_mask(folder / "out" / "ct.nii.gz")[0].shape
