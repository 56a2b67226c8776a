"""CDSA, the skip adapters: trainable bridges that give the frozen decoder the details a latent cannot hold.

Paper, section 3.3: after the first block of each decoder level, concat(decoder feature, encoder feature) goes through
a residual block 2c -> c. One set takes the frozen VAE encoder's features (branch V), one the CNN's (branch C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SkipAdapter(nn.Module):
    """Adds what an encoder level saw to a decoder level: (B, c, h, w), (B, e, h, w) -> (B, c, h, w).

    The last convolution starts at zero, so that an untrained adapter leaves the generative decoder as it is.
    """

    def __init__(self, decoder_channels: int, encoder_channels: int) -> None:
        super().__init__()
        groups = 4 if decoder_channels % 4 == 0 else 1
        self.project = nn.Conv2d(encoder_channels, decoder_channels, 1)
        self.mix = nn.Sequential(
            nn.GroupNorm(groups, 2 * decoder_channels),
            nn.SiLU(),
            nn.Conv2d(2 * decoder_channels, decoder_channels, 3, padding=1),
            nn.GroupNorm(groups, decoder_channels),
            nn.SiLU(),
            nn.Conv2d(decoder_channels, decoder_channels, 3, padding=1),
        )
        nn.init.zeros_(self.mix[-1].weight)
        nn.init.zeros_(self.mix[-1].bias)

    def forward(self, decoder_feature: Tensor, encoder_feature: Tensor) -> Tensor:
        both = torch.cat([decoder_feature, self.project(encoder_feature)], dim=1)  # (B, 2c, h, w)
        return decoder_feature + self.mix(both)


class AdapterSet(nn.ModuleList):
    """One adapter a decoder level, coarse to fine."""

    def __init__(self, level_channels: tuple[int, ...], feature_channels: tuple[int, ...]) -> None:
        super().__init__(SkipAdapter(c, e) for c, e in zip(level_channels, feature_channels, strict=True))
