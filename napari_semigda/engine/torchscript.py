"""A finished model as one TorchScript file: the whole way from a picture to probabilities, for programs without us.

The network is traced; what surrounds it (working scale, windows, two orientations) depends on the size of the picture
and is scripted, which is why it is written here once more in the few words TorchScript knows, and why MONAI's sliding
window cannot be used. `tests/engine/test_torchscript.py` holds it against `predict`.
"""

# No `from __future__ import annotations`: TorchScript reads the types of what it compiles.
import math
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map
from torch import Tensor, nn

from napari_semigda.engine.checkpoint import load_model
from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.pose import averaging_pose
from napari_semigda.engine.predict import OVERLAP, WHOLE, window_side
from napari_semigda.engine.types import EngineError
from napari_semigda.engine.view import STRIDE, View

TOLERANCE = 1e-3
"""Most that a probability of the exported graph may differ from our own prediction, on any machine."""


class _Network(nn.Module):
    """What is traced: (B, 3, h, w) in [-1, 1], sides multiples of 32 -> (B, K, h, w) probabilities."""

    def __init__(self, model: SemiGDA) -> None:
        super().__init__()
        self.model = model

    def forward(self, window: Tensor) -> Tensor:
        v, c = self.model(window)
        return Belief(v.exp(), c.exp(), self.model.v_share).probability


class PictureToProbabilities(nn.Module):
    """What is scripted: (B, 1 or 3, H, W) in [0, 1] -> (B, K, H, W) probabilities at the same height and width.

    Parameters
    ----------
    network
        A traced `_Network`.
    view
        How the model looks at pictures.
    """

    def __init__(self, network: nn.Module, view: View) -> None:
        super().__init__()
        self.network = network
        self.stride: int = STRIDE
        self.scale: float = view.scale
        self.whole: float = WHOLE * view.crop  # working pixels; larger pictures are seen through windows
        self.window: int = window_side(view.crop)
        self.interval: int = max(1, int(self.window * (1 - OVERLAP)))
        pose = averaging_pose(view.poses)
        self.turned: bool = pose != 0
        self.flips: list[int] = [axis for bit, axis in ((1, -1), (2, -2)) if pose & bit] or [-1]
        importance = compute_importance_map((self.window, self.window), mode="gaussian")
        self.register_buffer("importance", importance, persistent=True)

    def forward(self, picture: Tensor) -> Tensor:
        if picture.shape[1] == 1:
            picture = picture.expand(-1, 3, -1, -1)
        height, width = picture.shape[2], picture.shape[3]
        size = [self.working(height), self.working(width)]
        if size != [height, width]:
            picture = F.interpolate(picture, size, mode="bilinear", align_corners=False, antialias=True)
        image = picture * 2 - 1
        probability = self.look(image)
        if self.turned:
            turned = self.look(image.flip(self.flips)).flip(self.flips)
            probability = (probability + turned) / 2
        if size != [height, width]:
            probability = F.interpolate(probability, [height, width], mode="bilinear", align_corners=False)
        return probability

    def working(self, side: int) -> int:
        """A side in working pixels; a half is rounded to the even side, as in `view.scaled_size`."""
        exact = side * self.scale
        low = math.floor(exact)
        up = exact - low > 0.5 or (exact - low == 0.5 and low % 2 == 1)
        return max(self.stride, int(low) + int(up))

    def look(self, image: Tensor) -> Tensor:
        """Probabilities of a picture at the working scale, at once or through windows."""
        height, width = image.shape[2], image.shape[3]
        if max(height, width) > self.whole:
            return self.through_windows(image)
        padding = [0, -width % self.stride, 0, -height % self.stride]
        padded = F.pad(image, padding, mode="replicate")
        return self.network(padded)[:, :, :height, :width]

    def through_windows(self, image: Tensor) -> Tensor:
        """Overlapping windows; where they meet, the nearer a window's middle the more it counts."""
        height, width = image.shape[2], image.shape[3]
        more_rows, more_columns = max(0, self.window - height), max(0, self.window - width)
        top, left = more_rows // 2, more_columns // 2
        image = F.pad(image, [left, more_columns - left, top, more_rows - top], mode="replicate")
        total, weight = torch.zeros(0), torch.zeros(0)
        for row in self.starts(image.shape[2]):
            for column in self.starts(image.shape[3]):
                bottom, right = row + self.window, column + self.window
                seen = self.network(image[:, :, row:bottom, column:right].contiguous())
                if total.numel() == 0:
                    total = torch.zeros([image.shape[0], seen.shape[1], image.shape[2], image.shape[3]]).to(seen)
                    weight = torch.zeros([image.shape[2], image.shape[3]]).to(seen)
                total[:, :, row:bottom, column:right] += seen * self.importance
                weight[row:bottom, column:right] += self.importance
        return (total / weight)[:, :, top : top + height, left : left + width]

    def starts(self, length: int) -> list[int]:
        """Where windows begin along a side; the last one ends with it."""
        last = length - self.window
        starts: list[int] = []
        at = 0
        while at < last:
            starts.append(at)
            at += self.interval
        starts.append(last)
        return starts


def save_torchscript(module: torch.jit.ScriptModule, path: Path) -> None:
    """Write a module without what PyTorch notes for debugging: paths on this computer, which may name its user."""
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as below
        torch.jit.save(module, file)
    with ZipFile(file) as whole, ZipFile(path, "w", ZIP_STORED) as part:  # PyTorch reads stored entries only
        for entry in whole.namelist():
            if not entry.endswith(".debug_pkl"):
                part.writestr(entry, whole.read(entry))


def to_torchscript(model: Path) -> tuple[torch.jit.ScriptModule, Mapping[str, Any]]:
    """A model file as a TorchScript module that needs nothing but PyTorch, and the file's header.

    Returns
    -------
    module
        (B, 1, H, W) or (B, 3, H, W) float32 in [0, 1], of any size -> (B, K, H, W) float32 probabilities of the
        classes in the order of the header.
    header
        See `read_header`.

    Raises
    ------
    EngineError
        When the file cannot be used, or is built on weights that are not ours to pass on.
    """
    network, header = load_model(model, torch.device("cpu"))
    if header["backbone"] != "compact":
        raise EngineError(
            f"{model.name} is built on the backbone {header['backbone']}, whose weights would be in the package and "
            "have a licence of their own: train a model on the backbone compact to export it."
        )
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch has announced the end of TorchScript for new work; what reads these packages wants it all the same.
        # The tracer warns of checks on shapes, which only guard the inside.
        warnings.simplefilter("ignore")
        example = torch.zeros(1, 3, 2 * STRIDE, 3 * STRIDE)
        traced = torch.jit.trace(_Network(network).eval(), example, check_trace=False)
        return torch.jit.script(PictureToProbabilities(traced, View.of_model(header)).eval()), header
