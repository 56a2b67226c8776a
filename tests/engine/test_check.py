"""Every bad request is refused with a sentence that names the plane; good ones pass unchanged."""

import weakref
from dataclasses import replace

import numpy as np
import pytest

from napari_semigda.engine.check import check_folder, check_images, check_output, check_request
from napari_semigda.engine.types import EngineError, Plane, Settings, TrainRequest


def picture(seed=0, shape=(24, 30)):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def painted(class_id=1, shape=(24, 30), dtype=np.uint8):
    mask = np.zeros(shape, dtype)
    mask[4:12, 5:15] = class_id
    return mask


@pytest.fixture
def request_(tmp_path):
    planes = (Plane("a.png", picture(0), painted()), Plane("b.png", picture(1), painted()), Plane("c.png", picture(2)))
    return TrainRequest(planes, tmp_path / "model.semigda")


def refused(request):
    with pytest.raises(EngineError) as caught:
        check_request(request)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


def with_plane(request, plane):
    return replace(request, planes=(*request.planes, plane))


def test_a_good_request_passes_unchanged(request_, tmp_path):
    assert check_request(request_) == (request_, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16])
def test_any_whole_number_type_is_a_mask(request_, dtype):
    check_request(with_plane(request_, Plane("d.png", picture(3), painted(dtype=dtype))))


@pytest.mark.parametrize("shape", [(24, 30, 1), (24, 30, 3), (24, 30, 4)])
def test_grey_and_colour_are_images(request_, shape):
    check_request(with_plane(request_, Plane("d.png", picture(3, shape), painted())))


def test_nothing_painted(request_):
    bare = tuple(replace(plane, mask=None) for plane in request_.planes)
    assert "paint two or three" in refused(replace(request_, planes=bare))
    empty = tuple(replace(plane, mask=np.zeros((24, 30), np.uint8)) for plane in request_.planes)
    assert "Every mask is empty" in refused(replace(request_, planes=empty))
    assert "no image" in refused(replace(request_, planes=()))


def test_one_class_only(request_):
    sparse = replace(request_, settings=Settings(sparse=True))
    assert "only one class (1)" in refused(sparse)
    check_request(with_plane(sparse, Plane("d.png", picture(3), painted(2))))
    everywhere = tuple(
        replace(plane, mask=np.ones((24, 30), np.uint8)) if plane.mask is not None else plane
        for plane in request_.planes
    )
    assert "only one class (1)" in refused(replace(request_, planes=everywhere))


def test_two_classes_that_fill_the_image_are_enough(request_):
    mask = np.ones((24, 30), np.uint8)
    mask[:10] = 2
    planes = tuple(replace(plane, mask=mask) for plane in request_.planes)
    assert check_request(replace(request_, planes=planes))[1] == ()


def test_thirty_two_classes_and_no_more(request_):
    mask = np.zeros((24, 30), np.uint8)
    mask[0] = range(30)
    mask[1, :3] = (30, 31, 255)
    planes = (*request_.planes, Plane("d.png", picture(3), mask))
    check_request(replace(request_, planes=planes))  # 1..31 and 255, background not counted
    mask[2, 0] = 77
    assert "33 classes" in refused(replace(request_, planes=planes))


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (painted(shape=(30, 24)), "30 x 24 pixels but the image is 24 x 30"),
        (painted(shape=(24, 30, 3)), "24 x 30 x 3 pixels but the image is 24 x 30"),
        (painted(dtype=np.float32), "decimal numbers"),
        (painted(-2, dtype=np.int16), "negative label -2"),
        (painted(300, dtype=np.int32), "label 300"),
        (painted(1).astype(complex), "complex"),
    ],
    ids=["transposed", "colours", "float", "negative", "above 255", "complex"],
)
def test_bad_masks(request_, mask, says):
    sentence = refused(with_plane(request_, Plane("bad.png", picture(3), mask)))
    assert sentence.startswith("The mask of bad.png") and says in sentence


def spoiled(value):
    image = picture(3).astype(np.float32)
    image[7, 9] = image[20, 1] = value
    return image


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (spoiled(np.nan), "2 NaN or infinite pixel values, the first at row 7, column 9"),
        (spoiled(np.inf), "2 NaN or infinite"),
        (spoiled(1e31).astype(np.float64), "values up to 1e+31"),
        (spoiled(np.finfo(np.float32).min), "values up to 3.4e+38"),
        (np.full((24, 30), 7, np.uint8), "every pixel is 7"),
        (np.full((24, 30, 2), 7, np.uint8), "every pixel is 7"),
        (picture(3, (24, 30, 3, 3)), "4 dimensions"),
        (np.zeros((0, 30), np.uint8), "no pixels"),
        (picture(3, (24, 15)), "only 24 x 15 pixels"),
        (picture(3).astype(complex), "complex"),
    ],
    ids=["nan", "inf", "huge", "least", "constant", "channels", "4D", "zero-size", "small", "complex"],
)
def test_bad_images(request_, image, says):
    sentence = refused(with_plane(request_, Plane("bad.png", image)))
    assert sentence.startswith("bad.png") and says in sentence


def test_a_bad_pixel_is_found_in_any_band(request_, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.check._BAND", 90)  # three rows of 30
    assert "the first at row 7, column 9" in refused(with_plane(request_, Plane("bad.png", spoiled(np.nan))))
    check_request(request_)
    stripes = np.repeat(np.arange(8, dtype=np.uint8), 3)[:, None] * np.ones(30, np.uint8)  # each band is constant
    check_request(with_plane(request_, Plane("stripes.png", stripes)))


def test_blank_slices_of_a_stack_are_left_out_with_a_warning(request_):
    black = np.zeros((24, 30), np.int16)
    stack = [
        Plane(f"scan, slice {i}", image, group="scan") for i, image in enumerate([black, picture(4), black, black])
    ]
    request = replace(request_, planes=(*request_.planes, *stack))
    same, (warning,) = check_request(request)
    assert same is request
    assert "3 slices" in warning and "scan, slice 0" in warning and "scan, slice 3" in warning
    unpainted = replace(stack[0], mask=np.zeros((24, 30), np.uint8))
    verified = with_plane(replace(request_, planes=(*request_.planes, stack[1])), unpainted)
    assert check_request(verified)[1] == ()  # that nothing is on it is known, and learnt
    sentence = refused(with_plane(request, Plane("scan, slice 9", black, painted(), "scan")))
    assert sentence.startswith("scan, slice 9 shows nothing") and "mask" in sentence


def test_a_blank_labelled_file_and_blank_images_only(request_):
    flat = np.full((24, 30), 3, np.uint8)
    assert refused(with_plane(request_, Plane("flat.png", flat, painted()))).startswith("flat.png shows nothing")
    with pytest.raises(EngineError, match="every other image"):
        check_images([Plane("slice 0", flat, group="s"), Plane("slice 1", flat, group="s")])


def test_an_opaque_alpha_channel_hides_no_blank_image():
    image = np.zeros((24, 30, 4), np.uint8)
    image[..., 3] = 255
    with pytest.raises(EngineError, match="every pixel is 0"):
        check_images([Plane("a.png", image)])


class OneAtATime:
    """A lazy image that fails when the pixels of another one are still in memory."""

    shape, dtype, ndim = (24, 30), np.dtype(np.uint8), 2

    def __init__(self, handed_out):
        self.handed_out = handed_out

    def __getitem__(self, key):
        assert not any(reference() is not None for reference in self.handed_out)
        array = picture(1)[key].copy()
        self.handed_out.append(weakref.ref(array))
        return array


def test_lazy_images_are_read_one_by_one(request_):
    handed_out = []
    lazy = tuple(Plane(f"{i}.png", OneAtATime(handed_out)) for i in range(5))
    check_request(replace(request_, planes=request_.planes + lazy))
    assert len(handed_out) == 5


def test_output_that_cannot_be_written(request_, tmp_path):
    (tmp_path / "taken").write_text("not a folder")
    assert "taken is a file" in refused(replace(request_, out=tmp_path / "taken" / "model.semigda"))
    assert "is a folder" in refused(replace(request_, out=tmp_path))
    assert "/proc" in refused(replace(request_, out="/proc/nowhere/model.semigda"))
    check_output(tmp_path / "new" / "deep" / "model.semigda")
    check_folder(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(minutes=0), "0 minutes"),
        (Settings(minutes=float("nan")), "nan minutes"),
        (Settings(max_steps=0), "number of steps is 0"),
        (Settings(seed=-1), "seed is -1"),
        (Settings(unlabelled_weight=-1), "unlabelled weight is -1"),
    ],
)
def test_settings_out_of_range(request_, settings, says):
    assert says in refused(replace(request_, settings=settings))


def test_first_model_is_missing(request_, tmp_path):
    assert "gone.semigda" in refused(replace(request_, init=tmp_path / "gone.semigda"))
