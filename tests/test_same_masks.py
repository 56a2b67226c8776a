"""Same input, same masks: whatever the threads, the windows and the order, and from models of every schema version.

Models are 19 MB and more, so those of a schema version are kept as a recipe: the header as it was written, the name and
shape of every tensor, and numbers drawn by a generator that numpy has promised never to change. What such a model finds
makes no sense to anybody; it is compared with what it found when the recipe was written, pixel by pixel.
To write one anew for a schema version to come: ``python -m tests.test_same_masks``.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from napari_semigda import sample_data
from napari_semigda.engine.header import SCHEMA, read_header
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.types import Plane
from tests.engine.conftest import draw_discs

DATA = Path(__file__).parent / "data"
CLOSE = 1e-4  # of probabilities


def drawn(name, shape):
    """Numbers of a tensor, of a size that neither dies out nor explodes."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1 and min(shape[:2]) > 1:
        size = 0.1 if "outlet" in name else 1.0  # colours, and no blinding ones
        return (size * random.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32)
    if name.endswith(("weight", "scale")):
        return np.ones(shape, np.float32)
    return (0.1 * random.standard_normal(shape)).astype(np.float32)


def write_model(recipe, path):
    tensors = {name: drawn(name, shape) for name, shape in recipe["tensors"].items()}
    save_file(tensors, path, metadata={"semigda": json.dumps(recipe["header"])})
    return path


def piece():
    """A part of the bundled sample."""
    import tifffile

    return tifffile.imread(sample_data.SAMPLE / "images" / "brain.tif", key=12)[40:136, 30:126]


@pytest.mark.parametrize("version", range(1, SCHEMA + 1))
def test_a_model_of_every_schema_version_predicts_the_same_mask(version, tmp_path):
    recipe = json.loads((DATA / f"model-schema-{version}.json").read_text())
    model = write_model(recipe, tmp_path / "old.semigda")
    assert read_header(model)["schema"] == version
    predictor = Predictor(model, "cpu")
    assert predictor.classes == {0: "background", 1: "grey matter", 2: "white matter"}
    found = predictor.predict(Plane("brain", piece()), probabilities=True)
    expected = np.asarray(Image.open(DATA / f"model-schema-{version}.png"))
    assert set(np.unique(expected)) == {0, 1, 2}  # a mask of one class would prove nothing
    sure = np.sort(found.probabilities, axis=0)[-1] - np.sort(found.probabilities, axis=0)[-2] > CLOSE
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(found.mask[sure], expected[sure])


@pytest.fixture(scope="module")
def wide():
    """A picture that is larger than one window."""
    return np.tile(draw_discs(5)[0], (3, 3))


def probabilities(model, *pictures):
    predictor = Predictor(model, "cpu")
    return [predictor.predict(Plane(str(i), each), probabilities=True).probabilities for i, each in enumerate(pictures)]


def test_threads_order_and_company_change_nothing(tiny_run, wide):
    small = draw_discs(6)[0]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = probabilities(tiny_run[2], wide, small)
        torch.set_num_threads(2)
        two = probabilities(tiny_run[2], small, wide)[
            ::-1
        ]  # the other way round, by another process's worth of threads
    finally:
        torch.set_num_threads(threads)
    for each, other in zip(one, two, strict=True):
        assert np.abs(each - other).max() < CLOSE
        assert each.max() - each.min() > 0.5  # the model does tell things apart


def test_windows_in_another_order_or_by_twos_change_nothing(tiny_run, wide, monkeypatch):
    from monai.inferers import sliding_window_inference

    from napari_semigda.engine import predict

    sizes = []
    if not hasattr(predict, "sliding_window_inference"):
        pytest.skip("windows are laid in another way by now, which has tests of its own")
    (usual,) = probabilities(tiny_run[2], wide)

    def by_threes(image, roi, batch, look, **how):
        def seen(windows):
            sizes.append(len(windows))
            return look(windows.flip(0)).flip(0)  # the last one first

        return sliding_window_inference(image, roi, 3, seen, **how)

    monkeypatch.setattr(predict, "sliding_window_inference", by_threes)
    (other,) = probabilities(tiny_run[2], wide)
    assert max(sizes) == 3
    assert np.abs(usual - other).max() < CLOSE


def main():
    """Write the recipe and the mask of the present schema version."""
    from napari_semigda.engine.backbones import load_backbone
    from napari_semigda.engine.model import SemiGDA

    names = {0: "background", 1: "grey matter", 2: "white matter"}
    model = SemiGDA(load_backbone("compact"), len(names))
    tensors = {f"weights.{name}": list(weight.shape) for name, weight in model.trained_parts().items()}
    tensors |= {f"backbone.{name}": list(weight.shape) for name, weight in model.backbone.portable_state().items()}
    header = {
        "schema": SCHEMA,
        "version": "0.1.0",
        "class_count": len(names),
        "classes": [{"id": number, "name": name} for number, name in names.items()],
        "class_order": [1, 2],
        "sparse": False,
        "backbone": "compact",
        "mapper_width": model.mapper_width,
        "adapter_kernel": model.adapter_kernel,
        "fusion": model.fusion,
        "v_share": model.v_share,
        "view": {"scale": 1.0, "crop": 96, "poses": list(range(8))},
        "structure_width": 12.0,
        "training": {"rounds": 1, "steps": 1, "labelled": 1, "unlabelled": 0, "held_out": [], "trained_on": []},
    }
    DATA.mkdir(exist_ok=True)
    path = DATA / f"model-schema-{SCHEMA}.json"
    path.write_text(json.dumps({"header": header, "tensors": tensors}))
    found = Predictor(write_model(json.loads(path.read_text()), DATA / "tmp.semigda"), "cpu").predict(
        Plane("brain", piece()), probabilities=True
    )
    (DATA / "tmp.semigda").unlink()
    Image.fromarray(found.mask).save(path.with_suffix(".png"))
    low, high = np.sort(found.probabilities, axis=0)[-2:]
    print(np.bincount(found.mask.ravel()), f"{(high - low > CLOSE).mean():.3f} are sure")  # noqa: T201


if __name__ == "__main__":
    main()
