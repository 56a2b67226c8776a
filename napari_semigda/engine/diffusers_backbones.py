"""Stable Diffusion's autoencoder and its tiny stand-in as backbones, for machines with a GPU.

The networks and their weights are those of the `diffusers` package and its hub; this walks through them level by level,
because their own ``encode`` and ``decode`` show no features and let nobody in between.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_semigda.engine.backbones import Adapt, Backbone, Encoded
from napari_semigda.engine.sources import locate, read_autoencoder, require
from napari_semigda.engine.types import EngineError


class DiffusersBackbone(Backbone):
    """What the two have in common: four levels, latents of Stable Diffusion's kind, weights that come from elsewhere.

    Parameters
    ----------
    autoencoder
        Of `diffusers`, with its weights.
    origin : str
        Where they came from; a model file records it.
    """

    level_strides = (8, 4, 2, 1)
    _telling: tuple[str, ...]  # settings that change what the same weights compute

    def __init__(self, autoencoder: Any, origin: str = "") -> None:
        super().__init__()
        if not self._fits(autoencoder.config):
            raise EngineError(
                f"The autoencoder {origin} is not built like Stable Diffusion's (three colours, four levels, latents "
                f"at an eighth of the size), so the {self.name} backbone cannot use it: choose another one."
            )
        self.autoencoder = autoencoder
        self.origin = origin
        self.latent_channels = autoencoder.config.latent_channels

    def provenance(self) -> dict[str, str]:
        return {"backbone_source": self.origin, "backbone_digest": self.digest()}

    def digest(self) -> str:
        settings = {key: self.autoencoder.config[key] for key in self._telling}
        return hashlib.sha256(f"{super().digest()} {json.dumps(settings, sort_keys=True)}".encode()).hexdigest()

    def _fits(self, config: Any) -> bool:
        raise NotImplementedError


class StableDiffusionBackbone(DiffusersBackbone):
    """The paper's autoencoder: KL, stride 8, 4 latent channels, four levels down to full resolution.

    Parameters
    ----------
    autoencoder : diffusers.AutoencoderKL
    origin : str
    """

    name = "sd"
    _telling = ("act_fn", "norm_num_groups", "scaling_factor", "shift_factor")

    def __init__(self, autoencoder: Any, origin: str = "") -> None:
        super().__init__(autoencoder, origin)
        self.scale = autoencoder.config.scaling_factor
        self.shift = autoencoder.config.shift_factor or 0.0
        self.level_channels = tuple(block.resnets[0].out_channels for block in autoencoder.decoder.up_blocks)
        self.feature_channels = tuple(block.resnets[-1].out_channels for block in autoencoder.encoder.down_blocks)[::-1]
        self.freeze()

    def decode(self, latent: Tensor, adapt: Adapt | None = None) -> Tensor:
        decoder = self.autoencoder.decoder
        x = latent / self.scale + self.shift
        if self.autoencoder.post_quant_conv is not None:
            x = self.autoencoder.post_quant_conv(x)
        x = decoder.mid_block(decoder.conv_in(x))
        for level, block in enumerate(decoder.up_blocks):
            for number, resnet in enumerate(block.resnets):
                x = resnet(x, temb=None)
                if number == 0 and adapt is not None:
                    x = adapt(level, x)
            for up in block.upsamplers or ():
                x = up(x)
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))  # (B, 3, H, W)

    def _encode(self, image: Tensor) -> Encoded:
        encoder = self.autoencoder.encoder
        x, features = encoder.conv_in(image), []
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = resnet(x, temb=None)
            features.append(x)
            for down in block.downsamplers or ():
                x = down(x)
        moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(x))))
        if self.autoencoder.quant_conv is not None:
            moments = self.autoencoder.quant_conv(moments)
        mean, log_variance = moments.chunk(2, 1)
        log_variance = log_variance.clamp(-30, 20) + 2 * math.log(self.scale)
        return Encoded((mean - self.shift) * self.scale, log_variance, tuple(reversed(features)))

    def _fits(self, config: Any) -> bool:
        plain = {"DownEncoderBlock2D", "UpDecoderBlock2D"}
        types = [*config.down_block_types, *config.up_block_types]
        return len(types) == 8 and set(types) == plain and config.in_channels == config.out_channels == 3


class TinyBackbone(DiffusersBackbone):
    """A tiny autoencoder that shares Stable Diffusion's latents; it has no posterior, so its samples are its means.

    Parameters
    ----------
    autoencoder : diffusers.AutoencoderTiny
    origin : str
    """

    name = "tiny"
    _telling = ("act_fn", "upsample_fn")

    def __init__(self, autoencoder: Any, origin: str = "") -> None:
        super().__init__(autoencoder, origin)
        self.level_channels = tuple(autoencoder.config.decoder_block_out_channels)
        self.feature_channels = tuple(reversed(autoencoder.config.encoder_block_out_channels))
        self.freeze()

    def decode(self, latent: Tensor, adapt: Adapt | None = None) -> Tensor:
        x = 3 * torch.tanh(latent / 3)  # its authors' soft bound on outliers
        level, fresh = 0, True
        for layer in self.autoencoder.decoder.layers:
            x = layer(x)
            if isinstance(layer, nn.Upsample):
                level, fresh = level + 1, True
            elif fresh and _is_block(layer):
                x = x if adapt is None else adapt(level, x)
                fresh = False
        return 2 * x - 1  # (B, 3, H, W)

    def _encode(self, image: Tensor) -> Encoded:
        x, features, after_block = (image + 1) / 2, [], False
        for layer in self.autoencoder.encoder.layers:
            if after_block and not _is_block(layer):  # about to shrink, or to leave for the latent
                features.append(x)
            x = layer(x)
            after_block = _is_block(layer)
        return Encoded(x, torch.full_like(x, -30), tuple(reversed(features)))

    def _fits(self, config: Any) -> bool:
        blocks = (config.num_encoder_blocks, config.num_decoder_blocks)
        whole = all(len(counts) == 4 and min(counts) > 0 for counts in blocks)
        return whole and config.upsampling_scaling_factor == 2 and config.in_channels == config.out_channels == 3


def _is_block(layer: nn.Module) -> bool:
    return not isinstance(layer, (nn.Conv2d, nn.Upsample, nn.ReLU))


def load_diffusers_backbone(name: str, source: str | Path | None = None, download: bool = True) -> DiffusersBackbone:
    """The `sd` or `tiny` backbone; see `sources.locate` for what a source can be.

    Raises
    ------
    EngineError
        If `diffusers` is not installed, or there are no weights, or unreadable or unsuitable ones.
    """
    require("diffusers", name)  # before anything is downloaded for it
    found = locate(name, source, download)
    autoencoder = read_autoencoder(name, found)
    return (StableDiffusionBackbone if name == "sd" else TinyBackbone)(autoencoder, found.origin)
