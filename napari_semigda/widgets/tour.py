"""A tour of the places in doubt: the most doubtful ones of an image, then the next image to correct."""

from dataclasses import dataclass

import numpy as np

from napari_semigda.engine.ranking import Region, doubtful_regions
from napari_semigda.widgets.layers import LayerBridge


@dataclass(frozen=True)
class Stop:
    """Where the tour has come to."""

    plane: int
    place: int
    """Counted from 1; 0 when no place of the image stands out."""
    places: int


class Tour:
    """Where to go next.

    It comes to no image a second time before it was at all the others, or `restart`; where the user goes, it goes on.

    Parameters
    ----------
    bridge : LayerBridge
        What is in view, and goes elsewhere.
    """

    def __init__(self, bridge: LayerBridge) -> None:
        self._bridge = bridge
        self.restart()

    def restart(self) -> None:
        """There are new predictions."""
        self._seen: set[int] = set()
        self._plane: int | None = None
        self._regions: tuple[Region, ...] = ()
        self._next = 0

    def go_on(self, to_next_image: bool = False) -> Stop | None:
        """Go to the next place, or straight to the first one of the next image; None when there is nowhere to go."""
        suggested = self._bridge.project.review.suggestions()
        plane = self._bridge.plane_in_view()
        if plane != self._plane or plane not in suggested:  # the user went elsewhere, or has dealt with this one
            self._enter(plane if plane in suggested else None)
        if self._plane is None or to_next_image or self._next >= max(1, len(self._regions)):
            left = [each for each in suggested if each not in self._seen and each != plane]
            if not left:
                self._seen = {plane}
                left = [each for each in suggested if each != plane]
            if not left and plane not in suggested:
                return None
            self._enter(left[0] if left else plane)
        return self._show()

    def _enter(self, plane: int | None) -> None:
        self._plane, self._next = plane, 0
        self._regions = () if plane is None else doubtful_regions(self._doubt(plane))
        if plane is not None:
            self._seen.add(plane)

    def _show(self) -> Stop:
        point = None
        if self._regions:
            region = self._regions[self._next]
            point = (region.row, region.column)
        self._next += 1
        self._bridge.go_to(self._plane, point)
        return Stop(self._plane, self._next if self._regions else 0, len(self._regions))

    def _doubt(self, plane: int) -> np.ndarray:
        """(H, W) in [0, 1]."""
        layer, stack = self._bridge.ours("doubt"), self._bridge.project.stack
        height, width = stack.size(plane)
        if layer is None:  # the user has removed it
            return np.zeros((height, width), np.float32)
        return np.asarray(layer.data[stack.position(plane)][:height, :width], np.float32) / 255
