"""Classes: how lists of them change, what a user does to them, and that names and colours are the same everywhere."""

import json
from itertools import combinations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit, QMessageBox
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.io import imsave

from napari_semigda import classes as lists
from napari_semigda.classes import PaintClass, first_classes, named
from napari_semigda.colours import class_colour, class_hex, colour_names, rgb
from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.header import class_colours, class_names
from napari_semigda.engine.types import EngineError, Prediction, Report, Settings, TrainRequest
from napari_semigda.measurements import measure, total
from napari_semigda.overlays import overlay
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore, painted_how
from napari_semigda.widgets import class_words
from napari_semigda.widgets.class_edits import ClassEdits
from napari_semigda.widgets.classes import ClassPicker
from napari_semigda.widgets.layers import LayerBridge
from napari_semigda.widgets.style import ClassNote, StyleChoice

from .conftest import discs, let_run, press, stroke, wait_for

CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
TWO = named({1: "nucleus", 2: "rim"})

# Linear RGB as protan, deutan and tritan eyes see it (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


# Lists ----------------------------------------------------------------------------------------------------------------


def seen_by(matrix, count):
    """CIELAB of the first colours, and of black."""
    colours = np.array([class_colour(number) for number in range(1, count + 1)] + [(0, 0, 0)]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(matrix).T).clip(0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_apart_for_every_eye_and_from_black(eyes):
    for count, least in ((7, 10), (17, 6), (24, 4), (32, 2.3)):  # 2.3 is what can just be told apart
        lab = seen_by(EYES[eyes], count)
        assert min(deltaE_ciede2000(a, b) for a, b in combinations(lab[:-1], 2)) > least
        assert min(deltaE_ciede2000(each, lab[-1]) for each in lab[:-1]) > 20


def test_a_new_class_takes_a_number_and_a_colour_that_mean_nothing_else():
    classes = lists.recolour(TWO, 1, class_hex(3))
    more, new = lists.add(classes, taken={3})
    assert (new.number, new.name, more[:2]) == (4, "class 4", classes)
    assert new.colour == class_hex(4)
    _, new = lists.add(classes)
    assert (new.number, new.colour) == (3, class_hex(1))  # its own colour is taken
    _, named_alike = lists.add(TWO, "rim")
    assert named_alike.name == "rim (2)"
    full = named({n: str(n) for n in range(1, 33)})
    with pytest.raises(EngineError, match="32 classes, which is the most"):
        lists.add(full)


def test_classes_are_renamed_recoloured_moved_and_deleted():
    three, _ = lists.add(TWO)
    assert [each.name for each in lists.rename(three, 2, "  cell \n wall ")] == ["nucleus", "cell wall", "class 3"]
    assert lists.rename(three, 2, " ")[1].name == "class 2"
    with pytest.raises(EngineError, match="a class called nucleus already"):
        lists.rename(three, 2, "nucleus")
    exchanged = lists.recolour(TWO, 1, class_hex(2))
    assert [each.colour for each in exchanged] == [class_hex(2), class_hex(1)]
    order = lambda classes: [each.number for each in classes]  # noqa: E731
    assert order(lists.move(three, 3, -1)) == [1, 3, 2]
    assert order(lists.move(three, 1, -1)) == [1, 2, 3]
    assert order(lists.move(three, 1, 9)) == [2, 3, 1]
    assert order(lists.without(three, 2)) == [1, 3]
    with pytest.raises(EngineError, match="the only class"):
        lists.without(first_classes(), 1)


def test_painted_numbers_get_classes_at_the_end_and_names_of_the_user_stay():
    moved = lists.move(TWO, 2, -1)
    found = lists.with_found(moved, {1, 2, 7, 300}, {"1": "from a file", "5": "vessel"})
    assert {each.number: each.name for each in found} == {2: "rim", 1: "nucleus", 5: "vessel", 7: "class 7"}
    assert [each.number for each in found] == [2, 1, 5, 7]


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_project_keeps_names_colours_order_and_style(tmp_path):
    imsave(tmp_path / "a.png", discs()[0][0], check_contrast=False)
    store = ProjectStore.create(tmp_path)
    project = Project(ImageStack("a", store.images), keeper=store)
    classes = lists.recolour(lists.move(TWO, 2, -1), 1, "#d55e00")
    project.set_classes(classes, scribbles=True)
    project.close()
    content = json.loads((tmp_path / "semigda" / "project.json").read_text())
    assert content["classes"][1] == {"id": 1, "name": "nucleus", "colour": "#d55e00"}
    again = ProjectStore.open(tmp_path)
    assert (again.classes, again.scribbles) == (classes, True)
    again.close()
    assert painted_how(tmp_path / "semigda" / "masks") == (classes, True)  # for `semigda train`
    assert painted_how(tmp_path) == ((), False)

    del content["scribbles"]  # as older versions wrote it
    (tmp_path / "semigda" / "project.json").write_text(json.dumps(content))
    older = ProjectStore.open(tmp_path)
    assert (older.classes, older.scribbles) == (classes, False)
    older.close()


def test_a_header_gives_names_in_the_users_order_and_colours_it_can_trust():
    entries = [{"id": 0, "name": "background"}, {"id": 1, "name": "a"}, {"id": 2, "name": "b", "colour": "#d55e00"}]
    header = {"classes": entries, "class_order": [2, 1, 9]}
    assert list(class_names(header).items()) == [(0, "background"), (2, "b"), (1, "a")]
    assert class_colours(header) == {1: class_hex(1), 2: "#d55e00"}
    older = {"classes": [{"id": 0, "name": "background"}, {"id": 3, "name": "c"}]}
    assert class_names(older) == {0: "background", 3: "c"}
    assert class_colours(older) == {3: class_hex(3)}
    assert class_colours({"classes": [{"id": 1, "name": "x", "colour": "url(evil)"}]}) == {1: class_hex(1)}
    assert lists.of_model(header) == (PaintClass(2, "b", "#d55e00"), PaintClass(1, "a", class_hex(1)))


def test_overlays_and_totals_follow_the_model():
    mask = np.zeros((9, 9), np.uint8)
    mask[2:4], mask[6:8] = 1, 2
    picture = overlay(np.zeros((9, 9, 3), np.uint8), mask, {1: "#0072b2"})
    np.testing.assert_array_equal(picture[2, 4], rgb("#0072b2"))
    np.testing.assert_array_equal(picture[6, 4], class_colour(2))
    names = {0: "background", 2: "rim", 1: "nucleus"}
    rows = [{"plane": 1} | row for row in measure(mask, mask, names)]
    assert [row["class_name"] for row in total(rows, names, 81, 1)] == ["rim", "nucleus"]


def test_a_model_of_other_classes_or_style_is_not_gone_on_from(monkeypatch):
    project = Project(ImageStack("x", discs()[0]))
    project.set_classes(TWO)
    header = {"classes": [{"id": number, "name": ""} for number in (0, 1, 2)], "sparse": False}
    monkeypatch.setattr("napari_semigda.classes.read_header", lambda path: header)
    project.update_masks(discs()[1])
    job = project.snapshot(Settings())
    project.finish(job.generation, Outcome(job.request.out), Report("done"))
    assert project.goes_on_from("auto") is project.rounds.in_use is not None
    project.set_classes(TWO[:1])
    assert project.goes_on_from("auto") is None
    assert project.one_more_class()[1].number == 3  # 2 is still predicted, and something else
    project.set_classes(TWO, scribbles=True)
    assert project.goes_on_from("auto") is None
    project.set_classes((*TWO, PaintClass(3, "new", "#000000")), scribbles=False)
    assert project.goes_on_from("auto") is project.rounds.in_use
    project.close()


# Layers, without a window ---------------------------------------------------------------------------------------------


@pytest.fixture
def bridge(qapp):
    viewer = ViewerModel()
    made = LayerBridge(viewer)
    made.choose_image(viewer.add_image(np.zeros((3, 8, 9)), name="scan"))
    made.new_masks()
    made.project.set_classes(TWO)
    yield made
    made.close()


@pytest.fixture
def edits(bridge, qtbot):
    picker, style, note = ClassPicker(), StyleChoice(), ClassNote()
    for widget in (picker, style, note):
        qtbot.addWidget(widget)
    return ClassEdits(bridge, picker, style, note)


def shown(layer, number):
    return tuple(np.round(layer.colormap.map(np.uint8(number)) * 255).astype(int))


def test_every_layer_has_the_class_colours_and_deleted_classes_are_not_predicted(bridge, edits):
    mask = np.full((8, 9), 1, np.uint8)
    mask[:4] = 2
    bridge.show_prediction(Prediction(0, "x", mask, np.zeros((8, 9), np.float32)))
    bridge.viewer.dims.set_current_step(0, 0)
    edits.recolour(2, "#d55e00")
    predicted = bridge.ours("predicted")
    assert shown(bridge.masks, 2) == shown(predicted, 2) == (*rgb("#d55e00"), 255)
    assert edits._picker.value() == bridge.project.class_list
    assert edits.delete(2)  # not painted, so nothing is asked
    assert shown(predicted, 2)[3] == 0
    assert bridge.accept() == 5 * 9 - 9  # the half that is of a class
    assert set(np.unique(bridge.masks.data)) == {0, 1}
    bridge.history.undo()  # Accept
    bridge.history.undo()  # the deletion
    assert shown(predicted, 2)[3] == 255
    assert bridge.project.class_list == lists.recolour(TWO, 2, "#d55e00")


def test_masks_brought_by_the_user_get_the_class_colours_too(bridge):
    labels = bridge.viewer.add_labels(np.zeros((3, 8, 9), int))
    bridge.choose_masks(labels)
    assert shown(labels, 1) == (*class_colour(1), 255)
    bridge.choose_masks(None)
    assert "1" not in [str(key) for key in labels.keymap]  # its digits are napari's again


def test_edits_and_strokes_are_undone_one_by_one_in_their_order(bridge, edits):
    masks, project = bridge.masks, bridge.project
    states = []

    def note():
        bridge.read_all_masks()
        states.append((project.class_list, project.scribbles, masks.data.copy()))

    note()
    for step in (
        lambda: masks.paint((0, 4, 4), 2),
        lambda: edits.rename(2, "wall"),
        edits.add,
        lambda: masks.paint((1, 2, 2), 3),
        lambda: edits.move(3, -2),
        lambda: edits.recolour(1, "#999999"),
        lambda: edits.paint_scribbles(True),
        lambda: masks.paint((2, 6, 6), 1),
    ):
        step()
        note()
    for before in reversed(states[:-1]):
        bridge.history.undo()
        bridge.read_all_masks()
        assert (project.class_list, project.scribbles) == before[:2]
        np.testing.assert_array_equal(masks.data, before[2])
    for after in states[1:]:
        bridge.history.redo()
        bridge.read_all_masks()
        assert (project.class_list, project.scribbles) == after[:2]
        np.testing.assert_array_equal(masks.data, after[2])


def test_an_edit_that_is_refused_is_said_and_changes_nothing(bridge, edits, notifications):
    edits._picker.rename_wanted.emit(2, "nucleus")
    assert "a class called nucleus already" in notifications[-1]
    assert edits._note.text() == notifications[-1]
    assert edits._picker._list.item(1).text() == "rim"
    assert bridge.project.class_list == TWO
    bridge.project.set_classes(TWO[:1])
    edits._picker.delete_wanted.emit(1)
    assert "the only class" in notifications[-1]


def test_another_style_says_what_it_means_for_the_masks_there_are(bridge, edits):
    edits.paint_scribbles(True)
    assert bridge.project.class_list[-1] == PaintClass(3, "background", "#999999")
    assert edits._note.text() == "Paint strokes of every class, and of background too."
    bridge.masks.paint((0, 4, 4), 1)
    bridge.read_masks()
    edits.paint_scribbles(False)
    assert edits._note.text().startswith(
        "On the 1 image painted so far, all that is unpainted now counts as background"
    )
    edits.paint_scribbles(True)
    assert "no longer counts as background but as unknown" in edits._note.text()
    assert [each.name for each in bridge.project.class_list].count("background") == 1


def test_the_deletion_says_what_becomes_unpainted():
    whole = class_words.deletes("rim", 12340, 3, 1, scribbles=False)
    assert whole.startswith("12,340 pixels on 3 images (1 of them verified) painted as rim become unpainted and count")
    assert "as background; Ctrl+Z brings them and the class back" in whole
    assert "count as unknown" in class_words.deletes("rim", 1, 1, 0, scribbles=True)


# With mouse and keys --------------------------------------------------------------------------------------------------


def answer(text):
    """Press a button of the question that is about to come; returns the list its sentence will be in."""
    said = []

    def press_it():
        box = next(x for x in QApplication.topLevelWidgets() if isinstance(x, QMessageBox) and x.isVisible())
        said.append(box.text())
        next(x for x in box.buttons() if x.text() == text).click()

    QTimer.singleShot(300, press_it)
    return said


def test_a_user_adds_names_paints_deletes_and_takes_back(viewer, make_dock, notifications):
    viewer.add_image(discs()[0], name="discs")
    dock = make_dock()
    assert not dock.classes.isEnabled()
    masks = dock.new_masks()
    project, picker = dock.bridge.project, dock.classes
    masks.brush_size = 10
    viewer.dims.set_current_step(0, 0)
    stroke(viewer, (20, 20), (20, 40))
    picker.add.click()
    let_run(0.1)
    editor = picker._list.findChild(QLineEdit)  # the name can be typed at once
    editor.selectAll()
    QTest.keyClicks(editor, "rim")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    let_run(0.1)
    assert project.classes == {1: "class 1", 2: "rim"}
    for plane in (0, 2):
        viewer.dims.set_current_step(0, plane)
        stroke(viewer, (45, 20), (45, 40))
    before = masks.data.copy()

    said = answer("Keep")
    picker.delete.trigger()
    assert said[0].startswith(f"{int((before == 2).sum()):,} pixels on 2 images")
    np.testing.assert_array_equal(masks.data, before)
    answer("Delete")
    picker.delete.trigger()
    assert set(np.unique(masks.data)) == {0, 1}
    assert (project.classes, dock.counts.text()) == ({1: "class 1"}, "1 of 4 painted")
    assert (masks.selected_label, picker.current()) == (1, 1)
    assert "Ctrl+Z brings them back" in dock.class_note.text()

    QTest.keyClick(picker._list, Qt.Key.Key_Z, CTRL)  # where the focus may still be
    let_run(0.1)
    np.testing.assert_array_equal(masks.data, before)
    assert (project.classes, dock.counts.text()) == ({1: "class 1", 2: "rim"}, "2 of 4 painted")
    press(viewer, Qt.Key.Key_Z, CTRL)  # the stroke before it
    assert not masks.data[2].any()
    press(viewer, Qt.Key.Key_Z, CTRL | SHIFT)
    press(viewer, Qt.Key.Key_Z, CTRL | SHIFT)
    assert set(np.unique(masks.data)) == {0, 1}
    assert project.classes == {1: "class 1"}


def test_digits_choose_the_class_and_the_brush_on_the_masks_only(viewer, make_dock, notifications):
    viewer.add_image(discs()[0], name="discs")
    other = viewer.add_labels(np.zeros_like(discs()[1]), name="other")
    dock = make_dock()
    masks = dock.new_masks()
    dock.bridge.project.set_classes(named({2: "b", 1: "a", 3: "c"}))  # keys follow numbers, wherever they are
    press(viewer, Qt.Key.Key_E)
    assert str(masks.mode) == "erase"
    press(viewer, Qt.Key.Key_3)
    assert (masks.selected_label, str(masks.mode), dock.classes.current()) == (3, "paint", 3)
    press(viewer, Qt.Key.Key_F)
    press(viewer, Qt.Key.Key_1)
    assert (masks.selected_label, str(masks.mode)) == (1, "fill")
    assert masks.help == viewer.help == class_words.HELP
    press(viewer, Qt.Key.Key_7)
    assert "no class 7" in notifications[-1]
    assert masks.selected_label == 1

    QTest.keyClick(dock.classes._list, Qt.Key.Key_2)  # with the focus on the list
    assert masks.selected_label == 2
    viewer.layers.selection.active = other
    press(viewer, Qt.Key.Key_1)
    assert str(other.mode) == "erase"  # as ever in napari
    assert masks.selected_label == 2


def test_names_colours_and_style_reach_the_training(viewer, make_dock):
    viewer.add_image(discs()[0], name="discs")
    viewer.add_labels(discs()[1], name="masks")
    dock = make_dock(max_steps=1)
    dock.style._box.setCurrentIndex(1)
    dock.classes.recolour_wanted.emit(1, "#0072b2")
    dock.train_button.click()
    job = next(iter(dock.bridge.project._running.values()))
    assert isinstance(job.request, TrainRequest)
    assert job.request.settings.sparse
    assert job.request.classes == {1: "class 1", 2: "background"}
    assert job.request.colours == {1: "#0072b2", 2: "#999999"}
    wait_for(lambda: dock.bridge.project.rounds)


def test_the_colour_menu_names_its_colours_and_their_owners(qtbot):
    picker = ClassPicker()
    qtbot.addWidget(picker)
    picker.setValue(TWO)
    picker.set_current(1)
    buttons = picker.colours.buttons
    assert list(buttons) == list(colour_names())
    assert buttons["#e69f00"].toolTip() == "orange: the colour of nucleus"
    assert buttons["#56b4e9"].toolTip() == "sky blue: the colour of rim; the two are exchanged"
    wanted = []
    picker.recolour_wanted.connect(lambda *what: wanted.append(what))
    picker.show()
    picker.change.menu().popup(picker.mapToGlobal(picker.rect().bottomLeft()))
    picker.colours.popup(picker.mapToGlobal(picker.rect().topLeft()))
    assert QApplication.activePopupWidget() is picker.colours
    buttons["#0072b2"].click()
    assert wanted == [(1, "#0072b2")]
    assert QApplication.activePopupWidget() is None
