"""Next doubtful: through the places of an image, then to the next image."""

import numpy as np
from qtpy.QtCore import Qt

from .conftest import predict, press, shown, states


def test_next_doubtful_goes_through_the_places_of_an_image_and_then_to_the_next_image(viewer, both, notifications):
    train, review = both
    press(viewer, Qt.Key.Key_N)
    assert "Nothing is predicted yet" in notifications[-1]
    notifications.clear()
    predict(train, [(2, 2, 6)], [(5, 5, 14), (50, 60, 8)], [(24, 30, 2)], [(20, 20, 10)])
    assert [review.project.review.doubt(plane) > 0 for plane in range(4)] == [True] * 4
    camera = viewer.scene.camera
    zoom = camera.zoom

    def goes_to(plane, row, col, within):
        press(viewer, Qt.Key.Key_N)
        assert shown(viewer) == plane
        assert np.hypot(camera.center[1] - row, camera.center[2] - col) < within

    review.skip()  # ax0: not wanted, on to the most doubtful one
    assert (shown(viewer), states(review)[0]) == (1, "skipped")
    assert np.hypot(camera.center[1] - 12, camera.center[2] - 12) < 7
    goes_to(1, 54, 64, 4)
    assert "ax1.png: place 2 of 2" in review.sentence.text()
    goes_to(3, 25, 25, 5)
    goes_to(2, 25, 31, 2)
    goes_to(1, 12, 12, 7)  # all seen: from the start
    press(viewer, Qt.Key.Key_A)
    goes_to(3, 25, 25, 5)  # dealt with
    assert camera.zoom == zoom
    viewer.dims.set_current_step(0, 2)
    goes_to(2, 25, 31, 2)  # from where the user is
    for plane in (2, 3):
        viewer.dims.set_current_step(0, plane)
        press(viewer, Qt.Key.Key_A)
    press(viewer, Qt.Key.Key_N)
    assert "Nothing is left to suggest" in notifications[-1]
