"""Any number of channels and any values become three channels in [0, 1], the same way in training and prediction."""

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_semigda.engine.checkpoint import load_model, save_model
from napari_semigda.engine.header import read_header
from napari_semigda.engine.normalise import Input, choose_input, to_picture
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Plane, Settings, TrainRequest
from napari_semigda.engine.view import PlaneReader
from tests.engine.conftest import draw_discs, drawn_planes


def noise(shape, dtype=np.uint16, top=4000):
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def read(image, *channels, **options):
    rule = choose_input([Plane("p", image)], channels, **options)
    return rule.to_unit(image, rule.contrasts(image))


def refused(function, *args, **options):
    with pytest.raises(EngineError) as caught:
        function(*args, **options)
    return str(caught.value)


def stretched(channel):
    low, high = np.percentile(channel.astype(np.float32), (0.5, 99.5))
    return ((channel - low) / (high - low)).clip(0, 1)


def test_hot_pixels_count_for_nothing():
    grey = np.random.default_rng(0).normal(1000, 50, (100, 100)).astype(np.float32)
    grey[0, 0] = 1e9
    unit = read(grey)
    assert unit.shape == (3, 100, 100) and unit.dtype == np.float32
    assert 0 <= unit.min() < 0.1 and 0.9 < unit.max() <= 1
    assert unit[0].std() > 0.15  # not pressed into the dark by one pixel


def test_grey_and_colour_bytes_are_what_they_always_were():
    """By another way of computing it, bit by bit: figures of accuracy depend on it."""
    grey, colour = noise((60, 50), np.uint8, 200), noise((60, 50, 3), np.uint8, 200)
    low, high = (float(value) for value in np.percentile(grey.astype(np.float32), (0.5, 99.5)))
    plain = np.clip((grey.astype(np.float32) - low) / (high - low), 0, 1)
    np.testing.assert_array_equal(read(grey), np.stack([plain] * 3))
    np.testing.assert_array_equal(read(grey[..., None]), np.stack([plain] * 3))
    np.testing.assert_array_equal(read(colour), colour.astype(np.float32).transpose(2, 0, 1) / 255)
    transparent = np.dstack([colour, noise((60, 50), np.uint8)])
    np.testing.assert_array_equal(read(transparent), read(colour))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_every_channel_has_a_range_of_its_own(count):
    image = noise((40, 30, count)) * np.arange(1, count + 1, dtype=np.uint16)
    unit = read(image)
    np.testing.assert_allclose(unit[:2], [stretched(image[..., at]) for at in (0, 1)], atol=1e-5)
    third = unit[:2].mean(0) if count == 2 else stretched(image[..., 2])
    np.testing.assert_allclose(unit[2], third, atol=1e-5)


def test_channels_of_choice():
    image = noise((40, 30, 5))
    np.testing.assert_allclose(
        read(image, 5, 1),
        [*(both := [stretched(image[..., 4]), stretched(image[..., 0])]), np.mean(both, 0)],
        atol=1e-5,
    )
    assert np.ptp(read(image, 4), axis=0).max() == 0
    assert "p has 5 channels, but channel 6 is wanted" in refused(read, image, 2, 6)


def test_mixed_channels():
    grey, colour = Plane("grey", noise((20, 20))), Plane("colour", noise((20, 20, 3), np.uint8))
    assert choose_input([grey, colour]) == Input((0, 1, 2), pictures=True)
    many = Plane("many", noise((20, 20, 5)))
    assert "grey has 1 channel and many has 5" in refused(choose_input, [grey, many])
    assert choose_input([grey, many], [1]).channels == (0,)
    assert "grey has 1 channel, but channel 2 is wanted" in refused(choose_input, [grey, many], [2])


def test_values_that_are_none_are_dark():
    image = noise((20, 20)).astype(np.float64)
    image[0, :4] = np.nan, np.inf, -np.inf, 1e300
    unit = read(image)
    assert unit[0, 0, :4].tolist() == [0, 1, 0, 1]
    assert np.isfinite(unit).all() and unit[:, 1:].std() > 0.2
    np.testing.assert_array_equal(read(np.full((20, 20), np.nan)), 0)


def test_the_range_of_all_images_is_one(tmp_path):
    dark, bright = (noise((40, 40, 2)) + np.uint16(more) for more in (0, 4000))
    planes = [Plane("dark", dark), Plane("bright", bright), Plane("flat", np.full((40, 40, 2), 900, np.uint16))]
    rule = choose_input(planes, contrast="dataset")
    reader, apart = PlaneReader(planes, rule), PlaneReader(planes, choose_input(planes))
    assert reader.whole(0, 1.0)[0].mean() < 0.4 and reader.whole(1, 1.0)[0].mean() > 0.6
    assert abs(apart.whole(0, 1.0)[0].mean() - apart.whole(1, 1.0)[0].mean()) < 0.05
    assert [reader.is_flat(at) for at in range(3)] == [False, False, True]
    assert Input.of_model(json.loads(json.dumps({"input": rule.to_json()}))) == rule


def test_colour_bytes_keep_their_values_in_every_contrast():
    colour = noise((20, 20, 3), np.uint8, 100)
    np.testing.assert_array_equal(read(colour, contrast="dataset"), read(colour))


def test_a_picture_to_look_at():
    assert to_picture(noise((20, 30, 7))).shape == (20, 30, 3)
    colour = noise((20, 30, 3), np.uint8, 250)
    np.testing.assert_array_equal(to_picture(colour), colour)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """Discs that only channel 4 of 5 shows, and a model that was told so, with one range for all images."""

    def five(seed):
        disc, mask = draw_discs(seed)
        image = noise((*disc.shape, 5))
        image[..., 3] = disc.astype(np.uint16) * 10
        return Plane(f"five{seed}", image, mask)

    planes = tuple(five(seed) for seed in range(3))
    out = tmp_path_factory.mktemp("channels") / "five.semigda"
    settings = Settings(max_steps=25, crop=64, channels=(4,), contrast="dataset")
    list(Trainer().fit(TrainRequest(planes, out, settings)))
    return planes, out, five


def test_what_was_chosen_is_replayed_at_prediction(chosen):
    _, out, five = chosen
    recorded = Input.of_model(read_header(out))
    assert recorded.channels == (3,) and len(recorded.ranges) == 1
    predictor, new = Predictor(out, "cpu"), five(9)
    mask = predictor.predict(new).mask
    other = replace(new, image=np.where(np.arange(5) == 3, new.image, 7).astype(np.uint16))
    np.testing.assert_array_equal(mask, predictor.predict(other).mask)  # nothing else is seen
    darker = replace(new, image=new.image // 4)
    assert (predictor.predict(darker).mask != mask).mean() > 0.02  # grey values count as they are
    assert "grey.tif has 1 channel, but channel 4 is wanted" in refused(
        predictor.predict, Plane("grey.tif", noise((40, 40)))
    )


def test_a_correction_reads_as_its_first_round(chosen, tmp_path):
    planes, out, _ = chosen
    request = TrainRequest(planes, tmp_path / "2.semigda", Settings(max_steps=2, crop=64), init=out)
    list(Trainer().fit(request))
    assert read_header(request.out)["input"] == read_header(out)["input"]
    other = replace(request, settings=replace(request.settings, channels=(1,)))
    assert "five.semigda sees other channels" in refused(list, Trainer().fit(other))


def test_a_correction_that_wants_nothing_is_no_choice_of_channels(chosen, tmp_path):
    """Images whose numbers of channels differ need a choice, which the first round has made."""
    planes, out, _ = chosen
    wider = replace(planes[-1], image=np.dstack([planes[-1].image] * 2))
    request = TrainRequest((*planes[:-1], wider), tmp_path / "2.semigda", Settings(max_steps=1, crop=64), init=out)
    list(Trainer().fit(request))
    assert read_header(request.out)["input"] == read_header(out)["input"]


@pytest.mark.parametrize("channels", [(0,), (1, 1), (1, 2, 3, 4)])
def test_channels_that_nobody_can_choose(tmp_path, channels):
    request = TrainRequest(drawn_planes(2, 0), tmp_path / "m.semigda", Settings(max_steps=1, channels=channels))
    assert "choose up to 3 different ones" in refused(list, Trainer().fit(request))


def test_models_of_before_predict_what_they_did(tiny_run, tmp_path):
    """Their headers say nothing about input: channels were stretched together, and more than RGB was refused."""
    import torch

    model, header = load_model(tiny_run[2], torch.device("cpu"))
    assert header.pop("input")["pictures"]
    for name in ("channels", "contrast"):
        del header["training"]["settings"][name]
    save_model(tmp_path / "old.semigda", model, header, None)
    old, new = Predictor(tmp_path / "old.semigda", "cpu"), Predictor(tiny_run[2], "cpu")
    for plane in (tiny_run[0].planes[4], Plane("rgb", np.dstack([draw_discs(n)[0] for n in range(3)]))):
        before, now = (each.predict(plane, probabilities=True) for each in (old, new))
        np.testing.assert_array_equal(before.mask, now.mask)
        np.testing.assert_array_equal(before.probabilities, now.probabilities)
    wide = noise((40, 40, 3)) * np.array([1, 2, 4], np.uint16)
    low, high = np.percentile(wide.astype(np.float32), (0.5, 99.5))
    expected = ((wide - low) / (high - low)).clip(0, 1).transpose(2, 0, 1)
    np.testing.assert_allclose(old.input.to_unit(wide, old.input.contrasts(wide)), expected, atol=1e-5)
    assert not np.allclose(new.input.to_unit(wide, new.input.contrasts(wide)), expected, atol=0.1)
