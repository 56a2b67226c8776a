"""The autoencoders of the diffusers package behind our interface; small ones with random weights, no download."""

import sys

import pytest
import torch

from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.types import EngineError


@pytest.fixture(params=["sd", "tiny"])
def backbone(request):
    diffusers = pytest.importorskip("diffusers")
    from napari_semigda.engine.diffusers_backbones import StableDiffusionBackbone, TinyBackbone

    torch.manual_seed(0)
    if request.param == "tiny":
        return TinyBackbone(
            diffusers.AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
        )
    return StableDiffusionBackbone(
        diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 8, 16, 16),
            norm_num_groups=4,
        )
    )


def test_level_by_level_gives_what_diffusers_gives(backbone):
    theirs = backbone.autoencoder
    image = torch.rand(2, 3, 64, 96) * 2 - 1
    encoded = backbone.encode(image)
    with torch.no_grad():
        if backbone.name == "sd":
            posterior = theirs.encode(image).latent_dist
            torch.testing.assert_close(encoded.latent_mean, posterior.mean * theirs.config.scaling_factor)
            spread = torch.exp(0.5 * encoded.log_variance)
            torch.testing.assert_close(spread, posterior.std * theirs.config.scaling_factor)
            wanted = theirs.decode(posterior.mean).sample
        else:
            torch.testing.assert_close(encoded.latent_mean, theirs.encode(image).latents)
            torch.testing.assert_close(encoded.sample(), encoded.latent_mean, atol=1e-5, rtol=1e-5)
            wanted = theirs.decode(encoded.latent_mean).sample
        torch.testing.assert_close(backbone.decode(encoded.latent_mean), wanted, atol=1e-4, rtol=1e-4)


def test_adapters_meet_features_of_their_level(backbone):
    encoded = backbone.encode(torch.rand(1, 3, 64, 96) * 2 - 1)
    assert tuple(f.shape[1] for f in encoded.features) == backbone.feature_channels
    gains, seen = [torch.ones(1, requires_grad=True) for _ in backbone.level_channels], []

    def adapt(level, x):
        assert x.shape[2:] == encoded.features[level].shape[2:]
        seen.append((level, x.shape[1]))
        return x * gains[level]

    latent = encoded.latent_mean.requires_grad_()
    backbone.decode(latent, adapt).square().mean().backward()
    assert seen == list(enumerate(backbone.level_channels))
    assert latent.grad.abs().sum() > 0
    assert all(gain.grad.abs() > 0 for gain in gains)
    assert all(p.grad is None for p in backbone.parameters())


@pytest.mark.parametrize("name", ["tiny", "sd"])
def test_missing_diffusers_is_said(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(EngineError, match="pip install diffusers"):
        load_backbone(name)


@pytest.mark.parametrize("name", ["tiny", "sd"])
def test_missing_weights_are_said(name, tmp_path):
    pytest.importorskip("diffusers")
    with pytest.raises(EngineError, match="nowhere"):
        load_backbone(name, source=tmp_path / "nowhere")


def test_weights_come_from_a_folder(backbone, tmp_path):
    backbone.autoencoder.save_pretrained(tmp_path)
    assert load_backbone(backbone.name, source=tmp_path).digest() == backbone.digest()
