"""Planes that are put away: they come back as they were, few are in memory, and a full disk loses none."""

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest

from napari_semigda import spill
from napari_semigda.spill import SpilledStack


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of our own, and room for two planes in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spill, "KEPT_BYTES", 2 * 20 * 30)
    return tmp_path


def filled(shape=(2, 3, 20, 30)):
    stack, wanted = SpilledStack(shape), np.zeros(shape, np.uint8)
    rng = np.random.default_rng(0)
    for position in np.ndindex(shape[:-2]):
        if position != (1, 1):  # never written
            wanted[position] = rng.integers(0, 255, shape[-2:], np.uint8)
            stack.write(position, wanted[position])
    return stack, wanted


def test_it_is_the_array_that_was_written_with_few_planes_in_memory(temporary):
    stack, wanted = filled()
    assert (stack.shape, stack.ndim, stack.size, stack.dtype, len(stack)) == (wanted.shape, 4, wanted.size, np.uint8, 2)
    assert len(stack._near) == 2 and len(list(temporary.rglob("*.z"))) == 3
    for key in ((0, 1), (-1, 2), (1, 1), (1, 0, slice(3, 9), 4), (slice(None), 2), (..., 5), 1):
        np.testing.assert_array_equal(stack[key], wanted[key])
    np.testing.assert_array_equal(np.asarray(stack), wanted)
    assert len(stack._near) == 2
    with pytest.raises(ValueError, match="read-only"):
        stack[0, 1][:] = 1  # would be lost
    with pytest.raises(IndexError):
        stack[2, 0]


def test_what_is_written_anew_replaces_what_was_put_away(temporary):
    stack, wanted = filled()
    wanted[0, 0] = 0
    wanted[0, 0, :5, :6] = 7
    stack.write((0, 0), np.full((5, 6), 7))
    for position in np.ndindex(2, 3):  # all of them pass through memory
        np.testing.assert_array_equal(stack[position], wanted[position])
    np.testing.assert_array_equal(stack[0, 0], wanted[0, 0])


def test_a_single_image_is_a_stack_too(temporary):
    stack = SpilledStack((20, 30))
    stack.write((), np.ones((20, 30)))
    assert stack[2:4, 3].tolist() == [1, 1] and np.asarray(stack).all()


def test_a_disk_that_takes_nothing_loses_no_plane(temporary, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    stack, wanted = filled()
    np.testing.assert_array_equal(np.asarray(stack), wanted)


def test_its_folder_goes_with_it(temporary):
    stack, _ = filled()
    assert len(list(temporary.iterdir())) == 1
    del stack
    gc.collect()
    assert list(temporary.iterdir()) == []
