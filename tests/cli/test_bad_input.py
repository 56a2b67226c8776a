"""Every bad image, mask, model or folder is refused in one sentence, and nothing is written."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.numpy import save_file

from napari_semigda.engine.checkpoint import SCHEMA

from .conftest import SIZE, disc, only_line, refused, semigda, train_args, zero_bytes

# Training -------------------------------------------------------------------------------------------------------------


def test_bad_input_in_a_real_process(folders):
    """As below, but through the interpreter's own exit: status, one line, no traceback."""
    Image.fromarray(disc(1)[1][:-1]).save(folders / "masks" / "1.png")
    done = semigda(*train_args(folders))
    assert (done.returncode, done.stdout) == (2, "")
    assert only_line(done.stderr).startswith("The mask of 1.png is 63 x 72 pixels but the image is 64 x 72")
    assert not (folders / "out").exists()


def empty_folder(folder):
    for path in (folder / "images").iterdir():
        path.unlink()


def no_masks(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()


def unpainted(folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(path)


def one_class(folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.full(SIZE, 3, np.uint8)).save(path)


def truncated(folder):
    data = (folder / "images" / "3.png").read_bytes()
    (folder / "images" / "3.png").write_bytes(data[: len(data) // 2])


def truncated_mask(folder):
    data = (folder / "masks" / "2.png").read_bytes()
    (folder / "masks" / "2.png").write_bytes(data[: len(data) // 2])


def not_an_image(folder):
    (folder / "images" / "3.png").write_text("hello")


def nan_image(folder):
    tifffile.imwrite(folder / "images" / "5.tif", np.full(SIZE, np.nan, np.float32))


def constant_image(folder):
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(folder / "images" / "3.png")


def tiny_image(folder):
    Image.fromarray(disc(3)[0][:9, :9]).save(folder / "images" / "3.png")


def twins(folder):
    tifffile.imwrite(folder / "images" / "3.tif", disc(3)[0])


def replaced_mask(folder, mask):
    (folder / "masks" / "2.png").unlink()
    tifffile.imwrite(folder / "masks" / "2.tif", mask)


def float_labels(folder):
    replaced_mask(folder, disc(2)[1].astype(np.float32))


def negative_labels(folder):
    replaced_mask(folder, -disc(2)[1].astype(np.int16))


def large_labels(folder):
    replaced_mask(folder, disc(2)[1].astype(np.uint16) * 1000)


def too_many_classes(folder):
    replaced_mask(folder, np.arange(np.prod(SIZE)).reshape(SIZE).astype(np.uint16) % 34)


def coloured_mask(folder):
    Image.fromarray(np.dstack([disc(2)[1] * 200, disc(1)[1], disc(2)[1]])).save(folder / "masks" / "2.png")


def strange_mask(folder):
    for path in (folder / "masks").iterdir():
        path.rename(path.with_name(f"label_{path.name}"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (empty_folder, ["images holds no image"]),
        (no_masks, ["masks holds no image"]),
        (unpainted, ["Every mask is empty"]),
        (one_class, ["only one class (3)"]),
        (zero_bytes, ["3.png", "zero bytes"]),
        (truncated, ["3.png", "truncated"]),
        (truncated_mask, ["2.png", "truncated"]),
        (not_an_image, ["3.png", "cannot be read"]),
        (nan_image, ["5.tif", "NaN"]),
        (constant_image, ["3.png", "every pixel is 9"]),
        (tiny_image, ["3.png", "9 x 9"]),
        (twins, ["3.png", "3.tif", "rename"]),
        (float_labels, ["mask of 2.png", "float32"]),
        (negative_labels, ["mask of 2.png", "negative label -1"]),
        (large_labels, ["mask of 2.png", "label 1000"]),
        (too_many_classes, ["33 classes"]),
        (coloured_mask, ["2.png", "colours"]),
        (strange_mask, ["1.png", "masks"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_data(folders, capfd, spoil, says):
    spoil(folders)
    sentence = refused(capfd, train_args(folders), folders)
    assert all(word in sentence for word in says), sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_refusals_are_the_same_with_json(folders, capfd, form):
    constant_image(folders)
    assert "3.png" in refused(capfd, train_args(folders, *form), folders)


def test_one_class_of_scribbles(folders, capfd):
    assert "only one class (1)" in refused(capfd, train_args(folders, "--sparse"), folders)


def test_output_that_cannot_be_written_is_said_before_the_images_are_read(folders, capfd):
    zero_bytes(folders)
    args = train_args(folders)
    for out, says in [
        (folders / "images", "is a folder"),
        (folders / "images" / "1.png" / "m.semigda", "1.png is a file"),
        ("/proc/nowhere/m.semigda", "/proc/nowhere"),
    ]:
        args[args.index("--out") + 1] = out
        assert says in refused(capfd, args, folders)


def missing_device():
    return "cuda" if not torch.cuda.is_available() else "mps"


def test_a_device_that_is_not_there(folders, capfd):
    refusal = refused(capfd, train_args(folders, "--device", missing_device()), folders)
    assert missing_device() in refusal.lower()


def strange_models(folder):
    """Name of a bad model file -> what must be said of it."""
    tensor = {"weights.a": np.zeros(3, np.float32)}
    save_file(
        tensor, folder / "newer.semigda", metadata={"semigda": json.dumps({"schema": SCHEMA + 1, "version": "99"})}
    )
    save_file(tensor, folder / "foreign.safetensors", metadata={"format": "pt"})
    (folder / "picture.semigda").write_bytes((folder / "images" / "1.png").read_bytes())
    (folder / "zero.semigda").write_bytes(b"")
    return {
        "newer.semigda": "newer",
        "foreign.safetensors": "not",
        "picture.semigda": "",
        "zero.semigda": "",
        "gone": "",
    }


def test_model_files_that_are_not_ours(folders, capfd):
    for name, says in strange_models(folders).items():
        sentence = refused(capfd, train_args(folders, "--init", folders / name), folders)
        assert name in sentence and says in sentence
        predict = ["predict", "--model", folders / name, "--images", folders / "images", "--out", folders / "out"]
        sentence = refused(capfd, predict, folders)
        assert name in sentence and says in sentence


# Prediction -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [zero_bytes, truncated, not_an_image, constant_image, tiny_image, nan_image])
def test_nothing_is_predicted_when_one_image_is_bad(predicting, folders, capfd, spoil):
    spoil(folders)
    sentence = refused(capfd, [*predicting, folders / "images"], folders)
    assert ("5.tif" if spoil is nan_image else "3.png") in sentence


def test_predict_never_writes_over_an_image(predicting, folders, capfd):
    predicting[predicting.index("--out") + 1] = folders / "images"
    sentence = refused(capfd, [*predicting, folders / "images"], folders)
    assert "would replace the image" in sentence and "1.png" in sentence


def test_predict_refuses_what_it_cannot_place(predicting, folders, capfd):
    assert "gone.png" in refused(capfd, [*predicting, folders / "gone.png"], folders)
    tifffile.imwrite(folders / "1.tif", disc(1)[0])
    sentence = refused(capfd, [*predicting, folders / "images", folders / "1.tif"], folders)
    assert "1.png" in sentence and "1.tif" in sentence
    predicting[predicting.index("--out") + 1] = folders / "1.tif"
    assert "1.tif is a file" in refused(capfd, [*predicting, folders / "images"], folders)
    predicting[predicting.index("--out") + 1] = folders / "out"
    device = ["--device", missing_device()]
    assert missing_device() in refused(capfd, [*predicting, folders / "images", *device], folders).lower()
