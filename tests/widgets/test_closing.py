"""However it ends, no process is left over and nothing asks questions."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QApplication, QDialog

from napari_semigda.widgets.runner import COMMAND
from napari_semigda.widgets.words import State
from tests import fake_engine

from .conftest import discs, let_run, wait_for


def training(viewer, dock):
    """A dock in the middle of a training that would take an hour."""
    images, masks = discs()
    masks[2:] = 0
    viewer.add_image(images, name="discs")
    viewer.add_labels(masks, name="discs masks")
    wait_for(lambda: dock.state is State.READY)
    dock.train_button.click()
    wait_for(lambda: dock.state is State.TRAINING)
    return psutil.Process(dock.runner.pid)


def is_gone(process, folder):
    wait_for(lambda: not process.is_running(), 5)
    assert not folder.exists()  # the temporary project
    assert QThreadPool.globalInstance().waitForDone(3000)
    return True


def test_closing_the_dock_during_training_ends_the_process(viewer, make_dock):
    dock = make_dock(max_steps=10_000)
    process, folder = training(viewer, dock), dock.bridge.project.folder
    viewer.window.remove_dock_widget(dock)
    # As for a user, the window is drawn again before the next act: Mesa's software renderer crashes when an image goes
    # between the canvas growing into the room of a dock and being drawn, in napari alone too.
    let_run(0.1)
    assert is_gone(process, folder)
    before = viewer.layers["discs masks"].data.copy()
    viewer.dims.set_current_step(0, 1)  # nothing of the dock listens any more
    viewer.layers.remove("discs")
    assert (viewer.layers["discs masks"].data == before).all()


def test_closing_the_dock_with_its_own_button_ends_the_process(viewer, make_dock):
    dock = make_dock(max_steps=10_000)
    process, folder = training(viewer, dock), dock.bridge.project.folder
    dock.parent().destroyOnClose()  # what the cross in the title bar is connected to
    assert is_gone(process, folder)


def test_hiding_the_dock_lets_the_training_go_on(viewer, make_dock):
    dock = make_dock(max_steps=10_000)
    process = training(viewer, dock)
    dock.parent().hide()
    let_run(0.3)
    assert process.is_running()
    assert dock.state is State.TRAINING


def test_closing_the_viewer_during_training_ends_the_process_without_a_question(viewer, make_dock):
    dock = make_dock(max_steps=10_000)
    process, folder = training(viewer, dock), dock.bridge.project.folder
    assert viewer.window._task_status_manager.get_status() == []  # what the closing dialog would list
    viewer.close()
    assert not [x for x in QApplication.topLevelWidgets() if isinstance(x, QDialog) and x.isVisible()]
    assert is_gone(process, folder)


def test_closing_the_viewer_during_a_real_training_ends_the_process(viewer, make_dock):
    dock = make_dock(COMMAND, max_steps=10_000)
    process, folder = training(viewer, dock), dock.bridge.project.folder
    viewer.close()
    assert is_gone(process, folder)


def test_removing_the_images_during_training_stops_it(viewer, make_dock):
    dock = make_dock(max_steps=10_000)
    training(viewer, dock)
    viewer.layers.remove("discs")
    wait_for(lambda: dock.state is State.NO_IMAGES)
    assert not dock.runner.busy
    viewer.add_image(discs()[0], name="others")
    assert dock.state is State.READY


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("killed", "memory ran out.*masks are untouched; press Train"),
        ("exits", r"ended unexpectedly \(exit status 3\)"),
        ("runtime error", "mat1 and mat2 shapes cannot be multiplied"),
        ("out of memory", "memory of this computer ran out"),
    ],
)
def test_whatever_happens_to_the_process_is_said_and_train_works_again(viewer, make_dock, notifications, wish, said):
    images, masks = discs()
    masks[2:] = 0
    viewer.add_image(images, name="discs")
    painted = viewer.add_labels(masks.copy(), name="discs masks")
    dock = make_dock()
    dock.bridge.project.name_classes({1: wish})
    dock.train_button.click()
    wait_for(lambda: dock.state is State.ERROR)
    assert re.search(said, notifications[-1])
    assert dock.run.sentence.text() == notifications[-1]
    assert (painted.data == masks).all()
    dock.bridge.project.name_classes({1: "disc"})
    dock.train_button.click()
    wait_for(lambda: dock.state is State.DONE)


def test_the_process_does_not_outlive_a_viewer_that_is_killed(tmp_path):
    script = tmp_path / "viewer.py"
    script.write_text(
        "import sys, time\n"
        "from qtpy.QtWidgets import QApplication\n"
        "from napari_semigda.widgets.runner import Runner\n"
        "app = QApplication([])\n"
        f"runner = Runner({fake_engine.COMMAND!r})\n"
        "runner.ready.connect(lambda _: print(runner.pid, flush=True))\n"
        "runner.warm()\n"
        "app.exec_()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs([orphan], timeout=5)[0]
