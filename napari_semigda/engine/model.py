"""SemiGDA: learning to segment as mapping an image's latent to its mask's latent, then generating the mask.

Reads top to bottom as the paper does ("SemiGDA: Generative Dual-distribution Alignment for Semi-Supervised Medical
Image Segmentation", CVPR 2026): a frozen autoencoder, DAM with its two branches, CDSA on the frozen decoder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_semigda.engine import palette
from napari_semigda.engine.adapters import AdapterSet
from napari_semigda.engine.alignment import LatentEncoder, LatentMapper
from napari_semigda.engine.backbones import Backbone

V_SHARE = 0.2
"""Of branch V in the mean, unless enough images kept back say otherwise (`consensus`): its encoder is frozen, so C is
the better one as a rule; on each of five sets of images a fifth was within half a point of the best share."""


class Latents(NamedTuple):
    """What DAM gives for one image: both branches' latent of the mask, and the features for their adapters."""

    v: Tensor | None  # (B, Cz, H/8, W/8); None where branch V rests
    c: Tensor  # (B, Cz, H/8, W/8)
    features_v: tuple[Tensor, ...]  # frozen encoder's, coarse to fine
    features_c: tuple[Tensor, ...]  # CNN's, coarse to fine


class Branches(NamedTuple):
    """Log-probabilities of both branches, (B, K, H, W) each; `v` is None where branch V rests."""

    v: Tensor | None
    c: Tensor


class SemiGDA(nn.Module):
    """The whole network: everything but the backbone is trainable.

    Parameters
    ----------
    backbone
        The frozen autoencoder.
    class_count
        K, background included. No weight depends on it: classes are colours of a palette.
    mapper_width
        Channels of the latent mapping model's first level; None takes the backbone's (paper: 32).
    adapter_kernel
        Side of the skip adapters' first convolution; None takes the backbone's (paper: 3).
    fusion
        How branch C joins its coarse features (`alignment.FUSIONS`).
    """

    def __init__(
        self,
        backbone: Backbone,
        class_count: int,
        mapper_width: int | None = None,
        adapter_kernel: int | None = None,
        fusion: str = "normalised",
    ) -> None:
        super().__init__()
        self.class_count = class_count
        self.mapper_width = mapper_width or backbone.mapper_width
        self.adapter_kernel = adapter_kernel or backbone.adapter_kernel
        self.fusion = fusion
        self.v_share = V_SHARE
        """Of branch V in the mean of the two; the paper weighs them alike."""
        # The frozen generative model: image -> latent, latent -> picture.
        self.backbone = backbone
        self._context = backbone.feature_channels[0] if backbone.maps_features else 0
        # DAM: latent of the image -> latent of its mask, in two ways that can check each other.
        self.latent_mapper = LatentMapper(backbone.latent_channels, self.mapper_width, self._context)  # branch V
        self.latent_encoder = LatentEncoder(backbone.latent_channels, backbone.level_strides, fusion)  # branch C
        # CDSA: details for the frozen decoder.
        self.image_adapters, self.mask_adapters = (
            AdapterSet(backbone.level_channels, channels, self.adapter_kernel)
            for channels in (backbone.feature_channels, self.latent_encoder.feature_channels)
        )

    def mask_latent(self, mask: Tensor) -> Tensor:
        """The target of stage 1: a mask is a picture too. (B, H, W) class indices -> (B, Cz, H/8, W/8)."""
        return self.backbone.encode(palette.paint(mask, self.class_count)).latent_mean

    def align(self, image: Tensor, sample: bool = False, with_v: bool = True) -> Latents:
        """DAM: (B, 3, H, W) in [-1, 1] -> the mask's latent, as each branch sees it.

        With `sample`, branch V starts from a draw of the image's latent distribution instead of its mean (the paper
        does so in half of the training steps). Without `with_v`, only branch C works.
        """
        latent_v, features_v = self.map_latent(image, sample) if with_v else (None, ())
        latent_c, features_c = self.latent_encoder(image)
        return Latents(latent_v, latent_c, features_v, features_c)

    def map_latent(self, image: Tensor, sample: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Branch V's part of DAM: frozen encoder's latent of the image -> its mask's latent, and the features."""
        encoded = self.backbone.encode(image)
        latent = encoded.sample() if sample else encoded.latent_mean
        if self._context:
            latent = torch.cat([latent, encoded.features[0]], 1)
        return self.latent_mapper(latent), encoded.features

    def generate(self, latents: Latents) -> Branches:
        """CDSA: both latents through the frozen decoder, each with its own skip adapters -> log-probabilities."""
        v = None if latents.v is None else self._generate(latents.v, latents.features_v, self.image_adapters)
        return Branches(v, self._generate(latents.c, latents.features_c, self.mask_adapters))

    def forward(self, image: Tensor, sample: bool = False, with_v: bool = True) -> Branches:
        """(B, 3, H, W) in [-1, 1], sides multiples of 32 -> (B, K, H, W) log-probabilities of both branches."""
        return self.generate(self.align(image, sample, with_v))

    def _generate(self, latent: Tensor, features: tuple[Tensor, ...], adapters: AdapterSet) -> Tensor:
        picture = self.backbone.decode(latent, lambda level, x: adapters[level](x, features[level]))  # (B, 3, H, W)
        return palette.scores(picture, self.class_count)

    def trained_parts(self) -> dict[str, nn.Parameter]:
        """Every weight that training changes, by name; what a model file holds."""
        return {name: weight for name, weight in self.named_parameters() if not name.startswith("backbone.")}
