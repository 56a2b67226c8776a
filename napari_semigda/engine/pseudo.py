"""First masks of unlabelled images, made once a phase in inference mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from napari_semigda.engine.device import mixed_precision
from napari_semigda.engine.losses import pseudo_mask
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.sampling import PoolTile, cut_tile
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import STRIDE, PlaneReader, View

MOST_TILES = 64
LEAST_TILES = 8
CONFIDENCE = 0.8  # least mean probability of a pixel that counts


@torch.inference_mode()
def pseudo_labelled_tiles(
    model: SemiGDA,
    planes: Sequence[Plane],
    reader: PlaneReader,
    chosen: Sequence[int],
    view: View,
    rng: np.random.Generator,
    enough: Callable[[], bool],
) -> list[PoolTile]:
    """Random pieces of the chosen planes with what both branches agree on.

    Parameters
    ----------
    model
        With the weights that shall vouch for the masks (the averaged ones).
    enough
        Asked after every tile once there are a few; True ends early.
    """
    device = next(iter(model.trained_parts().values())).device
    tiles: list[PoolTile] = []
    for index in rng.permutation(np.asarray(chosen))[:MOST_TILES]:
        picture = cut_tile(planes, reader, int(index), view, rng)  # (3, h, w)
        height, width = picture.shape[-2:]
        image = F.pad(picture[None], (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate").to(device)
        with mixed_precision(device):
            branches = model(image * 2 - 1)
        target, weight = (t[0, :height, :width].to("cpu", torch.uint8) for t in pseudo_mask(branches, CONFIDENCE))
        tiles.append(PoolTile(picture.half(), target, weight))
        if len(tiles) >= LEAST_TILES and enough():
            break
    return tiles
