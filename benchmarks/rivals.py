"""What a lab could use instead, trained on the very crops, augmentation and clock that SemiGDA gets.

- ``forest``: a random forest on scikit-image's multi-scale features (scikit-learn).
- ``deep-forest``: the same with what our pretrained encoder, frozen, sees in the picture, as in napari-convpaint.
- ``unet``: MONAI's BasicUNet from scratch.
- ``encoder-unet``: an ordinary U-Net decoder on our pretrained, fine-tuned encoder. The honest rival.
- ``mean-teacher``: that U-Net with a Mean Teacher on the unlabelled images (Tarvainen & Valpola, 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from answers import Answer, Look
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from napari_semigda.engine.alignment import NormalisedBlock
from napari_semigda.engine.augment import Augmentation
from napari_semigda.engine.average import MovingAverage
from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.contrast import choose_reading
from napari_semigda.engine.device import mixed_precision, pick_device
from napari_semigda.engine.efficientnet import efficientnet_lite0
from napari_semigda.engine.losses import mask_loss, ramp_up
from napari_semigda.engine.model import Branches
from napari_semigda.engine.normalise import Input
from napari_semigda.engine.predict import believe, to_prediction
from napari_semigda.engine.sampling import CropSampler
from napari_semigda.engine.schedule import Clock
from napari_semigda.engine.types import Plane, Settings
from napari_semigda.engine.view import PlaneReader, choose_view

# Crops a step. Brain slices .853 with four, .869 with two; glands .872, .875; membranes .803, .801. One is no
# better: glands .876 with two, .864 with one, hippocampus .878, .880.
BATCH = 2


class EncoderUNet(nn.Module):
    """U-Net decoder (upsample, concatenate, two convolutions) on EfficientNet-Lite0: (B, 3, H, W) -> (B, K, H, W)."""

    def __init__(self, class_count: int) -> None:
        super().__init__()
        self.trunk = efficientnet_lite0()
        self.up = nn.ModuleList(
            NormalisedBlock(a + b, c) for a, b, c in ((320, 112, 128), (128, 40, 96), (96, 24, 48), (48, 16, 32))
        )
        self.head = nn.Conv2d(32, 4 * class_count, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        *skips, x = self.trunk(image)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False), skip], 1))
        return F.pixel_shuffle(self.head(x), 2)


class Single(nn.Module):
    """Gives a one-branch network the two-branch interface that prediction expects."""

    v_share = 0.5

    def __init__(self, net: nn.Module, class_count: int) -> None:
        super().__init__()
        self.net, self.class_count = net, class_count

    def forward(self, image: Tensor) -> Branches:
        log_probabilities = self.net(image).log_softmax(1)
        return Branches(log_probabilities, log_probabilities)

    def trained_parts(self) -> dict[str, nn.Parameter]:
        """All weights by name."""
        return dict(self.named_parameters())


def basic_unet(class_count: int) -> BasicUNet:
    """MONAI's U-Net in its usual width."""
    return BasicUNet(2, 3, class_count, features=(32, 32, 64, 128, 256, 32))


def train_network(arm: str, planes: Sequence[Plane], settings: Settings) -> tuple[Look, int]:
    """Train one of the network rivals under the same clock as ours; returns it and its number of steps."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    clock = Clock(settings)
    table = ClassTable.of(planes, sparse=False)
    rule = choose_reading(planes, table)
    reader = PlaneReader(planes, rule)
    view, _ = choose_view(planes, reader)
    labelled = [i for i, p in enumerate(planes) if p.mask is not None]
    unlabelled = [i for i, p in enumerate(planes) if p.mask is None]
    sampler, pool = (CropSampler(planes, reader, c, view, table, rng) for c in (labelled, unlabelled))
    count = len(table.ids)
    device = pick_device(settings.device)
    net = basic_unet(count) if arm == "unet" else EncoderUNet(count)
    model = Single(net, count).to(device, memory_format=torch.channels_last).train()
    average = MovingAverage(model.trained_parts())
    optimiser = _optimiser(model)
    vary = Augmentation(view.poses, sampler.brightness_tells)
    while (fraction := clock.fraction()) < 1:
        for group in optimiser.param_groups:
            group["lr"] = group["rate"] * min(1.0, (clock.step + 1) / 20) * max(0.01, (1 - fraction) ** 0.9)
        batch = sampler.draw(settings.batch or BATCH).to(device)
        image, target, weight = vary(batch.image, batch.target, batch.weight)
        with mixed_precision(device):
            branches = model(image * 2 - 1)
        loss = mask_loss(branches, target, weight)
        if arm == "mean-teacher" and pool.chosen:
            more = pool.draw(settings.batch or BATCH).to(device).image
            loss = loss + 0.3 * ramp_up(fraction) * _consistency(model, average, more)
        clock.begin_step(fraction)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimiser.step()
        average.update()
    with torch.no_grad():
        for weight, averaged in zip(model.parameters(), average.snapshot().values(), strict=True):
            weight.copy_(averaged)

    def look(plane: Plane) -> Answer:
        belief = believe(model, PlaneReader([plane], rule).whole(0, view.scale), view, turns=True)
        return Answer(to_prediction(belief, plane, 0, table).mask)

    return look, clock.step


def train_forest(arm: str, planes: Sequence[Plane], settings: Settings) -> tuple[Look, int]:
    """A random forest on features of every pixel; no clock, it takes what it takes."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(settings.seed)
    table = ClassTable.of(planes, sparse=False)
    features = basic_features if arm == "forest" else DeepFeatures(choose_reading(planes, table))
    rows, answers = [], []
    for plane in planes:
        if plane.mask is None:
            continue
        all_rows = features(plane).reshape(plane.size[0] * plane.size[1], -1)
        chosen = rng.choice(len(all_rows), min(len(all_rows), 12_000), replace=False)
        rows.append(all_rows[chosen])
        answers.append(table.indices(np.asarray(plane.mask))[0].ravel()[chosen])
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=settings.seed, class_weight="balanced")
    forest.fit(np.concatenate(rows), np.concatenate(answers))

    def look(plane: Plane) -> Answer:
        found = features(plane)
        return Answer(table.to_ids(forest.predict(found.reshape(-1, found.shape[-1])).reshape(plane.size)))

    return look, 100


def basic_features(plane: Plane) -> np.ndarray:
    """Intensity, edges and texture at five scales, (H, W, features)."""
    from skimage.feature import multiscale_basic_features

    image = np.asarray(plane.image)[..., :3] if plane.image.ndim == 3 else np.asarray(plane.image)
    axis = -1 if image.ndim == 3 else None
    # The last positional one is the number of workers, whose name differs between releases.
    return multiscale_basic_features(image, True, True, True, 0.5, 8, None, 1, channel_axis=axis)


class DeepFeatures:
    """Those, and beside them the encoder's at strides 2 to 16, enlarged to the picture: (H, W, features)."""

    def __init__(self, rule: Input) -> None:
        self._rule, self._encoder = rule, efficientnet_lite0(last_stride=16).eval()

    @torch.no_grad()
    def __call__(self, plane: Plane) -> np.ndarray:
        picture = PlaneReader([plane], self._rule).whole(0, 1.0)[None] * 2 - 1
        seen = self._encoder(picture)
        large = [F.interpolate(each, size=plane.size, mode="bilinear", align_corners=False)[0] for each in seen]
        return np.concatenate([basic_features(plane), torch.cat(large).movedim(0, -1).numpy()], -1)


def _consistency(model: Single, average: MovingAverage, image: Tensor) -> Tensor:
    """Squared distance of the student on a strongly varied picture to the teacher on the plain one."""
    with average.applied(), torch.no_grad():
        taught = model(image * 2 - 1).v.exp()
    gain = torch.randn(len(image), 1, 1, 1, device=image.device)
    noisy = (image * (1 + 0.2 * gain) + 0.05 * torch.randn_like(image)).clamp(0, 1)
    return F.mse_loss(model(noisy * 2 - 1).v.exp(), taught) * taught.shape[1]


def _optimiser(model: Single) -> torch.optim.Optimizer:
    trunk = [w for name, w in model.named_parameters() if ".trunk." in name]
    rest = [w for name, w in model.named_parameters() if ".trunk." not in name]
    groups = [{"params": trunk, "rate": 5e-4}, {"params": rest, "rate": 1.5e-3}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=1.5e-3, betas=(0.9, 0.99), weight_decay=1e-2)
