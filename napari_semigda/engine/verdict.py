"""Did it get better? What the figures of all rounds say, and what the data say of why not.

No torch, no Qt: the same for the docks, the command line and the tests. `wording` says it in sentences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from napari_semigda.engine.findings import Findings, Scores
from napari_semigda.engine.metrics import as_good, interval, mean_over_images, surely_worse
from napari_semigda.engine.suspects import Suspect, suspects

_GAIN = 0.01  # Dice: less than this is no improvement of a class
_PATIENCE = 2  # rounds with more painted images that bring no gain, until a class is said to have stopped improving
_BEHIND = 0.05  # Dice below the mean of the other classes
_OUTGROWN, _MANY_MORE = 2, 4  # times as many painted images as the weights began with, and so many more
_FEW_IMAGES, _FEW_PIXELS, _SMALL_SHARE = 2, 400, 0.02  # of a class: images, pixels, share of all paint


class Change(StrEnum):
    """How a round compares with the one before."""

    FIRST = "first"
    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNKNOWN = "unknown"  # no image in common


@dataclass(frozen=True)
class Trained:
    """What is known of one finished round."""

    number: int
    findings: Findings = field(default_factory=Findings)
    labelled: int = 0
    """Painted images."""
    before: int | None = None
    """Number of the round that was in use until then."""
    kept_before: bool = False
    """Whether that one stayed in use, because this one was worse."""


@dataclass(frozen=True)
class Estimate:
    """A mean over held-out images, and how sure it is."""

    mean: float
    """nan when no image counted."""
    images: int
    ends: tuple[float, float] | None = None
    """95 % confidence interval, None with too few images (`metrics.interval`)."""
    spread: tuple[float, float] | None = None
    """Lowest and highest image, from two images on."""


@dataclass(frozen=True)
class Little:
    """How little of a class is painted."""

    pixels: int
    images: int
    share: float
    """Of all paint, 0..1."""
    wanting: Literal["pixels", "share", "images"]
    """Which of the three is too small."""


@dataclass(frozen=True)
class ClassVerdict:
    """One class of one round."""

    id: int
    dice: Estimate
    hausdorff: Estimate
    change: Estimate | None
    """Of Dice since the round before, on the same images."""
    hausdorff_change: Estimate | None
    stopped_after: int | None
    """Painted images after which it did not improve any more; None while it does, or nobody knows yet."""
    behind: bool
    """Whether it is clearly worse than the other classes."""
    little: Little | None
    """What is too little about its paint."""

    @property
    def fell(self) -> bool:
        """Whether it got worse since the round before."""
        return self.change is not None and self.change.mean < -as_good(self.change.images)


@dataclass(frozen=True)
class Verdict:
    """The answer for the newest round."""

    last: Trained
    change: Change
    dice: Estimate
    before: float
    """Dice of the round before on the same images; nan when nothing can be compared."""
    difference: Estimate | None
    """Of Dice since the round before, on the same images."""
    classes: tuple[ClassVerdict, ...]
    suspects: tuple[Suspect, ...]
    """Painted images that seem to contradict the others."""
    outgrown: bool
    """Whether so much was painted since its weights were new that training from the start may do better."""


@dataclass(frozen=True)
class Point:
    """One round on the curve over rounds."""

    number: int
    labelled: int
    dice: Estimate
    by_class: Mapping[int, float]
    goes_on: bool
    """Whether it shares held-out images with the point before, so that the two may be joined by a line."""


def refused(findings: Findings) -> bool:
    """Whether a round ended with surely worse masks than it began with, measured on the very same images and masks."""
    if not findings.before or findings.kept_start:
        return findings.kept_start
    now, before = (float(mean_over_images(_dice(scores))) for scores in (findings.scores, findings.before))
    return before > now + surely_worse(len(findings.scores))


def judge(rounds: Sequence[Trained]) -> Verdict:
    """Judge the last of `rounds`: all so far in their order, at least one."""
    last = rounds[-1]
    earlier = next((each for each in rounds if each.number == last.before), None)
    scores, before = last.findings.scores, last.findings.before or (earlier.findings.scores if earlier else {})
    difference = _difference(scores, before, "dice")
    change = _change(last, difference)
    return Verdict(
        last,
        change,
        _estimate(_dice(scores)),
        _estimate(_dice(before, scores)).mean,
        difference,
        _judge_classes(rounds, before),
        suspects(last.findings, worse=change is Change.WORSE),
        outgrown=last.before is not None and _outgrown(last.findings.began_with, last.labelled),
    )


def course(rounds: Sequence[Trained]) -> tuple[Point, ...]:
    """The curve over all rounds that have figures."""
    points: list[Point] = []
    shown: Scores = {}
    for each in rounds:
        scores = each.findings.scores
        if (dice := _estimate(_dice(scores))).images:
            by_class = {c: _estimate(_table(scores, scores, [c], "dice")).mean for c in _classes(scores)}
            points.append(
                Point(each.number, each.labelled, dice, by_class, goes_on=not shown.keys().isdisjoint(scores))
            )
            shown = scores
    return tuple(points)


# -- figures --------------------------------------------------------------------------------------------------------


def _table(scores: Scores, images: Iterable[str], class_ids: Sequence[int], figure: str) -> np.ndarray:
    """(N, K) floats, nan where a class does not count on an image."""
    rows = [[getattr(scores[name].get(c), figure, math.nan) for c in class_ids] for name in images]
    return np.array(rows, float).reshape(len(rows), len(class_ids))


def _dice(scores: Scores, of: Scores | None = None) -> np.ndarray:
    """(N, K) Dice of the images that are also in `of`."""
    return _table(scores, [name for name in scores if of is None or name in of], _classes(scores), "dice")


def _classes(*scores: Scores) -> list[int]:
    return sorted({c for each in scores for by_class in each.values() for c in by_class})


def _estimate(figures: np.ndarray) -> Estimate:
    """Of an (N, K) table."""
    images = ~np.isnan(figures).all(1) if figures.size else np.zeros(0, bool)
    if not images.any():
        return Estimate(math.nan, 0)
    each = np.nanmean(figures[images], 1)
    spread = (float(each.min()), float(each.max())) if len(each) > 1 else None
    return Estimate(float(mean_over_images(figures)), len(each), interval(figures), spread)


def _difference(now: Scores, before: Scores, figure: str, class_id: int | None = None) -> Estimate | None:
    """Now less before on the same images, of one class or all; None when nothing can be compared."""
    images = [name for name in now if name in before]
    ids = _classes(now, before) if class_id is None else [class_id]
    if not images or not ids:
        return None
    found = _estimate(_table(now, images, ids, figure) - _table(before, images, ids, figure))
    return found if found.images else None


def _judge_classes(rounds: Sequence[Trained], before: Scores) -> tuple[ClassVerdict, ...]:
    scores = rounds[-1].findings.scores
    ids = _classes(scores)
    dice = {c: _estimate(_table(scores, scores, [c], "dice")) for c in ids}
    lowest = _lowest({c: each.mean for c, each in dice.items() if each.images})
    return tuple(
        ClassVerdict(
            c,
            dice[c],
            _estimate(_table(scores, scores, [c], "hausdorff")),
            _difference(scores, before, "dice", c),
            _difference(scores, before, "hausdorff", c),
            _stopped_after(rounds, c),
            behind=c == lowest,
            little=_too_little(rounds[-1].findings, c),
        )
        for c in ids
    )


def _lowest(dice: Mapping[int, float]) -> int | None:
    """The class that is clearly worse than the mean of the others."""
    if len(dice) < 2:
        return None
    lowest = min(dice, key=lambda c: dice[c])
    others = [value for c, value in dice.items() if c != lowest]
    return lowest if dice[lowest] < sum(others) / len(others) - _BEHIND else None


def _stopped_after(rounds: Sequence[Trained], class_id: int) -> int | None:
    """How many images were painted in the first round that no later one has beaten, once enough have tried."""
    for place, each in enumerate(rounds):
        tries = [later for later in rounds[place + 1 :] if later.labelled > each.labelled]
        if len(tries) < _PATIENCE:
            return None
        scores = each.findings.scores
        gains = [_difference(later.findings.scores, scores, "dice", class_id) for later in tries]
        if all(gain is not None and gain.mean <= _GAIN for gain in gains):
            return each.labelled
    return None


def _change(last: Trained, difference: Estimate | None) -> Change:
    if last.kept_before or last.findings.kept_start:
        return Change.WORSE
    if difference is None:
        return Change.FIRST if last.before is None else Change.UNKNOWN
    enough = as_good(difference.images)
    if difference.mean < -enough:
        return Change.WORSE
    surely = difference.ends is None or difference.ends[0] > 0
    return Change.BETTER if difference.mean > enough and surely else Change.SAME


def _outgrown(first: int, now: int) -> bool:
    return first > 0 and now >= max(_OUTGROWN * first, first + _MANY_MORE)


def _too_little(findings: Findings, class_id: int) -> Little | None:
    paint = findings.painted.get(class_id)
    if paint is None:
        return None
    total = sum(each.pixels for each in findings.painted.values())
    most = max(each.images for each in findings.painted.values())
    share = paint.pixels / total if total else 0.0
    if paint.pixels < _FEW_PIXELS:
        return Little(paint.pixels, paint.images, share, "pixels")
    if share < _SMALL_SHARE:
        return Little(paint.pixels, paint.images, share, "share")
    few = paint.images <= _FEW_IMAGES and 2 * paint.images < most
    return Little(paint.pixels, paint.images, share, "images") if few else None
