"""Train the compact backbone's head and decoder; its ImageNet trunk stays frozen.

    python scripts/pretrain_compact.py

Learns to give back pictures that Python packages carry in their wheels, and drawn masks and textures: no data set, no
download. Masks matter most, so two thirds of what it sees are drawn masks in the class colours, down to lines of
1.5 pixels. Writes ``napari_semigda/weights/compact.safetensors``: an exponential average of the weights in half
precision, with a record of how they came about.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import os
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import drawings

from napari_semigda.engine import palette
from napari_semigda.engine.backbones import COMPACT_WEIGHTS, CompactBackbone

SIDE = 128
BATCH = 8
KL_WEIGHT = 3e-4  # on the mean over latent elements; small, as in Stable Diffusion's autoencoder
CLASS_WEIGHT = 0.1  # of the cross-entropy that decides which class a decoded colour is read as
AVERAGE = 0.998
logger = logging.getLogger("pretrain")


def main() -> None:
    """Train, log every 50 steps, and save now and then."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    pictures, sources = drawings.packaged_pictures()
    logger.info("%d pictures: %s", len(pictures), ", ".join(sources))

    backbone = CompactBackbone(weights=None).to(memory_format=torch.channels_last)
    balance_head(backbone, rng, pictures)
    learned = [*backbone.head.parameters(), *backbone.decoder.parameters()]
    for parameter in learned:
        parameter.requires_grad_()
    optimiser = torch.optim.AdamW(learned, lr=arguments.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, arguments.steps))
    average = copy.deepcopy(backbone)

    start, running = time.process_time(), {}
    for step in range(1, arguments.steps + 1):
        losses = step_losses(backbone, *make_batch(rng, pictures))
        optimiser.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
        follow(average, backbone, min(AVERAGE, step / (step + 10)))
        for name, loss in losses.items():
            running[name] = 0.98 * running.get(name, loss.item()) + 0.02 * loss.item()
        if step % 50 == 0:
            shown = " ".join(f"{name} {value:.4f}" for name, value in running.items())
            logger.info("step %d of %d, %.0f CPU-s: %s", step, arguments.steps, time.process_time() - start, shown)
        if step % arguments.save_every == 0 or step == arguments.steps:
            record = {
                "command": f"python scripts/pretrain_compact.py --steps {arguments.steps} --lr {arguments.lr} "
                f"--seed {arguments.seed} --threads {arguments.threads}",
                "sources": [*sources, "drawn masks and textures (scripts/drawings.py)"],
                "packages": {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-image")},
                "steps": step,
                "planned_steps": arguments.steps,
                "batch": [BATCH, SIDE],
                "cpu_seconds": round(time.process_time() - start),
                "date": date.today().isoformat(),
            }
            save(average, arguments.out, record, pictures)


def parse_arguments() -> argparse.Namespace:
    """The defaults are what the shipped weights were made with."""
    parser = argparse.ArgumentParser(description="Train the compact backbone's head and decoder.")
    parser.add_argument("--out", type=Path, default=COMPACT_WEIGHTS)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=500)
    return parser.parse_args()


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: 100 steps up, then half a cosine down to a fiftieth."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def make_batch(rng: np.random.Generator, pictures: list[Tensor]) -> tuple[Tensor, list[tuple[Tensor, int] | None]]:
    """Images (B, 3, S, S) in [-1, 1]; for each that is a mask its class indices (S, S) and their number."""
    images, masks = [], []
    for _ in range(BATCH):
        kind = rng.random()
        if kind < 0.66:
            mask, count = drawings.mask(rng, SIDE)
            images.append(palette.paint(torch.from_numpy(mask)[None], count)[0])
            masks.append((torch.from_numpy(mask), count))
        else:
            images.append(drawings.crop(rng, pictures, SIDE) if kind < 0.88 else drawings.texture(rng, SIDE))
            masks.append(None)
    return torch.stack(images), masks


def step_losses(backbone: CompactBackbone, images: Tensor, masks: list) -> dict[str, Tensor]:
    """Reconstruction, classes read from it, and the divergence of the latent from a unit normal."""
    with torch.no_grad():
        _, head_input = backbone.look(images)
    mean, log_variance = backbone.head(head_input).chunk(2, 1)
    log_variance = log_variance.clamp(-30, 20)
    latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    decoded = backbone.decode(latent)
    read = [
        F.nll_loss(palette.scores(decoded[i : i + 1], mask[1]), mask[0][None])
        for i, mask in enumerate(masks)
        if mask is not None
    ]
    return {
        "pixels": F.l1_loss(decoded, images) + F.mse_loss(decoded, images),
        "classes": CLASS_WEIGHT * sum(read) / max(1, len(read)) + 0 * decoded.sum(),
        "divergence": KL_WEIGHT * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(),
    }


@torch.no_grad()
def balance_head(backbone: CompactBackbone, rng: np.random.Generator, pictures: list[Tensor]) -> None:
    """Start with every input channel of the head weighing the same: the trunk's differ in spread by a hundred."""
    spread = backbone.look(make_batch(rng, pictures)[0])[1].std((0, 2, 3))
    backbone.head.inlet.weight /= spread.clamp_min(0.05)[:, None, None]


@torch.no_grad()
def follow(average: CompactBackbone, backbone: CompactBackbone, keep: float) -> None:
    """Exponential average of the learned weights."""
    for name in ("head", "decoder"):
        theirs = getattr(backbone, name).parameters()
        for mine, other in zip(getattr(average, name).parameters(), theirs, strict=True):
            mine.lerp_(other, 1 - keep)


@torch.no_grad()
def save(average: CompactBackbone, out: Path, record: dict, pictures: list[Tensor]) -> None:
    """Give the latent zero mean and unit spread, and write the file in one move."""
    scaled = copy.deepcopy(average)
    rng = np.random.default_rng(1)  # its own, so that saving more often changes no training
    means = [scaled.encode(make_batch(rng, pictures)[0]).latent_mean for _ in range(16)]
    means = torch.cat(means).movedim(1, 0).flatten(1)  # (latent channels, positions)
    scaled.latent_shift.copy_(means.mean(1)[:, None, None])
    scaled.latent_scale.copy_(means.std(1)[:, None, None])
    partial = out.with_name(out.name + ".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.half() for key, tensor in scaled.portable_state().items()}
    save_file(state, partial, metadata={"record": json.dumps(record)})
    partial.chmod(0o644)  # safetensors writes for its owner alone
    os.replace(partial, out)
    logger.info("saved %s after %d steps", out, record["steps"])


if __name__ == "__main__":
    main()
