"""A saved model, another layer, masks that are the user's."""

import json

import numpy as np
import psutil
import pytest

from napari_semigda.widgets.predict import PredictDock
from napari_semigda.widgets.runner import COMMAND, Runner
from tests import fake_engine

from .conftest import discs, let_run, wait_for


@pytest.fixture
def make_predict_dock(viewer):
    docks = []

    def make(command=fake_engine.COMMAND):
        docks.append(PredictDock(viewer, runner=Runner(command)))
        viewer.window.add_dock_widget(docks[-1], name="SemiGDA: Predict", area="right")
        return docks[-1]

    yield make
    for dock in docks:
        dock.close_session()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "nuclei.semigda"
    path.write_text(json.dumps({"wish": ""}))
    return path


def test_a_layer_is_predicted_with_a_saved_model(viewer, make_predict_dock, model):
    viewer.add_image(discs()[0], name="discs", scale=(4, 1, 1))
    dock = make_predict_dock()
    dock.model.value = model
    dock.predict_button.click()
    assert dock.running
    assert not dock.predict_button.isEnabled()
    wait_for(lambda: not dock.running)
    result = viewer.layers["discs masks by nuclei"]
    assert result.editable
    assert all(plane.any() for plane in result.data)
    np.testing.assert_array_equal(result.scale, (4, 1, 1))
    assert dock.run.sentence.text().startswith("Done.")

    corrected = result.data.copy()
    dock.predict_button.click()  # again: a new layer, the corrected one stays
    wait_for(lambda: not dock.running)
    assert len(viewer.layers) == 3
    np.testing.assert_array_equal(result.data, corrected)


def test_stop_keeps_what_is_there(viewer, make_predict_dock, model):
    model.write_text(json.dumps({"wish": "slow"}))
    viewer.add_image(discs(20)[0], name="discs")
    dock = make_predict_dock()
    dock.model.value = model
    dock.predict_button.click()
    wait_for(lambda: dock.result is not None)
    dock.stop_button.click()
    wait_for(lambda: not dock.running)
    done = sum(plane.any() for plane in dock.result.data)
    assert 0 < done < 20
    assert dock.run.sentence.text().startswith("Stopped.")


def test_without_a_model_or_images_it_says_what_is_missing(viewer, make_predict_dock, notifications):
    dock = make_predict_dock()
    assert not dock.predict()
    assert notifications[-1].startswith("Open images first")
    viewer.add_image(discs()[0], name="discs")
    assert not dock.predict()
    assert notifications[-1].startswith("Choose a model first")
    assert dock.runner.pid is None


def test_a_file_that_is_no_model_is_refused_in_words(viewer, make_predict_dock, tmp_path, notifications):
    (tmp_path / "notes.semigda").write_text("shopping list")
    viewer.add_image(discs()[0], name="discs")
    dock = make_predict_dock(COMMAND)
    dock.model.value = tmp_path / "notes.semigda"
    dock.predict_button.click()
    wait_for(lambda: not dock.running)
    assert "notes.semigda" in notifications[-1]
    assert "Traceback" not in notifications[-1]
    assert len(viewer.layers) == 1


def test_closing_the_dock_ends_its_process(viewer, make_predict_dock, model):
    model.write_text(json.dumps({"wish": "slow"}))
    viewer.add_image(discs(20)[0], name="discs")
    dock = make_predict_dock()
    dock.model.value = model
    dock.predict_button.click()
    wait_for(lambda: dock.result is not None)
    process = psutil.Process(dock.runner.pid)
    viewer.window.remove_dock_widget(dock)
    let_run(0.2)
    assert not process.is_running()
