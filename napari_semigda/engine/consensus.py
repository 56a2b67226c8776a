"""What the two branches say together: their weighted mean is the mask, and what that leaves open the doubt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

FEWEST = 4
"""Images kept back that can choose the share of branch V. Pixels of one image are wrong together: with 4 and 8 painted
images, one or two kept back gave V half, which cost glands 1.3 to 2.4 points on test images."""

SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 6))
"""Of branch V. Never none, for each branch checks the other; at most the paper's half, for the images that choose it
are few, and on test images V was hardly ever the better branch (`benchmarks/README.md`)."""


class Belief(NamedTuple):
    """Class probabilities of both branches, (..., K, h, w) each, and how much branch V counts."""

    v: Tensor
    c: Tensor
    v_share: float

    @property
    def probability(self) -> Tensor:
        """Weighted mean of the branches, (..., K, h, w) in [0, 1]."""
        return torch.lerp(self.c, self.v, self.v_share)

    @property
    def disagreement(self) -> Tensor:
        """How far the branches are apart: total variation of their class probabilities, (..., h, w) in [0, 1]."""
        return (self.v - self.c).abs().sum(-3) / 2


def doubt_of(probability: Tensor) -> Tensor:
    """How close the second likeliest class of each pixel comes to the likeliest (one minus the margin between them).

    Where sure branches contradict each other their mean is undecided, so this takes their disagreement in; it takes in
    as well what both are unsure of. On each of six sets it ranks wrong pixels better than the disagreement alone does
    (`benchmarks/doubt.py`).

    Parameters
    ----------
    probability
        (K, ...) float of the mean of both branches, K of at least 2.

    Returns
    -------
    Tensor
        (...) float in [0, 1]: 0 where one class is certain, 1 where two are as likely as each other.
    """
    first, second = probability[0], torch.zeros_like(probability[0])
    for each in probability[1:]:  # many times as fast as topk or sort
        second = torch.maximum(second, torch.minimum(first, each))
        first = torch.maximum(first, each)
    return 1 - (first - second)


def best_share(seen: Iterable[tuple[Belief, Tensor]], default: float) -> float:
    """The share of branch V with which painted pixels are likeliest, as in a mixture of two experts.

    Where the branches are as good as each other their errors cancel and the share is near a half; where C is clearly
    better it gets most of the say.

    Parameters
    ----------
    seen
        What the model believes of an image that it was not trained on, with (h, w) int64 class indices, -1 where
        nobody painted.
    default
        What it is where too few images, or no pixel, can tell.

    Returns
    -------
    float
        One of `SHARES`, or the default.
    """
    seen = [(belief, target) for belief, target in seen if bool((target >= 0).any())]
    if len(seen) < FEWEST:
        return default
    total = torch.zeros(len(SHARES), dtype=torch.float64)
    for belief, target in seen:
        painted = target >= 0
        v, c = (_of_the_right_class(branch, target)[painted].double() for branch in (belief.v, belief.c))
        total += torch.stack([torch.lerp(c, v, share).clamp_min(1e-6).log().sum() for share in SHARES]).cpu()
    return SHARES[int(total.argmax())]


def _of_the_right_class(probability: Tensor, target: Tensor) -> Tensor:
    """(K, h, w), (h, w) -> (h, w): what a branch gives the class that was painted; any where none was."""
    return probability.gather(0, target.clamp_min(0)[None])[0]
