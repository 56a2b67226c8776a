"""Did it get better? The figures of all rounds as an answer in plain words, and what the data say of why not.

No torch, no Qt: from `Findings` to sentences, the same for the docks, the command line and the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from napari_semigda.engine.findings import Findings, Scores
from napari_semigda.engine.metrics import AS_GOOD, LEAST_FOR_INTERVAL, interval, mean_over_images
from napari_semigda.engine.suspects import Suspect, suspects

_GAIN = 0.01  # Dice: less than this is no improvement of a class
_PATIENCE = 2  # rounds with more painted images that bring no gain, until a class is said to have stopped improving
_BEHIND = 0.05  # Dice below the mean of the other classes
_FEW_IMAGES, _FEW_PIXELS, _SMALL_SHARE = 2, 400, 0.02  # of a class: images, pixels, share of all that is painted
_NAMES = 3  # images named in a sentence


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


@dataclass(frozen=True)
class Verdict:
    """The answer for the newest round."""

    number: int
    change: Change
    dice: Estimate
    difference: Estimate | None
    """Of Dice since the round before, on the same images."""
    classes: tuple[ClassVerdict, ...]
    suspects: tuple[Suspect, ...]
    """Painted images that seem to contradict the others."""
    headline: str
    advice: tuple[str, ...]
    """Sentences: why it is worse, if it is, and what to do next."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that there is to say."""
        return self.headline, *self.advice


def worse(findings: Findings) -> bool:
    """Whether a round ended with worse masks than it began with, measured on the very same images and masks."""
    if not findings.before or findings.kept_start:
        return findings.kept_start
    now, before = (float(mean_over_images(_dice(scores))) for scores in (findings.scores, findings.before))
    return before > now + AS_GOOD


def judge(rounds: Sequence[Trained], names: Mapping[int, str]) -> Verdict:
    """Judge the last of `rounds`.

    Parameters
    ----------
    rounds
        All rounds so far in their order, at least one.
    names
        Class names by id.

    Returns
    -------
    Verdict
    """
    last = rounds[-1]
    earlier = next((each for each in rounds if each.number == last.before), None)
    scores, before = last.findings.scores, last.findings.before or (earlier.findings.scores if earlier else {})
    dice, difference = _estimate(_dice(scores)), _difference(scores, before, "dice")
    classes = _judge_classes(rounds, before)
    change = _change(last, difference)
    found = suspects(last.findings, worse=change is Change.WORSE)
    called = _Names(names)
    advice = [called.suspect(each) for each in found[:_NAMES]]
    if change is Change.WORSE:
        advice += _why(last, classes, found, called)
    advice += _what_next(classes, called)
    before_mean = float(mean_over_images(_dice(before, scores))) if before else math.nan
    headline = _headline(last, change, dice, difference, before_mean)
    return Verdict(last.number, change, dice, difference, classes, found, headline, tuple(advice))


# -- figures --------------------------------------------------------------------------------------------------------


def _table(scores: Scores, images: Iterable[str], class_ids: Sequence[int], figure: str) -> np.ndarray:
    """(N, K) floats, nan where a class does not count on an image."""
    rows = [[getattr(scores[name].get(c), figure, math.nan) for c in class_ids] for name in images]
    return np.array(rows, float).reshape(-1, len(class_ids))


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
    surely = difference.ends is None or difference.ends[0] > 0
    return Change.BETTER if difference.mean > AS_GOOD and surely else Change.SAME


# -- words ----------------------------------------------------------------------------------------------------------


class _Names:
    """Class names as they stand in a sentence."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = {0: "background", **names}

    def __call__(self, *class_ids: int) -> str:
        return together([f"“{self._names.get(c, f'class {c}')}”" for c in class_ids])

    def suspect(self, suspect: Suspect) -> str:
        """Why an image seems to contradict the others."""
        if suspect.swap is not None:
            return f"{suspect.image} looks contradictory: {self(*suspect.swap)} seem swapped there."
        return f"{suspect.image} looks contradictory: its masks agree with no model. Look at them again."


def together(words: Sequence[str]) -> str:
    """``"A"``, ``"A and B"``, ``"A, B and C"``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def sureness(estimate: Estimate, digits: int = 2) -> str:
    """The interval of a figure in brackets, or the spread of a few images, or nothing."""
    ends = estimate.ends or estimate.spread
    return "" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def _headline(last: Trained, change: Change, dice: Estimate, difference: Estimate | None, before: float) -> str:
    if not dice.images:
        return f"Round {last.number}. Paint a second image to see how good the masks are on images kept back."
    if last.findings.kept_start:
        return (
            f"This round brought nothing: it ends with the weights that it began with (held-out Dice {dice.mean:.2f})."
        )
    if change is Change.WORSE:
        compared = f" (Dice {dice.mean:.2f} after {before:.2f})" if not math.isnan(before) else ""
        return f"This round is not better{compared}: keeping round {last.before}."
    text = f"Round {last.number}: held-out Dice {dice.mean:.2f}{_how_sure(dice)}"
    match change:
        case Change.BETTER:
            sure = f" ({sureness(difference)})" if difference.ends else ""
            return f"{text}, better than before by {difference.mean:.2f}{sure}."
        case Change.SAME:
            return f"{text}, no clear change ({before:.2f} before)."
        case Change.UNKNOWN:
            return f"{text}; the round before was measured on other images."
    return f"{text}."


def _how_sure(dice: Estimate) -> str:
    """What follows a figure: its interval where there is one, or why there is none."""
    if dice.images == 1:
        return " on 1 image, which cannot say how sure that is"
    if dice.images < LEAST_FOR_INTERVAL:
        return f" on {dice.images} images ({sureness(dice)}, too few to say how sure that is)"
    return f" (95 % sure: {sureness(dice)}) on {dice.images} images"


def _why(last: Trained, classes: Sequence[ClassVerdict], found: Sequence[Suspect], called: _Names) -> list[str]:
    """Why a round is worse, as far as the data show."""
    fallen = [c for c in classes if c.change is not None and c.change.mean < -AS_GOOD]
    why = []
    for each in sorted(fallen, key=lambda c: c.change.mean):
        little = _too_little(last.findings, each.id)
        if little:
            why.append(f"{called(each.id)} fell by {-each.change.mean:.2f}, and there is little of it: {little}.")
    if not why and not found:
        images = max((c.dice.images for c in classes), default=0)
        chance = f"With {'1 image' if images == 1 else f'{images} images'} kept back it may be chance. "
        why.append(
            "Nothing in the masks explains it. "
            + chance * (images < LEAST_FOR_INTERVAL)
            + "Train longer, or paint more."
        )
    return why[:1]


def _too_little(findings: Findings, class_id: int) -> str:
    """What is too little about the paint of a class; empty when nothing is."""
    paint = findings.painted.get(class_id)
    if paint is None:
        return ""
    total = sum(each.pixels for each in findings.painted.values())
    on = "1 image" if paint.images == 1 else f"{paint.images} images"
    if paint.pixels < _FEW_PIXELS:
        return f"{paint.pixels} pixels on {on}"
    if paint.pixels < _SMALL_SHARE * total:
        return f"{paint.pixels / total:.1%} of what is painted"
    images = max(each.images for each in findings.painted.values())
    return f"it is on {on} only" if paint.images <= _FEW_IMAGES and 2 * paint.images < images else ""


def _what_next(classes: Sequence[ClassVerdict], called: _Names) -> list[str]:
    """Which classes stopped improving, and of which to label more."""
    said = []
    behind = next((c for c in classes if c.behind), None)
    stopped = [c for c in classes if c.stopped_after is not None and c is not behind]
    if stopped:
        images = max(c.stopped_after for c in stopped)
        if len(stopped) == len(classes):
            said.append(f"No class has improved since {images} painted images: more of the same will hardly help.")
        else:
            said.append(f"{called(*(c.id for c in stopped))} stopped improving after {images} images.")
    if behind is not None and behind.stopped_after is not None:
        said.append(
            f"{called(behind.id)} is behind ({behind.dice.mean:.2f}) although more was labelled: look whether it is "
            "painted alike on all images."
        )
    elif behind is not None:
        said.append(f"Label more of {called(behind.id)}: it is behind ({behind.dice.mean:.2f}).")
    unknown = [c.id for c in classes if not c.dice.images]
    if unknown:
        said.append(f"How good {called(*unknown)} is nobody can say: no image kept back shows it.")
    return said
