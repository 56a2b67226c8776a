"""What a round found out about itself: figures of held-out images, what was painted, and what the model thinks of that.

Plain numbers, no torch. The same JSON goes into the model file's header, the last report and ``project.json``; what
these figures mean is the business of `verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from napari_semigda.engine.metrics import Score

Scores = Mapping[str, Mapping[int, Score]]
"""Scores by image name and class id."""


class Painted(NamedTuple):
    """How much there is of one class."""

    pixels: int
    images: int


class Opinion(NamedTuple):
    """What a model thinks of one painted mask."""

    dice: float
    """Mean Dice over the foreground classes, 0..1; nan when none can be judged."""
    swap: tuple[int, int] | None = None
    """The two class ids (0 is background) whose exchange would bring the mask closest to the model's."""
    gain: float = 0.0
    """What that exchange would add to the mean Dice of these two, -1..1."""
    reached: float = 0.0
    """The mean Dice of these two after it, 0..1."""


class Opinions(NamedTuple):
    """Of one painted image, by two models."""

    now: Opinion | None
    """By the weights that the round ended with, which may have trained on the image; None where time was short."""
    before: Opinion | None = None
    """By the weights that it went on from, which had never seen it; None for images that they had seen."""


@dataclass(frozen=True)
class Findings:
    """Figures of one round; everything may be missing, as in rounds of earlier versions."""

    scores: Scores = field(default_factory=dict)
    """Of the held-out images, with the weights that are kept and never saw them; Hausdorff in pixels."""
    before: Scores = field(default_factory=dict)
    """Of the same images and masks, with the weights that the round went on from."""
    painted: Mapping[int, Painted] = field(default_factory=dict)
    """By class id; background only where it is a painted class."""
    opinions: Mapping[str, Opinions] = field(default_factory=dict)
    """Of painted images, as many as there was time for."""
    kept_start: bool = False
    """Whether the weights that are kept are those that the round went on from: training made it worse."""
    began_with: int = 0
    """How many images were painted when the weights were new, in a round from the start; 0 where nobody knows."""

    def to_json(self) -> dict[str, Any]:
        """As plain values; nan becomes None."""
        return {
            "scores": _scores_to_json(self.scores),
            "before": _scores_to_json(self.before),
            "painted": {str(number): list(amount) for number, amount in self.painted.items()},
            "opinions": {
                name: [None if each is None else _opinion_to_json(each) for each in both]
                for name, both in self.opinions.items()
            },
            "kept_start": self.kept_start,
            "began_with": self.began_with,
        }

    @classmethod
    def from_json(cls, content: Any) -> Findings:
        """What `to_json` made, missing keys tolerated.

        Raises
        ------
        ValueError
            When a value is not what it should be: the file may come from a stranger.
        """
        try:
            return cls(
                _scores_from_json(content.get("scores", {})),
                _scores_from_json(content.get("before", {})),
                {int(c): Painted(int(pixels), int(on)) for c, (pixels, on) in content.get("painted", {}).items()},
                {str(name): _opinions_from_json(both) for name, both in content.get("opinions", {}).items()},
                content.get("kept_start") is True,
                int(content.get("began_with", 0)),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("the findings of a round are damaged") from error


def count_paint(masks: Sequence[np.ndarray], class_ids: Sequence[int]) -> dict[int, Painted]:
    """Pixels and images of each class in painted masks, (H, W) of ids 0..255 each."""
    counts = [np.bincount(np.asarray(mask).astype(np.uint8).ravel(), minlength=256) for mask in masks]
    return {c: Painted(int(sum(n[c] for n in counts)), sum(1 for n in counts if n[c])) for c in class_ids}


def think(predicted: np.ndarray, painted: np.ndarray, class_ids: Sequence[int], ignore: int | None = None) -> Opinion:
    """Hold a painted mask against a predicted one.

    A mask with two classes swapped, or turned inside out, looks merely bad in its Dice; that an exchange of two classes
    makes it good tells it from an image that is hard. It costs one table of how often each class was called each other.

    Parameters
    ----------
    predicted, painted
        (H, W) masks of class ids.
    class_ids
        All ids, background included where it is 0.
    ignore
        A value of `painted` that means "not annotated".

    Returns
    -------
    Opinion
    """
    painted, predicted = np.asarray(painted).astype(np.int64), np.asarray(predicted).astype(np.int64)
    known = np.ones(painted.shape, bool) if ignore is None else painted != ignore
    called = np.bincount((painted * 256 + predicted)[known], minlength=256 * 256).reshape(256, 256)
    ids = list(class_ids)
    called = called[np.ix_(ids, ids)]
    either = called.sum(1)[:, None] + called.sum(0)[None]
    dice = np.divide(2 * called, either, out=np.full(called.shape, np.nan), where=either > 0)
    foreground = [dice[k, k] for k, c in enumerate(ids) if c != 0]
    mean = _mean(foreground)
    best = Opinion(mean)
    for one, other in combinations(range(len(ids)), 2):
        reached = _mean([dice[one, other], dice[other, one]])
        gain = reached - _mean([dice[one, one], dice[other, other]])
        if gain > best.gain:
            best = Opinion(mean, (ids[one], ids[other]), gain, reached)
    return best


def _mean(values: Sequence[float]) -> float:
    counted = [float(value) for value in values if not math.isnan(value)]
    return sum(counted) / len(counted) if counted else math.nan


# -- JSON -----------------------------------------------------------------------------------------------------------


def _scores_to_json(scores: Scores) -> dict[str, Any]:
    return {
        name: {str(c): [_plain(s.dice), _plain(s.iou), _plain(s.hausdorff)] for c, s in by_class.items()}
        for name, by_class in scores.items()
    }


def _scores_from_json(content: Mapping[str, Any]) -> Scores:
    return {
        str(name): {int(c): _score(*values) for c, values in by_class.items()} for name, by_class in content.items()
    }


def _score(dice: Any, iou: Any, hausdorff: Any) -> Score:
    return Score(_number(dice), _number(iou), _number(hausdorff))


def _opinion_to_json(opinion: Opinion) -> list[Any]:
    return [_plain(opinion.dice), opinion.swap and list(opinion.swap), _plain(opinion.gain), _plain(opinion.reached)]


def _opinions_from_json(content: Sequence[Any]) -> Opinions:
    now, before = content
    return Opinions(_opinion(now), _opinion(before))


def _opinion(content: Sequence[Any] | None) -> Opinion | None:
    if content is None:
        return None
    dice, swap, gain, reached = content
    pair = None
    if swap is not None:
        one, other = swap
        pair = int(one), int(other)
    return Opinion(_number(dice), pair, _number(gain), _number(reached))


def _plain(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is no number")
    return float(value)
