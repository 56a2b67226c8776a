"""Stage 2's losses: painted pixels, pseudo-masks, and the ramp between them.

Dice is MONAI's; the cross-entropy beside it (not in the paper) keeps thin and rare classes from vanishing early.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from monai.losses import MaskedDiceLoss
from torch import Tensor

from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.model import Branches

_dice = MaskedDiceLoss(include_background=True, batch=True)


def ramp_up(progress: float) -> float:
    """Weight of the unlabelled terms over a run, exp(-5 (1 - t)^2) of the paper; 0 before the start (t <= 0)."""
    if progress <= 0:
        return 0.0
    return math.exp(-5 * (1 - min(progress, 1.0)) ** 2)


def mask_loss(branches: Branches, target: Tensor, weight: Tensor) -> Tensor:
    """Dice + cross-entropy of each working branch against class indices, where `weight` says that pixels count.

    Parameters
    ----------
    branches
        Log-probabilities (B, K, H, W) of both branches.
    target
        (B, H, W) int64 class indices in 0..K-1; any legal value where the weight is 0.
    weight
        (B, H, W) float in [0, 1]: 1 for a painted pixel, 0 for one that nobody vouches for.

    Returns
    -------
    Tensor
        A scalar; exactly 0 (with a zero gradient) when no pixel counts.
    """
    working = [answer for answer in branches if answer is not None]
    return sum(_one_branch(answer, target, weight) for answer in working)


def _one_branch(log_probabilities: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum()
    if total == 0:
        return log_probabilities.sum() * 0.0
    log_probabilities = log_probabilities.float()
    entropy = (F.nll_loss(log_probabilities, target, reduction="none") * weight).sum() / total
    one_hot = F.one_hot(target, log_probabilities.shape[1]).movedim(-1, 1).to(log_probabilities.dtype)
    return entropy + _dice(log_probabilities.exp(), one_hot, weight[:, None])


def pseudo_mask(belief: Belief, confidence: float) -> tuple[Tensor, Tensor]:
    """What both branches agree on, for images that nobody painted.

    In the paper each branch learns from the other's pseudo-mask. Only pixels where the branches choose the same class,
    and their mean is sure of it, count here: there the other's pseudo-mask and the common one are the same, and early
    mistakes of the weaker branch do not spread.

    Thin structures are never as sure as wide ones; asked for the same confidence they would vanish from the
    pseudo-masks, and then from the masks. So a class is asked for as much less as it is less sure on average (in the
    manner of FlexMatch, Zhang et al., 2021).

    Parameters
    ----------
    belief
        Probabilities (B, K, H, W) of both branches.
    confidence
        Least mean probability, in [0, 1], of the class that is surest on average.

    Returns
    -------
    tuple of Tensor
        (B, H, W) int64 class indices and (B, H, W) float weights, 1 where both agree and are sure enough.
    """
    with torch.no_grad():
        probability, chosen = belief.probability.max(1)
        agreed = belief.v.argmax(1) == belief.c.argmax(1)
        sureness = torch.zeros(belief.v.shape[1], device=chosen.device).scatter_reduce_(
            0, chosen.flatten(), probability.float().flatten(), "mean", include_self=False
        )
        asked = confidence * sureness / sureness.max()  # (K,)
        return chosen, (agreed & (probability >= asked[chosen])).float()
