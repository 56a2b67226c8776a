"""The table of the Review dock: it follows the slider and leads it, sorts, and stays quick with a thousand images."""

import time

import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_semigda.engine.types import Prediction
from napari_semigda.review import ImageState
from napari_semigda.store import ProjectStore
from napari_semigda.widgets import review_table

from .conftest import click_row, column, discs, let_run, predict, shown, states, stroke, wait_for


def test_the_table_and_the_slider_follow_each_other(viewer, both):
    train, review = both
    wait_for(lambda: all(review.table.thumbnails.get(plane) for plane in range(4)))
    click_row(review, 2)
    assert shown(viewer) == 2
    QTest.keyClick(review.view, Qt.Key.Key_Down)
    assert shown(viewer) == 3
    QTest.keyClick(review.view, Qt.Key.Key_Home)
    assert shown(viewer) == 0
    viewer.dims.set_current_step(0, 1)
    assert review.view.currentIndex().row() == 1
    train.bridge.masks.brush_size = 10
    stroke(viewer, (30, 20), (30, 40))
    click_row(review, 1)
    QTest.keyClick(review.view, Qt.Key.Key_D)  # a key of the viewer, whoever has the focus
    let_run(0.2)
    assert states(review)[1] == "✓ verified"
    assert shown(viewer) == 1

    review.state_box.setCurrentIndex(review.state_box.findData(ImageState.UNLABELLED))
    assert column(review, review_table.NAME) == ["ax0.png", "ax2.png", "ax3.png"]
    assert not review.view.currentIndex().isValid()  # the image in view is not among them
    assert shown(viewer) == 1
    click_row(review, 1)
    assert shown(viewer) == 2


def test_a_click_on_a_head_sorts(viewer, both):
    train, review = both
    predict(train, [(24, 30, 4)], [(24, 30, 12)], [], [(24, 30, 8)])
    header = review.view.horizontalHeader()
    middle = header.sectionViewportPosition(review_table.DOUBT) + 10
    QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=header.rect().center().__class__(middle, 8))
    assert column(review, review_table.NAME) == ["ax1.png", "ax3.png", "ax0.png", "ax2.png"]
    assert review.order_box.currentText() == "Most doubtful"
    review.set_order("order")
    assert column(review, review_table.NAME) == [f"ax{number}.png" for number in range(4)]


def test_a_thousand_images_are_looked_through_without_waiting(viewer, make_dock, make_review, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    image = discs(1)[0][0]
    for number in range(1000):
        Image.fromarray(np.roll(image, number, 0)).save(folder / f"ax{number}.png", compress_level=0)
    ProjectStore.create(folder).close()
    train = make_dock()
    train.projects.open(folder)
    review = make_review(train)
    rng = np.random.default_rng(0)
    for plane in range(1000):
        doubt = np.full(image.shape, rng.uniform(0.2, 1), np.float32)
        look = rng.normal(0, 1, 152).astype(np.float32)
        train.bridge.show_prediction(Prediction(plane, f"ax{plane}.png", image // 128, doubt, description=look))
    let_run(0.3)
    assert review.counts.text() == "1000 images   0 verified   0 in progress"

    def seconds(action, times):
        taken = []
        for at in range(times):
            began = time.perf_counter()
            action(at)
            review.view.viewport().repaint()
            QApplication.processEvents()
            taken.append(time.perf_counter() - began)
        return float(np.median(taken))

    bar = review.view.verticalScrollBar()
    figures = {
        "scroll": seconds(lambda at: bar.setValue(bar.maximum() * at // 20), 20),
        "key down": seconds(lambda at: QTest.keyClick(review.view, Qt.Key.Key_Down), 10),
        "slider": seconds(lambda at: viewer.dims.set_current_step(0, 90 * at), 10),
        "next doubtful": seconds(lambda at: review.next_doubtful(), 5),
        "sort": seconds(lambda at: review.set_order(("suggested", "doubt")[at % 2]), 4),
    }
    print(figures)  # noqa: T201 - pytest -s
    assert all(figure < 0.2 for figure in figures.values()), figures
    assert len(review.table.thumbnails._kept) <= 400
