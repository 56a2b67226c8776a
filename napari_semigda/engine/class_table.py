"""Which number a class has: as the user paints it, and as the network counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_semigda.engine.types import Plane


class ClassTable:
    """Class ids as painted (0..255) <-> class indices of the network (0..K-1).

    With scribbles, 0 is "not annotated" and no class; otherwise it is the background, always index 0.
    """

    def __init__(self, class_ids: Sequence[int], sparse: bool) -> None:
        self.ids = tuple(class_ids)
        self.sparse = sparse
        self._index = np.zeros(256, dtype=np.int64)
        self._index[list(self.ids)] = np.arange(len(self.ids))

    @classmethod
    def of(cls, planes: Sequence[Plane], sparse: bool) -> ClassTable:
        """The classes that are painted on any plane."""
        found: set[int] = set()
        for plane in planes:
            if plane.mask is not None:
                found |= {int(v) for v in np.unique(np.asarray(plane.mask))}
        found = found - {0} if sparse else found | {0}
        return cls(sorted(found), sparse)

    def indices(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) ids -> (H, W) int64 indices, (H, W) float32 weights."""
        known = mask > 0 if self.sparse else np.ones(mask.shape, dtype=bool)
        return self._index[mask.astype(np.uint8)], known.astype(np.float32)

    def target(self, mask: np.ndarray, size: Sequence[int]) -> Tensor:
        """(H, W) ids -> class indices of another size, (h, w) int64, -1 where nobody painted."""
        indices, weight = self.indices(mask)
        known = torch.from_numpy(np.where(weight > 0, indices, -1).astype(np.float32))
        return F.interpolate(known[None, None], size=tuple(size), mode="nearest-exact")[0, 0].long()

    def to_ids(self, indices: np.ndarray) -> np.ndarray:
        """Class indices -> uint8 class ids, any shape."""
        return np.asarray(self.ids, dtype=np.uint8)[indices]
