"""A folder through a model: whole files or none, stops, failures, and going on later. The model only thresholds."""

import csv
import errno
import json
import os
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.batch import check_batch, run_batch
from napari_semigda.engine.types import BatchRequest, EngineError
from napari_semigda.images import find_images, read_mask
from napari_semigda.journal import FOLDER
from napari_semigda.store import ProjectStore
from tests.fake_engine import FakePredictor

SIZE = (40, 48)


def square(row, column, side, value=200):
    """A dark picture with a bright square."""
    picture = np.full(SIZE, 20, np.uint8)
    picture[row : row + side, column : column + side] = value
    return picture


class Counting(FakePredictor):
    """Remembers what it was asked."""

    def __init__(self, model):
        super().__init__(model)
        self.asked = []

    def predict(self, plane, index=0, probabilities=False):
        self.asked.append(plane.name)
        return super().predict(plane, index, probabilities)


@pytest.fixture
def folder(tmp_path):
    """Two pictures, a stack of three pages, a volume with spacing, and a model."""
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(square(4, 4, 10)).save(images / "1.png")
    Image.fromarray(np.dstack([square(8, 8, 8)] * 3)).save(images / "2.jpg")  # whole blocks: no ringing
    tifffile.imwrite(images / "3.tif", np.stack([square(4, 4 * i, 8) for i in (1, 2, 3)]), photometric="minisblack")
    volume = np.stack([square(5, 5, 12), square(6, 6, 4)], -1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.5, 0.5, 3, 1])), images / "4.nii.gz")
    (tmp_path / "m.semigda").write_text(json.dumps({"wish": "square"}))
    return tmp_path


def request_for(folder, **changes):
    images = tuple(find_images([folder / "images"]))
    return BatchRequest(folder / "m.semigda", images, folder / "out", **changes)


def batch(folder, stop=lambda: False, **changes):
    """Run to the end; return the predictor and the reports."""
    predictor = Counting(folder / "m.semigda")
    return predictor, list(run_batch(request_for(folder, **changes), predictor, stop))


def written(folder):
    """Everything in the output folder but the journal, by relative path."""
    out = folder / "out"
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    return {name for name in files if not name.startswith(FOLDER)}


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


MASKS = {"1.png", "2.png", "3.tif", "4.nii.gz"}
OVERLAYS = {"1.png", "2.png", "3/001.png", "3/002.png", "3/003.png", "4/001.png", "4/002.png"}


def test_everything_that_can_be_asked_for(folder):
    predictor, reports = batch(folder, overlays=True, measurements=True)
    assert written(folder) == MASKS | {f"overlays/{name}" for name in OVERLAYS} | {"measurements.csv", "totals.csv"}
    assert len(predictor.asked) == 7
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert (reports[-1].done, reports[-1].total, reports[-1].written) == (4, 4, 4)
    assert reports[0].remaining > 0 and reports[-1].remaining == 0

    rows = {(row["file"], row["plane"]): row for row in table(folder / "out" / "measurements.csv")}
    assert len(rows) == 7
    grey, coloured, volume = rows["1.png", "1"], rows["2.jpg", "1"], rows["4.nii.gz", "2"]
    assert (float(grey["area_px"]), grey["area_mm2"], grey["class_name"]) == (100, "", "square")
    assert (float(grey["intensity_mean"]), grey["intensity_mean_red"]) == (200, "")
    assert coloured["intensity_mean"] == "" and float(coloured["intensity_mean_green"]) == pytest.approx(200, abs=10)
    assert float(volume["area_px"]) == 16 and float(volume["area_mm2"]) == 4
    assert float(volume["perimeter_mm"]) == pytest.approx(4 * 3 * 0.5)
    assert (float(volume["centroid_row_px"]), float(volume["centroid_row_mm"])) == (7.5, 3.75)

    totals = {row["file"]: row for row in table(folder / "out" / "totals.csv")}
    assert (totals["3.tif"]["planes"], totals["3.tif"]["objects"], totals["3.tif"]["area_px"]) == ("3", "3", "192")
    assert float(totals["4.nii.gz"]["area_mm2"]) == (144 + 16) / 4
    assert float(totals["1.png"]["area_percent"]) == pytest.approx(100 * 100 / (40 * 48))


def test_overlays_show_the_image_they_belong_to(folder):
    batch(folder, overlays=True)
    picture = np.asarray(Image.open(folder / "out" / "overlays" / "3" / "002.png"))
    assert picture.shape == (*SIZE, 3)
    coloured = np.ptp(picture, axis=-1) > 0
    np.testing.assert_array_equal(coloured, read_mask(folder / "out" / "3.tif")[1] > 0)


def stop_after(predictions, predictor):
    return lambda: len(predictor.asked) >= predictions


@pytest.mark.parametrize("planes", [0, 1, 3, 6])
def test_a_stop_leaves_whole_files_and_the_next_run_does_the_rest(folder, planes):
    predictor = Counting(folder / "m.semigda")
    request = request_for(folder, overlays=True, measurements=True)
    *_, last = run_batch(request, predictor, stop_after(planes, predictor))
    finished = {0: 0, 1: 1, 3: 2, 6: 3}[planes]  # 1, 1, 3 and 2 planes a file
    assert len(predictor.asked) == planes
    assert (last.done, last.total) == (finished, 4)
    names = sorted(MASKS)[:finished]
    assert written(folder) & MASKS == set(names)
    assert {name.split("/")[1].split(".")[0] for name in written(folder) if "overlays" in name} == {
        name[0] for name in names
    }
    assert len(table(folder / "out" / "totals.csv")) == finished

    again = Counting(folder / "m.semigda")
    *_, last = run_batch(request, again)
    assert len(again.asked) == 7 - sum((1, 1, 3, 2)[:finished])
    assert (last.done, last.before, last.written) == (4, finished, 4 - finished)
    assert len(table(folder / "out" / "measurements.csv")) == 7
    assert [row["file"] for row in table(folder / "out" / "totals.csv")] == ["1.png", "2.jpg", "3.tif", "4.nii.gz"]


def change_image(folder):
    Image.fromarray(square(4, 4, 12)).save(folder / "images" / "1.png")


def lose_mask(folder):
    (folder / "out" / "1.png").unlink()


def damage_note(folder):
    note = folder / "out" / FOLDER / "1.json"
    note.write_text(note.read_text()[:-20])


def replace_note(folder):
    (folder / "out" / FOLDER / "1.json").write_text("[1]")


@pytest.mark.parametrize("change", [change_image, lose_mask, damage_note, replace_note])
def test_a_file_is_done_again_when_it_is_not_what_was_noted(folder, change):
    batch(folder, measurements=True)
    change(folder)
    predictor, _ = batch(folder, measurements=True)
    assert predictor.asked == ["1.png"]
    area = float(table(folder / "out" / "measurements.csv")[0]["area_px"])
    assert area == (144 if change is change_image else 100)
    assert np.count_nonzero(read_mask(folder / "out" / "1.png")[0]) == area


def test_all_are_done_again_for_another_model_or_more_outputs(folder):
    assert len(batch(folder)[0].asked) == 7
    assert batch(folder)[0].asked == []
    assert len(batch(folder, overlays=True)[0].asked) == 7
    assert batch(folder)[0].asked == []  # less than was done
    (folder / "m.semigda").write_text(json.dumps({"wish": "other"}))
    assert len(batch(folder)[0].asked) == 7
    os.utime(folder / "images" / "1.png")  # touched, not changed
    assert batch(folder)[0].asked == []


def test_without_resuming_nothing_is_noted_and_everything_done(folder):
    batch(folder, resume=False, measurements=True)
    assert not (folder / "out" / FOLDER).exists()
    assert len(table(folder / "out" / "measurements.csv")) == 7
    assert len(batch(folder, resume=False)[0].asked) == 7


def test_files_that_fail_are_told_and_passed_over(folder):
    (folder / "images" / "2.jpg").write_bytes(b"nothing")
    tifffile.imwrite(folder / "images" / "5.tif", np.full(SIZE, np.nan, np.float32))
    _, reports = batch(folder, measurements=True)
    sentences = [sentence for report in reports for sentence in report.failed]
    assert len(sentences) == reports[-1].failures == 2
    assert "2.jpg cannot be read" in sentences[0] and "5.tif" in sentences[1] and "NaN" in sentences[1]
    assert written(folder) == (MASKS - {"2.png"}) | {"measurements.csv", "totals.csv"}
    assert (reports[-1].done, reports[-1].written) == (5, 3)
    Image.fromarray(square(8, 8, 6)).save(folder / "images" / "2.jpg")  # put right
    predictor, reports = batch(folder, measurements=True)
    assert predictor.asked == ["2.jpg"] and reports[-1].failures == 1


def test_what_nobody_foresaw_costs_one_file(folder):
    class Odd(Counting):
        def predict(self, plane, index=0, probabilities=False):
            if plane.name.startswith("3.tif"):
                raise ValueError("operands could not be broadcast")
            return super().predict(plane, index, probabilities)

    reports = list(run_batch(request_for(folder), Odd(folder / "m.semigda")))
    assert reports[-1].failures == 1 and reports[-1].done == 4
    (sentence,) = [sentence for report in reports for sentence in report.failed]
    assert "3.tif could not be finished (ValueError: operands" in sentence
    assert written(folder) == MASKS - {"3.tif"}


def test_one_bad_image_refuses_all_unless_it_shall_keep_going(folder):
    (folder / "images" / "4.nii.gz").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"4\.nii\.gz"):
        batch(folder, keep_going=False)
    assert not (folder / "out").exists()


def test_a_full_disk_ends_the_run(folder, monkeypatch):
    write = Image.Image.save

    def full(self, file, *args, **options):
        if "2.png" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, file, *args, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(EngineError, match=r"2\.png cannot be written \(No space left"):
        batch(folder)
    assert written(folder) == {"1.png"}
    monkeypatch.undo()
    assert len(batch(folder)[0].asked) == 6


def test_nothing_half_written_when_the_run_breaks_off(folder):
    predictor = Counting(folder / "m.semigda")
    run = run_batch(request_for(folder, overlays=True, maps=("uncertainty",)), predictor)
    while len(predictor.asked) < 4:  # the second of three pages
        next(run)
    run.close()
    assert written(folder) == {f"{kind}.png" for kind in ("1", "2", "overlays/1", "overlays/2")} | {
        "1_uncertainty.tif",
        "2_uncertainty.tif",
    }


def test_images_are_never_written_over(folder):
    request = request_for(folder)
    with pytest.raises(EngineError, match="would replace the image"):
        check_batch(BatchRequest(request.model, request.images, folder / "images"))
    (folder / "out" / "overlays").mkdir(parents=True)
    inside = folder / "out" / "overlays" / "1.png"
    Image.fromarray(square(1, 1, 5)).save(inside)
    with pytest.raises(EngineError, match="would replace the image"):
        check_batch(BatchRequest(request.model, (inside,), folder / "out", overlays=True))


def test_masks_of_somebody_are_kept(folder):
    """Painted by hand, or corrected after a run: not replaced by another model, and said."""
    (folder / "out").mkdir()
    painted = np.zeros(SIZE, np.uint8)
    painted[20:22] = 1
    Image.fromarray(painted).save(folder / "out" / "1.png")
    _, reports = batch(folder, keep_masks=True)
    assert reports[-1].failures == 1 and "1.png was not made by a batch" in reports[0].failed[0]
    Image.fromarray(painted).save(folder / "out" / "2.png")
    (folder / "m.semigda").write_text(json.dumps({"wish": "other"}))
    _, reports = batch(folder, keep_masks=True)
    assert reports[-1].failures == 2 and reports[-1].written == 2
    for name in ("1.png", "2.png"):
        np.testing.assert_array_equal(read_mask(folder / "out" / name)[0], painted)
    (folder / "out" / "1.png").unlink()
    assert batch(folder, keep_masks=True)[1][-1].written == 1


def test_a_mask_of_a_run_that_was_killed_is_known_for_ours(folder, monkeypatch):
    """Killed between the mask and the note that it is finished, twice, the second time with another model."""

    def killed(*_):
        raise KeyboardInterrupt

    for wish in ("square", "other"):
        (folder / "m.semigda").write_text(json.dumps({"wish": wish}))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("napari_semigda.journal.Journal.add", killed)
            batch(folder, keep_masks=True)
        assert written(folder) == {"1.png"}
    assert batch(folder, keep_masks=True)[1][-1].written == 4


def test_nothing_is_written_among_the_masks_of_a_project(folder):
    ProjectStore.create(folder / "images").close()
    masks = folder / "images" / "semigda" / "masks"
    with pytest.raises(EngineError, match="belongs to a project"):
        list(run_batch(replace(request_for(folder), out=masks), FakePredictor(folder / "m.semigda")))
    assert not masks.exists() or not list(masks.iterdir())
