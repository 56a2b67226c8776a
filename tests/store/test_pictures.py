"""Small pictures of the images, kept beside the project."""

import os
import shutil

import numpy as np


def test_small_pictures_are_kept_until_their_image_changes_and_never_matter(painted, opened, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    kept = opened(painted).keeper.pictures
    assert kept.get(1) is None
    kept.put(1, pixels)
    (path,) = (painted / "semigda" / "pictures").iterdir()
    np.testing.assert_array_equal(kept.get(1), pixels)
    assert kept.get(0) is None
    os.utime(painted / "ax1.png", ns=(1, 1))  # perhaps another image by now
    assert kept.get(1) is None
    kept.put(1, pixels)
    assert kept.get(1) is not None and list(path.parent.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:40])
    assert kept.get(1) is None
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    kept.put(1, pixels)
    (painted / "ax1.png").unlink()
    kept.put(1, pixels)
    assert kept.get(1) is None
