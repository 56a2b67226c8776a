"""Stage 2 of the published recipe, written plainly from the paper's description: what speed.py compares with.

float32, every picture encoded anew, labelled, unlabelled and both kinds of mixed pictures in passes of their own,
plain SGD. The autoencoder and the latent mapping model are those of the product; branch C, the skip adapters, the
output and the losses are the paper's.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor, nn

from napari_semigda.engine.alignment import LatentMapper, ResidualBlock
from napari_semigda.engine.augment import random_box
from napari_semigda.engine.diffusers_backbones import StableDiffusionBackbone
from napari_semigda.engine.losses import ramp_up

BATCH = 2  # labelled, and as many unlabelled


class BasicBlock(nn.Module):
    """Of a ResNet-34: two 3 x 3 convolutions with batch normalisation beside the identity."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.skip = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.skip(x) + self.body(x))


class PaperCNN(nn.Module):
    """Branch C: (B, 3, H, W) -> 8 moments at stride 8, and a feature for each decoder level, coarse to fine."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, widths[0], 7, 1, 3, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks = (3, 4, 6, 3)
        self.stages = nn.ModuleList(
            nn.Sequential(BasicBlock(a, b, stride), *(BasicBlock(b, b, 1) for _ in range(count - 1)))
            for a, b, stride, count in zip((widths[0], *widths), widths, (1, 2, 2, 2), blocks, strict=False)
        )
        self.head = nn.Conv2d(widths[-1], 8, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        x, features = self.first(image), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.head(x), tuple(reversed(features))


class PublishedRecipe(nn.Module):
    """The network and one step of its stage 2.

    Parameters
    ----------
    backbone
        The frozen autoencoder; its widths are the CNN's too, so that both sets of adapters fit the decoder.
    """

    def __init__(self, backbone: StableDiffusionBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.mapper = LatentMapper(backbone.latent_channels)
        self.cnn = PaperCNN(backbone.feature_channels[::-1])
        pairs = list(zip(backbone.level_channels, backbone.feature_channels, strict=True))
        self.image_adapters, self.mask_adapters = (
            nn.ModuleList(ResidualBlock(decoder + encoder, decoder) for decoder, encoder in pairs) for _ in range(2)
        )
        trained = [w for w in self.parameters() if w.requires_grad]
        self.optimiser = torch.optim.SGD(trained, lr=1e-2, momentum=0.9, weight_decay=1e-4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> foreground probability of both branches, (B, H, W) each."""
        encoded = self.backbone.encode(image)
        latent = encoded.sample() if torch.rand(()) < 0.5 else encoded.latent_mean
        moments, features = self.cnn(image)
        mean = self.backbone.autoencoder.quant_conv(moments).chunk(2, 1)[0] * self.backbone.scale
        return (
            self._generate(self.mapper(latent), encoded.features, self.image_adapters),
            self._generate(mean, features, self.mask_adapters),
        )

    def step(self, labelled: Tensor, mask: Tensor, unlabelled: Tensor, progress: float = 1.0) -> None:
        """One optimiser step after the first third of the run.

        Parameters
        ----------
        labelled, unlabelled
            (B, 3, H, W) in [-1, 1].
        mask
            (B, H, W) float, 0 or 1.
        progress
            0..1 of the run, for the ramp.
        """
        weight = 0.3 * ramp_up(progress)
        v, c = self(labelled)
        loss = dice_loss(v, mask) + dice_loss(c, mask)
        v, c = self(unlabelled)
        pseudo_v, pseudo_c = pseudo_mask(v), pseudo_mask(c)
        loss = loss + weight * (dice_loss(v, pseudo_c) + dice_loss(c, pseudo_v))
        box = random_box(*mask.shape[-2:])
        pictures = mix_boxes(labelled, unlabelled, box)
        targets_v, targets_c = mix_boxes(mask, pseudo_v, box), mix_boxes(mask, pseudo_c, box)
        for picture, target_v, target_c in zip(pictures, targets_v, targets_c, strict=True):
            v, c = self(picture)
            loss = loss + weight * (dice_loss(v, target_c) + dice_loss(c, target_v))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def _generate(self, latent: Tensor, features: tuple[Tensor, ...], adapters: nn.ModuleList) -> Tensor:
        adapt = lambda level, x: adapters[level](torch.cat([x, features[level]], 1))  # noqa: E731
        picture = self.backbone.decode(latent, adapt)  # (B, 3, H, W)
        return ((picture.mean(1) + 1) / 2).clamp(0, 1)


def mix_boxes(first: Tensor, second: Tensor, box: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    """Both with a box of the other pasted in: pictures (B, 3, H, W) and masks (B, H, W) alike."""
    mixed = first.clone(), second.clone()
    for one, other in zip(mixed, (second, first), strict=True):
        one[..., *box] = other[..., *box]
    return mixed


def dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - Dice over a batch, of (B, H, W) each."""
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + 1e-5) / (probability.square().sum() + target.square().sum() + 1e-5)


def pseudo_mask(probability: Tensor) -> Tensor:
    """The largest piece of p^10 >= 0.5 in each picture: (B, H, W) float, 0 or 1."""
    sure = (probability.detach() ** 10 >= 0.5).cpu().numpy()
    pieces = [label(picture)[0] for picture in sure]
    largest = [p == np.bincount(p.ravel())[1:].argmax() + 1 if p.any() else np.zeros_like(p, bool) for p in pieces]
    return torch.from_numpy(np.stack(largest)).to(probability)
