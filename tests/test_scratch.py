"""Temporary folders end with their program, however that ends."""

import subprocess
import sys

from napari_semigda import scratch
from napari_semigda.scratch import Scratch

HOLD = """
import sys, time
from napari_semigda.scratch import Scratch
one, other = Scratch(), Scratch()
other.close()
(one.path / "image.npy").write_bytes(b"pixels")
print(one.path, flush=True)
time.sleep(60)
"""


def test_the_folder_of_a_killed_program_is_removed_by_the_next_and_one_in_use_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    other = tmp_path / "napari-semigda-of-another-kind"
    other.mkdir()
    program = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    folder = tmp_path / program.stdout.readline().strip().rpartition("/")[2]
    scratch.remove_left_over.cache_clear()
    mine = Scratch()
    assert (folder / "image.npy").exists()
    assert sorted(tmp_path.iterdir()) == sorted([folder, mine.path, other])
    program.kill()
    program.wait()
    program.stdout.close()
    scratch.remove_left_over.cache_clear()
    scratch.remove_left_over()
    assert sorted(tmp_path.iterdir()) == sorted([mine.path, other])
    mine.close()
    mine.close()
    assert list(tmp_path.iterdir()) == [other]


def test_a_folder_goes_with_what_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    made = Scratch()
    path = made.path
    assert path.parent == tmp_path
    del made
    assert not path.exists()
