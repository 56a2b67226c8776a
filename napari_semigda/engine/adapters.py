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

    Parameters
    ----------
    decoder_channels, encoder_channels
        c and e.
    kernel
        Side of the first convolution, 3 in the paper. It brings 2c channels down to c, so with 1 an adapter costs less
        than half.
    """

    def __init__(self, decoder_channels: int, encoder_channels: int, kernel: int = 3) -> None:
        super().__init__()
        groups = 4 if decoder_channels % 4 == 0 else 1
        self.project = nn.Conv2d(encoder_channels, decoder_channels, 1)
        self.mix = nn.Sequential(
            nn.GroupNorm(groups, 2 * decoder_channels),
            nn.SiLU(),
            nn.Conv2d(2 * decoder_channels, decoder_channels, kernel, padding=kernel // 2),
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

    def __init__(self, level_channels: tuple[int, ...], feature_channels: tuple[int, ...], kernel: int = 3) -> None:
        super().__init__(SkipAdapter(c, e, kernel) for c, e in zip(level_channels, feature_channels, strict=True))
