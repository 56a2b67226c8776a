"""Prediction gives the exact size, the painted ids, and the same answer through windows as at once."""

import numpy as np
import pytest
import torch

from napari_semigda.engine.predict import Predictor, _windows
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import View


@pytest.mark.parametrize("shape", [(64, 72), (33, 150), (40, 41), (70, 60, 3), (70, 60, 4), (50, 50, 1), (300, 280)])
def test_any_size_and_channels(tiny_run, shape):
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    prediction = Predictor(tiny_run[2]).predict(Plane("p", pixels), probabilities=True)
    assert prediction.mask.shape == prediction.doubt.shape == shape[:2]
    assert prediction.mask.dtype == np.uint8
    assert prediction.doubt.dtype == np.float32
    assert 0 <= prediction.doubt.min() <= prediction.doubt.max() <= 1
    assert prediction.probabilities.shape == (2, *shape[:2])
    assert np.allclose(prediction.probabilities.sum(0), 1, atol=1e-4)
    assert prediction.description.shape == (64 + 3 * 8 + 64,)
    assert np.isfinite(prediction.description).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16, bool])
def test_any_pixel_type_gives_a_mask(tiny_run, dtype):
    pixels = (tiny_run[0].planes[0].image > 110).astype(dtype)
    mask = Predictor(tiny_run[2]).predict(Plane("p", pixels)).mask
    assert set(np.unique(mask)) == {0, 1}


def test_brightness_scale_does_not_matter_for_grey_images(tiny_run):
    """Grey planes are stretched by their own percentiles, so 8 and 16 bits give one answer."""
    predictor = Predictor(tiny_run[2])
    pixels = tiny_run[0].planes[4].image
    eight, sixteen = (predictor.predict(Plane("p", p)).mask for p in (pixels, pixels.astype(np.uint16) * 200 + 7))
    assert np.mean(eight == sixteen) > 0.999


def test_windows_join_without_seams(tiny_run):
    predictor = Predictor(tiny_run[2])
    rng = np.random.default_rng(5)
    small = torch.from_numpy(rng.random((1, 1, 32, 32), dtype=np.float32))
    image = (
        torch.nn.functional.interpolate(small, size=(256, 256), mode="bicubic").clamp(0, 1).repeat(1, 3, 1, 1) * 2 - 1
    )
    with torch.inference_mode():
        pieces = _windows(predictor._model, image, View(1.0, 128))  # 256 > 1.75 x 128: windows
        whole = _windows(predictor._model, image, View(1.0, 256))
    assert (pieces[:, :2].argmax(1) == whole[:, :2].argmax(1)).float().mean() > 0.97
