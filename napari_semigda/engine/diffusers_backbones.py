"""Stable Diffusion's autoencoder and its tiny stand-in as backbones, for machines with a GPU.

The networks and their weights are those of the `diffusers` package and its hub; this walks through them level by level,
because their own ``encode`` and ``decode`` show no features and let nobody in between.
"""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_semigda.engine.backbones import Adapt, Backbone, Encoded
from napari_semigda.engine.types import EngineError

HUB = {"sd": ("AutoencoderKL", "stabilityai/sd-vae-ft-mse"), "tiny": ("AutoencoderTiny", "madebyollin/taesd")}
"""Class of `diffusers` and where its weights are, by backbone."""


class StableDiffusionBackbone(Backbone):
    """The paper's autoencoder: KL, stride 8, 4 latent channels, four levels down to full resolution.

    Parameters
    ----------
    autoencoder : diffusers.AutoencoderKL
    """

    name = "sd"
    level_strides = (8, 4, 2, 1)

    def __init__(self, autoencoder: Any):
        super().__init__()
        self.autoencoder = autoencoder
        self.latent_channels = autoencoder.config.latent_channels
        self.scale = autoencoder.config.scaling_factor
        self.level_channels = tuple(block.resnets[0].out_channels for block in autoencoder.decoder.up_blocks)
        self.feature_channels = tuple(block.resnets[-1].out_channels for block in autoencoder.encoder.down_blocks)[::-1]
        self.freeze()

    def decode(self, latent: Tensor, adapt: Adapt | None = None) -> Tensor:
        decoder = self.autoencoder.decoder
        x = latent / self.scale
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
        return Encoded(mean * self.scale, log_variance, tuple(reversed(features)))


class TinyBackbone(Backbone):
    """A tiny autoencoder that shares Stable Diffusion's latents; it has no posterior, so its samples are its means.

    Parameters
    ----------
    autoencoder : diffusers.AutoencoderTiny
    """

    name = "tiny"
    level_strides = (8, 4, 2, 1)

    def __init__(self, autoencoder: Any):
        super().__init__()
        self.autoencoder = autoencoder
        self.latent_channels = autoencoder.config.latent_channels
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


def _is_block(layer: nn.Module) -> bool:
    return not isinstance(layer, (nn.Conv2d, nn.Upsample, nn.ReLU))


def load_diffusers_backbone(name: str, source: str | Path | None = None) -> Backbone:
    """The `sd` or `tiny` backbone.

    Parameters
    ----------
    name : {"sd", "tiny"}
    source : str or Path, optional
        Folder in the layout of `diffusers` (``config.json`` and safetensors), or a name on the hub; by default the
        weights in `HUB`, downloaded once.

    Raises
    ------
    EngineError
        If `diffusers` is not installed, or there are no weights or unreadable ones.
    """
    kind, published = HUB[name]
    try:
        diffusers = import_module("diffusers")
    except ImportError as error:
        raise EngineError(
            f"The {name} backbone needs the diffusers package; install it with: pip install diffusers, "
            "or use the compact backbone."
        ) from error
    try:
        # Never pickle: weights from strangers are data, not code.
        autoencoder = getattr(diffusers, kind).from_pretrained(str(source or published), use_safetensors=True)
    except Exception as error:
        raise EngineError(
            f"The {name} backbone's weights could not be had from {source or published}; "
            "check the connection or the folder, or use the compact backbone."
        ) from error
    return (StableDiffusionBackbone if name == "sd" else TinyBackbone)(autoencoder)
