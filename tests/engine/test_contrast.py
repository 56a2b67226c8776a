"""Whose black and white a picture has: its own, its volume's, or that of all."""

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.contrast import choose_reading
from napari_semigda.engine.normalise import Input
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.scan import Scans
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Plane, Settings, TrainRequest
from napari_semigda.engine.view import PlaneReader


def slices(painted: int, bare: int = 0, gains: tuple[float, ...] = (1.0,), bare_gain: float = 1.0) -> list[Plane]:
    """Stripes of background, grey and white matter, of which some slices have little white or none."""
    rng = np.random.default_rng(0)
    planes = []
    for number in range(painted + bare):
        mask = np.ones((64, 64), np.uint8)
        mask[:, :20], mask[:, 60 - 10 * (number % 3) :] = 0, 2
        mask[:, 60:] = 2 if number % 3 else 1
        gain = gains[number % len(gains)] if number < painted else bare_gain
        image = np.array([0, 160, 210])[mask] * gain + rng.normal(0, 4, mask.shape)
        planes.append(Plane(f"{number}", image.clip(0, 65535).astype(np.uint16), mask if number < painted else None))
    return planes


def reading(planes, contrast="auto"):
    return choose_reading(planes, ClassTable.of(planes, sparse=False), contrast=contrast)


def test_slices_of_one_scan_share_their_contrast():
    (common,) = reading(slices(4, 4)).ranges
    assert common.low < 10 and 200 < common.high < 230
    assert not reading(slices(4, 4), "image").ranges


@pytest.mark.parametrize(
    "planes",
    [
        slices(4, 4, gains=(1.0, 1.6, 0.7)),  # exposures differ
        slices(2, 6),  # two pictures may agree by chance
        slices(4, 8, bare_gain=2.5),  # the others come from elsewhere
    ],
    ids=["exposures", "few", "strangers"],
)
def test_else_each_image_keeps_its_own(planes):
    assert not reading(planes).ranges
    assert len(reading(planes, "dataset").ranges) == 1  # whoever wants it gets it


def test_colours_in_bytes_keep_theirs():
    planes = [
        Plane(p.name, np.repeat((p.image // 2).astype(np.uint8)[..., None], 3, axis=2), p.mask) for p in slices(4)
    ]
    assert not reading(planes).ranges


def test_an_image_of_another_scanner_has_its_own_contrast():
    rule, image = reading(slices(4, 4)), slices(1)[0].image
    assert rule.contrasts(image) == rule.ranges
    for gain in (3.0, 0.3):
        strange = (image * gain).astype(np.uint16)
        assert rule.contrasts(strange) == rule.own_contrasts(strange) != rule.ranges
    assert Input.of_model({"input": json.loads(json.dumps(rule.to_json()))}) == rule
    wanted = reading(slices(4, 4), "dataset")
    assert wanted.contrasts((image * 3.0).astype(np.uint16)) == wanted.ranges  # whoever asks for it means it


def test_slices_that_resemble_each_other_leave_their_contrast_to_those_at_the_ends():
    planes = slices(4, 8)
    alike = [replace(planes[i], image=planes[2].image, mask=planes[2].mask) for i in range(4)]
    assert reading([*alike, *planes[4:]]).ranges
    ends = [replace(plane, image=np.minimum(plane.image, 170)) for plane in planes[4:7]]  # without white matter
    assert reading([*alike, *ends, *planes[7:]]).ranges
    assert not reading([*alike, *ends, *slices(0, 8, bare_gain=0.75)]).ranges  # of another scanner, most of them


def volumes(painted=(0,), gains=(1.0, 3.0), drift=0.0):
    """Volumes of 9 slices, the last three without white matter, that differ in their gain; some of each are painted."""
    planes = []
    for number, gain in enumerate(gains):
        for at, plane in enumerate(sorted(slices(9), key=lambda plane: 2 not in plane.mask)):
            image = (plane.image * gain * (1 - drift * at)).astype(np.uint16)
            mask = plane.mask if at in painted else None
            planes.append(replace(plane, name=f"{number} {at}", image=image, mask=mask, volume=f"scan {number}"))
    return planes


@pytest.mark.parametrize("painted", [(0,), (0, 5)])
def test_slices_of_a_volume_share_their_contrast(painted):
    planes = volumes(painted)
    rule = reading(planes)
    assert rule.volumes == "steady" and not rule.ranges
    reader = PlaneReader(planes, rule)
    first, second = reader.contrasts(0), reader.contrasts(9)
    assert [reader.contrasts(i) for i in range(18)] == [first] * 9 + [second] * 9
    assert second[0].high == pytest.approx(3 * first[0].high, rel=0.05)
    assert rule.fixed == (painted == (0, 5))  # four painted slices that agree show something, two do not
    assert Input.of_model({"input": json.loads(json.dumps(rule.to_json()))}) == rule
    assert reading(planes, "image").volumes == "none"


@pytest.mark.parametrize(
    "planes",
    [
        volumes(gains=(1.0,))[::2],  # too few to tell
        [replace(volumes((1, 7))[i], volume="pages") for i in (1, 7, 10, 0, 16, 3, 11, 8, 12)],  # images in any order
        volumes((0, 4, 8), gains=(1.0,), drift=0.08),  # duller with depth, masks say
    ],
    ids=["few", "pages", "bleached"],
)
def test_else_slices_keep_their_own(planes):
    assert reading(planes) == Input((0,))
    wanted = reading(planes, "volume")
    assert wanted.volumes == "all" and not wanted.fixed
    shared = Scans(planes, wanted).contrasts(planes[0])
    assert shared and shared == Scans(planes, wanted).contrasts(planes[-1])


def test_a_file_that_is_no_volume_is_not_read_as_one():
    rule = reading(volumes((0, 5)))
    first, second = volumes()[:9], volumes()[9:]
    pages = [replace(plane, volume="pages") for pair in zip(first, second, strict=True) for plane in pair]
    assert Scans(pages, rule).contrasts(pages[0]) == ()


class Broken:
    """A slice whose pixels cannot be read."""

    shape, dtype, ndim = (64, 64), np.dtype(np.uint16), 2

    def __getitem__(self, key):
        raise OSError("damaged")


def test_a_volume_is_known_by_its_slices_alone():
    planes = volumes()
    rule = reading(planes)
    shared = Scans(planes, rule).contrasts(planes[0])
    assert shared and Scans(planes, Input()).contrasts(planes[0]) == ()
    assert Scans(planes, rule).contrasts(replace(planes[0], volume="another")) == ()
    one_broken = [*planes[:3], replace(planes[3], image=Broken()), *planes[4:9]]
    assert Scans(one_broken, rule).contrasts(planes[0])[0].high == pytest.approx(shared[0].high, rel=0.05)
    assert Scans(one_broken[3:4], rule).contrasts(planes[3]) == ()
    empty = replace(planes[8], image=np.zeros((64, 64), np.uint16))
    reader = PlaneReader([*planes[:8], empty], rule)
    assert reader.is_flat(8) and reader.contrasts(8)[0].high > 100


def test_prediction_reads_a_slice_as_training_did(tmp_path):
    planes, out = volumes((0, 5)), tmp_path / "m.semigda"
    settings = Settings(max_steps=4, crop=64)
    reports = list(Trainer().fit(TrainRequest(tuple(planes), out, settings)))
    assert reports[1].message.endswith("so it is kept: the slices of a volume share one contrast.")
    alone, dull = Predictor(out, "cpu"), planes[8]
    told, elsewhere = (alone.among(some).see(dull).belief.v for some in (planes[:9], planes[9:]))
    assert told.equal(alone.among(planes).see(dull).belief.v)
    assert elsewhere.equal(alone.see(dull).belief.v) and not elsewhere.equal(told)
    correction = TrainRequest(tuple(planes), out, replace(settings, contrast="image"), init=out)
    with pytest.raises(EngineError, match="another contrast"):
        list(Trainer().fit(correction))
