"""What a DICOM file says of a person reaches no file of ours: every byte of every one is looked through."""

import gzip
import zlib

import numpy as np

from napari_semigda.cli import run
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Settings, TrainRequest
from napari_semigda.formats import open_source, write_masks
from napari_semigda.images import labelled_planes
from napari_semigda.store import ProjectStore
from tests.engine.conftest import draw_discs
from tests.formats.conftest import PATIENT, dicom_file

UNPACKERS = (bytes, gzip.decompress, zlib.decompress)


def told_of(folder):
    """Which files of a folder hold what the scans say of the patient, as they are or unpacked."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        for unpack in UNPACKERS:
            try:
                content = unpack(path.read_bytes())
            except (OSError, zlib.error, EOFError):
                continue
            words = [word for word in PATIENT for code in ("utf-8", "utf-16-le") if word.encode(code) in content]
            found += [(path.name, word) for word in words]
    return found


def test_nobody_can_tell_who_was_scanned(tiny_run, tmp_path, capfd):
    scans, masks, out = (tmp_path / name for name in ("scans", "masks", "out"))
    for number in range(3):
        picture, mask = draw_discs(number)
        path = dicom_file(scans / f"{number}.dcm", picture, SeriesInstanceUID=f"1.2.{number}", RescaleSlope="1")
        if number < 2:
            write_masks(open_source(path), masks, [mask])
    assert told_of(scans)  # it is there, and this would find it

    planes, _ = labelled_planes(scans, masks)
    out.mkdir()
    list(Trainer().fit(TrainRequest(planes, out / "scans.semigda", Settings(max_steps=2, crop=64, batch=2))))
    asked = ["--overlays", "--measurements", "--probabilities", "--uncertainty"]
    arguments = ["predict", "--model", str(tiny_run[2]), "--images", str(scans), "--out", str(out), *asked]
    assert run(arguments) == 0
    assert run(["evaluate", "--predictions", str(masks), "--truth", str(masks)]) == 0
    store = ProjectStore.create(scans)
    store.save_masks([0], {0: np.ones((64, 72), np.uint8)})
    store.pictures.put(0, np.zeros((8, 8, 3), np.uint8))
    assert store.close()
    for path in scans.glob("*.dcm"):
        path.unlink()
    made = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert {".semigda", ".gz", ".tif", ".csv", ".png", ".json"} <= made
    assert told_of(tmp_path) == []
    said = "".join(capfd.readouterr())
    assert said and not [word for word in PATIENT if word in said]


def test_a_damaged_scan_is_refused_without_a_name(tmp_path):
    """Whatever is broken in it: pydicom quotes from what it cannot read."""
    path = dicom_file(tmp_path / "a.dcm", draw_discs(0)[0])
    whole, random, refusals = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        data = bytearray(whole)
        at = int(random.integers(132, 900))
        data[at : at + 4] = random.bytes(4)
        path.write_bytes(data)
        try:
            np.asarray(open_source(path).planes[0])
        except EngineError as error:
            refusals += 1
            assert not [word for word in PATIENT if word in str(error)]
    assert refusals > 10
