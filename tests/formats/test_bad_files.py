"""Files that are cut off, empty, missing or of no kind of ours are named in one sentence."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_semigda.formats import open_source
from tests.formats.conftest import noise, refused, save_nifti


def pictures(folder):
    """One file of each kind, incompressible, so that a cut always takes pixels away."""
    Image.fromarray(noise((60, 70))).save(folder / "a.png")
    Image.fromarray(noise((60, 70, 3))).save(folder / "a.jpg")
    tifffile.imwrite(folder / "a.tif", noise((5, 60, 70)))
    tifffile.imwrite(folder / "z.tif", noise((5, 60, 70)), compression="zlib")
    save_nifti(folder / "a.nii", noise((5, 60, 70)))
    save_nifti(folder / "a.nii.gz", noise((5, 60, 70)))


KINDS = ["a.png", "a.jpg", "a.tif", "z.tif", "a.nii", "a.nii.gz"]


def read_all(path):
    return [np.asarray(plane) for plane in open_source(path).planes]


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", KINDS)
def test_truncated_files_are_named(tmp_path, name, kept, caplog, capfd):
    pictures(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert name in refused(read_all, path)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records or all(record.levelno < logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("name", KINDS)
def test_empty_junk_and_missing_files_are_named(tmp_path, name):
    path = tmp_path / name
    sentence = refused(open_source, path)
    assert name in sentence and "not there" in sentence
    path.write_bytes(b"")
    sentence = refused(open_source, path)
    assert name in sentence and "zero bytes" in sentence
    path.write_text("this is no picture at all " * 40)
    assert name in refused(read_all, path)


def test_other_kinds_of_file(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt" in refused(open_source, tmp_path / "notes.txt")
