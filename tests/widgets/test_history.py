"""Undo and redo over both docks: strokes, Accept and Verify in the order they were made, and not without end."""

import numpy as np
from qtpy.QtCore import Qt

from napari_semigda.widgets.history import MOST, History

from .conftest import CONTROL, SHIFT, let_run, predict, press, stroke


def test_strokes_accept_and_verify_are_taken_back_in_the_order_they_were_made(viewer, both):
    train, review = both
    predict(train, [], [], [], [])
    masks, marks = train.bridge.masks, train.bridge.project.review
    masks.brush_size = 8
    seen = [(masks.data.copy(), False)]

    def remember():
        let_run(0.2)
        seen.append((masks.data.copy(), marks.is_verified(0)))

    stroke(viewer, (50, 10), (50, 20))
    remember()
    press(viewer, Qt.Key.Key_A)
    remember()
    press(viewer, Qt.Key.Key_D)
    remember()
    stroke(viewer, (55, 40), (55, 50))  # the user's own hand may still change a verified image
    remember()
    press(viewer, Qt.Key.Key_D)
    remember()
    assert [verified for _, verified in seen] == [False, False, False, True, True, False]

    viewer.dims.set_current_step(0, 2)  # from wherever
    for data, verified in reversed(seen[:-1]):
        press(viewer, Qt.Key.Key_Z, CONTROL)
        np.testing.assert_array_equal(masks.data, data)
        assert marks.is_verified(0) is verified or not data[0].any()
    let_run(0.3)
    assert train.bridge.project.painted == ()  # strokes of an image out of view are noticed too
    for data, verified in seen[1:]:
        press(viewer, Qt.Key.Key_Z, CONTROL | SHIFT)
        let_run(0.2)
        np.testing.assert_array_equal(masks.data, data)
        assert marks.is_verified(0) is verified
    assert "is not verified any more" in review.sentence.text()


def test_what_was_done_long_ago_is_forgotten():
    """Each step holds what it replaced: in a day of painting that would be a mask for every Accept."""
    steps, taken_back = History(lambda _: None), []
    for number in range(MOST + 50):
        steps.add(lambda number=number: taken_back.append(number), lambda: None)
    for _ in range(2 * MOST):
        steps.undo()
    assert taken_back == list(range(MOST + 49, 49, -1))
