"""DAM, the dual-distribution alignment: two encoders that map an image to the latent of its mask (paper, section 3.2).

Branch V maps the frozen VAE's latent of the image; branch C is a convolutional network on the image itself. On a
labelled image both are pulled towards the latent of its mask, on an unlabelled one towards each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_semigda.engine.efficientnet import efficientnet_lite0


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3 x 3 convolution, twice, beside the identity: (B, in, h, w) -> (B, out, h, w)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(_groups(channels_in), channels_in),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            nn.GroupNorm(_groups(channels_out), channels_out),
            nn.SiLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class NormalisedBlock(nn.Sequential):
    """3 x 3 convolution, GroupNorm, ReLU, twice: (B, in, h, w) -> (B, out, h, w) without anything that bypasses it.

    What comes out has the same mean and spread in every picture, whatever its colours do to the features that go in.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            convolution = nn.Conv2d(channels, channels_out, 3, padding=1, bias=False)
            layers += [convolution, nn.GroupNorm(_groups(channels_out), channels_out), nn.ReLU()]
        super().__init__(*layers)


FUSIONS: dict[str, type[nn.Module]] = {"normalised": NormalisedBlock, "residual": ResidualBlock}
"""How branch C joins its coarse features; model files of schema 1 and 2 have the residual one, which costs up to three
Dice points (`benchmarks/tried.md`)."""


class SpatialAttention(nn.Module):
    """Single-head self-attention over all positions of a latent: (B, c, h, w) -> (B, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        nn.init.zeros_(self.project.weight)  # starts as the identity
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)[:, None]  # (B, 1, h*w, c): only with heads is it fused on CPUs
        query, key, value = self.query_key_value(tokens).chunk(3, dim=-1)
        mixed = self.project(F.scaled_dot_product_attention(query, key, value)[:, 0])  # (B, h*w, c)
        return x + mixed.transpose(1, 2).unflatten(2, x.shape[-2:])


class LatentMapper(nn.Module):
    """Branch V's trainable part: a residual U-shape without down-sampling, attention after every block.

    Parameters
    ----------
    latent_channels
        Channels of the VAE's latent, in and out.
    width
        Channels of the first level; the paper has 32.
    context
        Channels that come in beside the latent; the paper has none.
    multipliers
        Width of every level, in units of `width`; the paper has 1, 2, 4, 4.
    """

    def __init__(
        self,
        latent_channels: int,
        width: int = 32,
        context: int = 0,
        multipliers: tuple[int, ...] = (1, 2, 4, 4),
    ) -> None:
        super().__init__()
        widths = [width * m for m in multipliers]
        self.enter = nn.Conv2d(latent_channels + context, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_attended(a, b) for a, b in zip([widths[0], *widths], widths, strict=False))
        joined = [below + beside for below, beside in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        self.up = nn.ModuleList(_attended(a, b) for a, b in zip(joined, widths[-2::-1], strict=True))
        self.leave = nn.Conv2d(widths[0], latent_channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, Cz + context, h/8, w/8) latent of the image and what is beside it -> latent of its mask (B, Cz, ...)."""
        x = self.enter(latent)
        beside = []
        for block in self.down:
            x = block(x)
            beside.append(x)
        beside.pop()
        for block in self.up:
            x = block(torch.cat([x, beside.pop()], dim=1))
        return self.leave(x)


class LatentEncoder(nn.Module):
    """Branch C: an ImageNet-pretrained CNN, fine-tuned, whose head predicts the latent of the mask.

    The paper trains a ResNet-34-like network from scratch; with a few painted images and minutes of CPU the pretrained
    EfficientNet-Lite0 is what makes the masks good.

    Parameters
    ----------
    latent_channels
        Channels of the VAE's latent.
    level_strides
        Of the decoder levels that want a feature.
    fusion
        What makes one feature of the three coarse ones, see `FUSIONS`.
    """

    WIDTH = 96
    RAW = 16  # channels made of the picture itself, for structures thinner than a stride

    def __init__(self, latent_channels: int, level_strides: tuple[int, ...], fusion: str) -> None:
        super().__init__()
        self.trunk = efficientnet_lite0()
        self.lateral = nn.ModuleList(nn.Conv2d(c, self.WIDTH, 1) for c in (40, 112, 320))
        self.fuse = FUSIONS[fusion](self.WIDTH, self.WIDTH)
        self.head = nn.Conv2d(self.WIDTH, latent_channels, 3, padding=1)
        self.raw = nn.Conv2d(12, self.RAW, 3, padding=1)
        if 1 in level_strides:
            self.finest = nn.Conv2d(3, self.RAW, 3, padding=1)
        width = {8: self.WIDTH, 4: 24, 2: 16 + self.RAW, 1: self.RAW}
        self.level_strides = level_strides
        self.feature_channels = tuple(width[stride] for stride in level_strides)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, 3, H, W) in [-1, 1] -> latent mean (B, Cz, H/8, W/8), and a feature for each decoder level's adapter."""
        s2, s4, *deep = self.trunk(image)
        size = deep[0].shape[-2:]
        fused = sum(
            F.interpolate(lateral(x), size=size, mode="bilinear", align_corners=False)
            for lateral, x in zip(self.lateral, deep, strict=True)
        )
        fused = self.fuse(fused)  # (B, 96, H/8, W/8)
        fine = torch.cat([s2, F.silu(self.raw(F.pixel_unshuffle(image, 2)))], dim=1)  # (B, 32, H/2, W/2)
        features = {8: fused, 4: s4, 2: fine}
        if 1 in self.level_strides:
            features[1] = F.silu(self.finest(image))  # (B, 16, H, W)
        return self.head(F.silu(fused)), tuple(features[stride] for stride in self.level_strides)


def alignment_loss(latent_v: Tensor, latent_c: Tensor, mask_latent: Tensor) -> Tensor:
    """Both branches' squared distance to the mask's latent on labelled images (paper, stage 1)."""
    return F.mse_loss(latent_v, mask_latent) + F.mse_loss(latent_c, mask_latent)


def cross_alignment_loss(latent_v: Tensor, latent_c: Tensor) -> Tensor:
    """Each branch's squared distance to the *other* branch's detached latent on unlabelled images (paper, stage 1)."""
    return F.mse_loss(latent_v, latent_c.detach()) + F.mse_loss(latent_c, latent_v.detach())


def _attended(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(channels_in, channels_out), SpatialAttention(channels_out))


def _groups(channels: int) -> int:
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)
