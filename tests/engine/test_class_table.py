"""Class numbers as painted, and as the network counts."""

import numpy as np
import pytest

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.types import Plane

MASK = np.array([[0, 7, 7], [200, 0, 7]], np.uint8)


def planes_with(*masks):
    image = np.zeros((2, 3), np.uint8)
    return [Plane(f"image {i}", image, mask) for i, mask in enumerate(masks)]


@pytest.mark.parametrize(("sparse", "ids"), [(False, (0, 7, 200)), (True, (7, 200))])
def test_classes_are_those_that_are_painted_anywhere(sparse, ids):
    table = ClassTable.of(planes_with(MASK, None, np.full((2, 3), 7, np.uint8)), sparse)
    assert table.ids == ids


def test_without_scribbles_what_nobody_painted_is_background():
    table = ClassTable.of(planes_with(np.zeros((2, 3), np.uint8)), sparse=False)
    assert table.ids == (0,)


@pytest.mark.parametrize("sparse", [False, True])
def test_numbers_come_back_as_they_were_painted(sparse):
    table = ClassTable.of(planes_with(MASK), sparse)
    indices, known = table.indices(MASK)
    assert np.array_equal(known, MASK > 0 if sparse else np.ones_like(MASK))
    assert np.array_equal(table.to_ids(indices)[known > 0], MASK[known > 0])


def test_enlarged_targets_know_where_nobody_painted():
    target = ClassTable.of(planes_with(MASK), sparse=True).target(MASK, (4, 6)).numpy()
    assert np.array_equal(target, np.kron([[-1, 0, 0], [1, -1, 0]], np.ones((2, 2))))
