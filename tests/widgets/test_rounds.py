"""What the docks show of the rounds."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_semigda.colours import class_colour
from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.findings import Findings, Painted
from napari_semigda.engine.metrics import Score
from napari_semigda.engine.types import Report, Settings
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.widgets.rounds import RoundsView


@pytest.fixture
def project():
    made = Project(ImageStack("scan", np.zeros((6, 20, 30), np.uint8)))
    made.update_masks(np.ones((6, 20, 30), np.uint8))
    made.name_classes({1: "<nucleus>", 2: "vessel"})
    yield made
    made.close()


def finish(project, *dice, kept=False):
    """One round: Dice of both classes on a few images."""
    job = project.snapshot(Settings())
    scores = {f"image {i}": {c: Score(d - c / 50, d, 3.0) for c in (1, 2)} for i, d in enumerate(dice)}
    by_image = dict(zip(scores, dice, strict=True))
    figures = {"dice": float(np.mean(dice)), "held_out": tuple(scores), "dice_by_image": by_image}
    findings = Findings(scores, painted={1: Painted(9000, 6), 2: Painted(9000, 6)})
    model = project.rounds.in_use.model if kept else job.request.out
    return project.finish(job.generation, Outcome(model, kept=kept), Report("done", findings=findings, **figures))


def test_a_change_too_small_for_two_digits_has_no_sign(project, qtbot):
    view = RoundsView()
    qtbot.addWidget(view)
    finish(project, 0.8, 0.82)
    finish(project, 0.797, 0.819)
    view.show_rounds(project)
    assert ">0.00&nbsp;<" in view.table.text()
    assert "−0.00" not in view.table.text()


def test_figures_verdict_curve_and_the_choice_of_a_round(project, qtbot):
    view = RoundsView()
    qtbot.addWidget(view)
    view.show_rounds(project)
    assert not view.isVisibleTo(None)

    finish(project, 0.8, 0.82, 0.84, 0.78, 0.8)
    view.show_rounds(project)
    assert "Round 1: held-out Dice 0.78 (95 % sure: 0.7" in view.sentence.text()
    assert "&lt;nucleus&gt;" in view.table.text() and "3.0 px" in view.table.text()
    assert not view.curve.isVisibleTo(view) and not view.choice.isVisibleTo(view)  # with one round there is no choice

    finish(project, 0.85, 0.86, 0.88, 0.86, 0.84)
    finish(project, 0.7, 0.7, 0.7, 0.7, 0.7, kept=True)
    view.show_rounds(project)
    assert view.sentence.text().startswith("This round is not better (Dice 0.67 after 0.83): keeping round 2.")
    assert "−0.16" in view.table.text()
    points, in_use = view.curve.value()
    assert ([point.number for point in points], in_use) == ([1, 2, 3], 2)
    assert (view.choice.isVisibleTo(view), view.choice.value()) == (True, 2)
    assert view.choice.box.itemText(0) == "Round 3: Dice 0.70"
    view.resize(300, 400)
    image = view.curve.grab().toImage()
    drawn = np.array([image.pixelColor(x, y).getRgb() for x in range(image.width()) for y in range(image.height())])
    for colour in (class_colour(1), class_colour(2)):  # a line for each class
        assert (np.abs(drawn[:, :3] - colour).max(1) < 40).sum() > 20

    with qtbot.waitSignal(view.choice.chosen) as chosen:
        QTest.keyClick(view.choice.box, Qt.Key.Key_Up)
    assert chosen.args == [3]
    project.rounds.use(project.rounds[2].standing.number)
    view.show_rounds(project)
    assert view.sentence.text().startswith("This round is not better (Dice 0.67 after 0.83): used all the same")
    assert view.choice.value() == 3


def test_a_round_with_more_classes_is_not_refused(project):
    """It finds what the one before cannot, and a class that is new is never as good as the old ones."""
    before = finish(project, 0.9).standing
    assert before.classes == (1, 2)
    again = Report("done", dice=0.5, held_out=("image 0",), findings=Findings(painted={1: 1, 2: 1, 3: 1}))
    assert not before.beats(before.of(before.model, again))
    same = Report("done", dice=0.5, held_out=("image 0",), findings=Findings(painted={1: 1, 2: 1}))
    assert before.beats(before.of(before.model, same))
    more = Report("done", dice=0.5, held_out=("image 0", "z"), dice_by_image={"image 0": 0.95, "z": 0.05})
    more = before.of(before.model, more)
    assert not before.beats(type(before)(more.model, 0.5, more.held_out, 0, (1, 2), more.dice_by_image))
