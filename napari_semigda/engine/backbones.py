"""Frozen image autoencoders behind one small interface: pictures and masks become latents, latents become masks.

`compact` ships with the package. Its encoder begins with a frozen ImageNet EfficientNet-Lite0; only a light head and
the decoder are the project's own, trained by ``scripts/pretrain_compact.py``. Nothing of it runs at full resolution:
on a CPU those levels used to take two thirds of every training step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_semigda.engine.efficientnet import efficientnet_lite0
from napari_semigda.engine.types import EngineError

Adapt = Callable[[int, Tensor], Tensor]
"""(level, feature) -> feature of the same shape; level 0 is the coarsest of the decoder."""

COMPACT_WEIGHTS = Path(__file__).parent.parent / "weights" / "compact.safetensors"
SIDE_MULTIPLE = 32
"""Sides that every backbone takes are multiples of this."""


class Encoded(NamedTuple):
    """What a backbone sees in a batch of images; no part of it carries a gradient."""

    latent_mean: Tensor
    """(B, latent_channels, H / 8, W / 8) float32, about zero mean and unit spread."""
    log_variance: Tensor
    """Same shape; of the posterior around `latent_mean`."""
    features: tuple[Tensor, ...]
    """One a decoder level, coarse to fine, (B, feature_channels[level], h, w) at that level's resolution."""

    def sample(self) -> Tensor:
        """Mean plus noise of the posterior's spread."""
        return self.latent_mean + torch.exp(0.5 * self.log_variance) * torch.randn_like(self.latent_mean)


class Backbone(nn.Module):
    """A frozen autoencoder with latents at an eighth of the resolution.

    Gradients flow through `decode` to the latent and to what `adapt` returns, never into the backbone's own weights.

    Attributes
    ----------
    name : str
    latent_channels : int
    downsampling : int
        8 for all.
    feature_channels : tuple of int
        Of `Encoded.features`, coarse to fine: one per decoder level.
    level_channels : tuple of int
        Width of the decoder at every level, coarse to fine.
    level_strides : tuple of int
        Pixels of the image that one pixel of a level stands for, coarse to fine.
    mapper_width : int
        Channels of the first level of the latent mapping model that suits these latents.
    adapter_kernel : int
        Side of the first convolution of the skip adapters that suit these levels.
    maps_features : bool
        Whether that model sees the coarsest features beside the latent.
    """

    name: str
    latent_channels: int
    feature_channels: tuple[int, ...]
    level_channels: tuple[int, ...]
    level_strides: tuple[int, ...]
    downsampling = 8
    mapper_width = 32  # the paper's
    adapter_kernel = 3  # the paper's
    maps_features = False

    def encode(self, image: Tensor) -> Encoded:
        """Latent and features of images or painted masks.

        Parameters
        ----------
        image : Tensor
            (B, 3, H, W) float in [-1, 1]; H and W multiples of 32.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % SIDE_MULTIPLE or image.shape[3] % SIDE_MULTIPLE:
            raise ValueError(f"images are (B, 3, H, W) with sides in multiples of 32, got {tuple(image.shape)}")
        # Encodings are not kept: every crop is cut, turned and coloured anew, so none is seen twice. The paper's fixed
        # pictures could be encoded once; of a step with `sd` that is a twelfth of the arithmetic, which is not worth
        # training on fewer different crops. Within a step every crop is encoded once and serves both branches.
        with torch.no_grad():
            return self._encode(image)

    def decode(self, latent: Tensor, adapt: Adapt | None = None) -> Tensor:
        """Picture that a latent stands for.

        Parameters
        ----------
        latent : Tensor
            (B, latent_channels, H / 8, W / 8).
        adapt : callable, optional
            Called as ``adapt(level, x)`` after the first block of each level; what it returns goes on in place of x.

        Returns
        -------
        Tensor
            (B, 3, H, W), roughly in [-1, 1].
        """
        raise NotImplementedError

    def _encode(self, image: Tensor) -> Encoded:
        raise NotImplementedError

    def portable_state(self) -> dict[str, Tensor]:
        """Weights a model file must carry to give the same masks after the package's own have changed."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over a `portable_state` of an earlier release.

        Raises
        ------
        EngineError
            If it is of another backbone.
        """
        if state:
            raise EngineError(f"The model holds weights that the {self.name} backbone cannot use; train it again.")

    def provenance(self) -> dict[str, str]:
        """What a model file records to find and check the frozen weights; nothing when `portable_state` has them."""
        return {}

    def digest(self) -> str:
        """SHA-256 of all frozen weights: two backbones with the same digest give the same latents and masks."""
        total = hashlib.sha256(self.name.encode())
        for key, tensor in sorted(self.state_dict().items()):
            total.update(f"{key} {tuple(tensor.shape)}".encode())
            total.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    def freeze(self) -> Backbone:
        """Switch off the gradients of all weights; returns itself."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode whatever a surrounding model does."""
        return super().train(False)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity, without normalisation: a frozen decoder needs none, and it costs."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x)), inplace=True))


class CompactHead(nn.Module):
    """Features of the frozen trunk and the picture itself -> moments of the latent, all at stride 8."""

    def __init__(self, channels_in: int, width: int, latent_channels: int):
        super().__init__()
        self.inlet = nn.Conv2d(channels_in, width, 1)
        self.blocks = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.moments = nn.Conv2d(width, 2 * latent_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H/8, W/8) -> (B, 2 latent_channels, H/8, W/8): means, then log-variances."""
        return self.moments(F.relu(self.blocks(self.inlet(x))))


class CompactDecoder(nn.Module):
    """Latent -> colours over three levels (strides 8, 4, 2); the last step to full resolution only moves pixels."""

    def __init__(self, latent_channels: int, widths: tuple[int, ...]):
        super().__init__()
        self.inlet = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(nn.ModuleList((ResidualBlock(w), ResidualBlock(w))) for w in widths)
        self.ups = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in pairwise(widths))
        self.outlet = nn.Conv2d(widths[-1], 12, 3, padding=1)

    def forward(self, latent: Tensor, adapt: Adapt | None) -> Tensor:
        x = self.inlet(latent)  # (B, 96, H/8, W/8)
        for level, (first, second) in enumerate(self.levels):
            if level:
                x = F.pixel_shuffle(self.ups[level - 1](F.relu(x)), 2)  # (B, 48, H/4, W/4), then (B, 24, H/2, W/2)
            x = first(x)
            if adapt is not None:
                x = adapt(level, x)
            x = second(x)
        return F.pixel_shuffle(self.outlet(F.relu(x)), 2)  # (B, 3, H, W)


class CompactBackbone(Backbone):
    """EfficientNet-Lite0 encoder, 16-channel latent and a narrow decoder: made for a laptop's CPU.

    Parameters
    ----------
    weights : Path, optional
        Head and decoder; None leaves them random (only the pretraining script wants that).
    """

    name = "compact"
    latent_channels = 16
    feature_channels = (152, 24, 28)
    level_channels = (96, 48, 24)
    level_strides = (8, 4, 2)
    mapper_width = 16
    adapter_kernel = 1  # a quarter more steps in the same minutes, and better masks for it: benchmarks/tried.md
    maps_features = True  # the latents hold what a picture looks like, the features what it shows: 2 Dice points for V

    def __init__(self, weights: Path | None = COMPACT_WEIGHTS):
        super().__init__()
        self.trunk = efficientnet_lite0(last_stride=16)
        # Pixels moved to channels at stride 8: picture 3 x 64, stride 2 16 x 16, stride 4 24 x 4; then stride 8 152.
        self.head = CompactHead(192 + 256 + 96 + 152, 96, self.latent_channels)
        self.decoder = CompactDecoder(self.latent_channels, self.level_channels)
        # Set after pretraining, so that every latent channel has zero mean and unit spread for the mapping models.
        self.register_buffer("latent_shift", torch.zeros(self.latent_channels, 1, 1))
        self.register_buffer("latent_scale", torch.ones(self.latent_channels, 1, 1))
        if weights is not None:
            self.restore(_read_weights(weights))
        self.freeze()

    def decode(self, latent: Tensor, adapt: Adapt | None = None) -> Tensor:
        return self.decoder(latent * self.latent_scale + self.latent_shift, adapt)

    def _encode(self, image: Tensor) -> Encoded:
        features, head_input = self.look(image)
        mean, log_variance = self.head(head_input).chunk(2, 1)
        mean = (mean - self.latent_shift) / self.latent_scale
        log_variance = log_variance.clamp(-30, 20) - 2 * self.latent_scale.log()
        return Encoded(mean, log_variance, features)

    def look(self, image: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features for the decoder levels, and the head's input (B, 696, H/8, W/8), of (B, 3, H, W) images."""
        half, quarter, eighth, sixteenth = self.trunk(image)
        coarse = F.interpolate(sixteenth, scale_factor=2, mode="bilinear", align_corners=False)
        coarse = torch.cat((eighth, coarse), 1)  # (B, 152, H/8, W/8)
        fine = torch.cat((half, F.pixel_unshuffle(image, 2)), 1)  # (B, 28, H/2, W/2)
        head_input = (F.pixel_unshuffle(image, 8), F.pixel_unshuffle(half, 4), F.pixel_unshuffle(quarter, 2), coarse)
        return (coarse, quarter, fine), torch.cat(head_input, 1)

    def portable_state(self) -> dict[str, Tensor]:
        return {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items() if not k.startswith("trunk.")}

    def restore(self, state: dict[str, Tensor]) -> None:
        own = self.portable_state()
        if set(state) != set(own) or any(state[key].shape != own[key].shape for key in own):
            raise EngineError("These are not weights of the compact backbone of this version; train the model again.")
        self.load_state_dict(state, strict=False)


def load_backbone(
    name: str, device: str | torch.device = "cpu", source: str | Path | None = None, download: bool = True
) -> Backbone:
    """Backbone by name, frozen, on a device.

    Parameters
    ----------
    name : {"auto", "compact", "tiny", "sd"}
        "auto" is the compact one.
    device : str or torch.device
        Where its weights go.
    source : str or Path, optional
        For "tiny" and "sd": a file or a folder with the weights, or a name on the hub.
    download : bool
        Whether a name on the hub may be downloaded when it is not on this computer yet.

    Raises
    ------
    EngineError
        If there is no such backbone, or its weights or the package it needs are missing.
    """
    if name in ("auto", "compact"):
        if source is not None:
            raise EngineError(
                f"The compact backbone comes with the package, so {source} is of no use to it: "
                "leave the source out, or choose the backbone tiny or sd."
            )
        return CompactBackbone().to(device, memory_format=torch.channels_last)  # a sixth faster on a CPU
    if name in ("tiny", "sd"):
        # diffusers takes seconds to import, and most people never need it.
        from napari_semigda.engine.diffusers_backbones import load_diffusers_backbone

        return load_diffusers_backbone(name, source, download).to(device)
    raise EngineError(f"There is no backbone called {name!r}; choose auto, compact, tiny or sd.")


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        # Stored in half precision; every number is used as the float32 nearest to it, on all devices alike.
        return {key: tensor.float() for key, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"The compact backbone's weights ({path.name}) are missing or damaged; install napari-semigda again."
        ) from error
