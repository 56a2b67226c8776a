"""Images too large to be one array in a viewer: tiles to paint, masks that appear block by block."""

import json

import numpy as np
import pytest

from napari_semigda import tiling
from napari_semigda.engine import blocks
from napari_semigda.formats import LazyImage, open_source
from napari_semigda.widgets import opening
from napari_semigda.widgets.predict import PredictDock
from napari_semigda.widgets.runner import Runner
from napari_semigda.widgets.words import State
from tests import fake_engine
from tests.test_large import scene
from tests.test_slides import save

from .conftest import let_run, stroke, wait_for


@pytest.fixture
def slide(viewer, tmp_path, monkeypatch):
    """The layer of an OME-Zarr of 1100 x 1300 pixels, which is large here, and must never be read whole."""

    def never(self, *_):
        raise AssertionError(f"{self.name} is read whole")

    monkeypatch.setattr(blocks, "LARGE", 2**18)
    monkeypatch.setattr(tiling, "SIDE", 400)
    monkeypatch.setattr(LazyImage, "__array__", never)
    path = save(tmp_path / "slide.ome.zarr", scene())
    ((levels, options, _),) = opening.image_reader(str(path))(str(path))
    return viewer.add_image(levels, **options)


def test_a_slide_is_painted_and_trained_on_in_tiles(viewer, make_dock, slide, notifications):
    viewer.scene.camera.center = (0, 300, 500)  # half micrometres: row 600, column 1000 are in the middle
    dock = make_dock()
    tiles = viewer.layers["slide tiles"]
    assert dock.bridge.image == tiles and not slide.visible and tiles.data.shape == (9, 400, 500)
    assert viewer.dims.current_step[0] == 5  # second row, third column
    assert "slide tiles shows it in 9 tiles" in " ".join(notifications)

    dock.new_masks()
    stroke(viewer, (100, 100), (150, 200))
    assert dock.bridge.project.painted == (5,)
    np.testing.assert_array_equal(tiles.data[5][:400, :500], scene()[400:800, 800:1300])
    painted = dock.bridge.masks.data.copy()
    dock.training.start()
    wait_for(lambda: dock.state is State.DONE)
    predicted = dock.bridge.ours("predicted").data
    grey = scene()[400:800, 0:400]
    np.testing.assert_array_equal(predicted[3][:400, :400], grey > grey.mean())
    np.testing.assert_array_equal(dock.bridge.masks.data, painted)
    assert not any((dock.bridge.project.folder / "images").iterdir())

    dock.images.setValue(slide)  # chosen again: its tiles are there
    assert dock.bridge.image == dock.images.value() == tiles
    assert len([x for x in viewer.layers if "tiles" in x.name]) == 4


def test_masks_of_a_slide_appear_as_they_come_and_are_gone_on_with(viewer, slide, tmp_path):
    model = tmp_path / "nuclei.semigda"
    model.write_text(json.dumps({"wish": "slow"}))
    dock = PredictDock(viewer, runner=Runner(fake_engine.COMMAND))
    viewer.window.add_dock_widget(dock, name="SemiGDA: Predict", area="right")
    dock.model.value = model
    let_run(0.1)
    try:
        assert dock.bridge.image == slide and not dock.save_button.isVisible()
        dock.predict_button.click()
        result = viewer.layers["slide masks by nuclei"]
        wait_for(lambda: bool(result._slice.image.raw.any()))  # what is on the screen
        dock.stop_button.click()
        wait_for(lambda: not dock.running)
        done = int(np.count_nonzero(result.data[0][:]))
        assert 0 < done < np.count_nonzero(scene() > scene().mean())
        assert dock.run.sentence.text().startswith("Stopped.") and "goes on" in dock.run.sentence.text()

        dock.predict_button.click()
        wait_for(lambda: not dock.running)
        assert [layer.name for layer in viewer.layers] == ["slide", "slide masks by nuclei"]
        np.testing.assert_array_equal(result.data[0][:], scene() > scene().mean())
        assert not result.editable and result.data[1].shape == (550, 650)
        saved = dock.save_masks(tmp_path / "masks")
    finally:
        dock.close_session()
    source = open_source(saved)
    assert source.spacing == (0.5, 0.5)
    np.testing.assert_array_equal(source.planes[0][:, :], scene() > scene().mean())
