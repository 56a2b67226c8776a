"""A verdict in plain language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from napari_semigda.engine.metrics import LEAST_FOR_INTERVAL
from napari_semigda.engine.suspects import Suspect
from napari_semigda.engine.verdict import Change, ClassVerdict, Estimate, Little, Verdict

_NAMED = 3  # images named at most


def sentences(verdict: Verdict, names: Mapping[int, str]) -> tuple[str, ...]:
    """What a verdict means: first how good the round is, then why if it is worse, then what to do next.

    Parameters
    ----------
    verdict
        Of the newest round.
    names
        Class names by id.
    """
    called = _Names(names)
    contradicting = [_contradiction(suspect, called) for suspect in verdict.suspects[:_NAMED]]
    why = _why(verdict, called) if verdict.change is Change.WORSE else []
    return headline(verdict), *contradicting, *why, *_what_next(verdict.classes, called), *_afresh(verdict)


def headline(verdict: Verdict) -> str:
    """How good the round is, in one sentence."""
    dice, last = verdict.dice, verdict.last
    if not last.findings.painted:
        return f"Round {last.number}: no figures are kept of it."
    if not dice.images:
        return "Paint a second image to see how good the masks are on images kept back."
    after = "" if math.isnan(verdict.before) else f" after {verdict.before:.2f}"
    if last.findings.kept_start:
        return f"This round brought nothing: it ends with what it began with (held-out Dice {dice.mean:.2f})."
    if verdict.change is Change.WORSE:
        newest = "used all the same, for it knows your newest masks"
        stays = f"keeping round {last.before}" if last.kept_before else newest
        return f"This round is not better (Dice {dice.mean:.2f}{after}): {stays}."
    return f"Round {last.number}: held-out Dice {dice.mean:.2f}{_how_sure(dice)}{_change(verdict)}."


def figure(estimate: Estimate, digits: int = 2) -> str:
    """A mean with its interval, or with the lowest and highest of a few images: ``"0.91 (0.88–0.93)"``."""
    if not estimate.images:
        return "–"
    ends = _ends(estimate, digits)
    return f"{estimate.mean:.{digits}f}" + (f" ({ends})" if ends else "")


def together(words: Sequence[str]) -> str:
    """``"A"``, ``"A and B"``, ``"A, B and C"``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _ends(estimate: Estimate, digits: int = 2) -> str:
    ends = estimate.ends or estimate.spread
    return "" if ends is None else f"{ends[0]:.{digits}f}–{ends[1]:.{digits}f}"


def _how_sure(dice: Estimate) -> str:
    """What follows a figure: its interval, or why there is none."""
    if dice.images == 1:
        return " on 1 image (one alone cannot say how sure that is)"
    if dice.images < LEAST_FOR_INTERVAL:
        return f" on {dice.images} images ({_ends(dice)}; too few to say how sure that is)"
    return f" (95 % sure: {_ends(dice)}) on {dice.images} images"


def _change(verdict: Verdict) -> str:
    difference = verdict.difference
    match verdict.change:
        case Change.BETTER:
            ends = f" (95 % sure: {_ends(difference)})" if difference.ends else ""
            return f", better by {difference.mean:.2f}{ends}"
        case Change.SAME:
            return f", no clear change from {verdict.before:.2f}"
        case Change.UNKNOWN:
            return "; the round before was measured on other images"
    return ""


class _Names:
    """Class names as they stand in a sentence."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = {0: "background", **names}

    def __call__(self, *class_ids: int) -> str:
        return together([f"“{self._names.get(c, f'class {c}')}”" for c in class_ids])


def _contradiction(suspect: Suspect, called: _Names) -> str:
    if suspect.swap is not None:
        return f"{suspect.image} looks contradictory: {called(*suspect.swap)} seem swapped there."
    return f"{suspect.image} looks contradictory: its masks are unlike what the others teach."


def _why(verdict: Verdict, called: _Names) -> list[str]:
    """Why a round is worse, as far as the paint shows."""
    fallen = [c for c in verdict.classes if c.fell and c.little is not None]
    if fallen:
        worst = min(fallen, key=lambda c: c.change.mean)
        return [f"{called(worst.id)} fell by {-worst.change.mean:.2f}: {_little(worst.little)}."]
    if verdict.suspects:
        return []
    chance = ""
    if 0 < verdict.dice.images < LEAST_FOR_INTERVAL:
        chance = f" With {_images(verdict.dice.images)} kept back it may be chance."
    return [f"Nothing in the masks explains it.{chance} Train longer, or paint more images."]


def _little(little: Little) -> str:
    match little.wanting:
        case "pixels":
            return f"only {little.pixels} pixels of it are painted, on {_images(little.images)}"
        case "share":
            return f"it is only {little.share:.1%} of what is painted"
    return f"it is painted on {_images(little.images)} only"


def _what_next(classes: Sequence[ClassVerdict], called: _Names) -> list[str]:
    """Which classes stopped improving, and of which to label more."""
    said = []
    behind = next((c for c in classes if c.behind), None)
    stopped = [c for c in classes if c.stopped_after is not None and c is not behind]
    if stopped:
        images = max(c.stopped_after for c in stopped)
        said.append(f"{called(*(c.id for c in stopped))} stopped improving after {_images(images)}.")
        if behind is None and len(stopped) == len(classes):
            said.append("More masks of the same kind will hardly help.")
    if behind is not None and behind.stopped_after is not None:
        said.append(f"{called(behind.id)} is behind although more was labelled: is it painted alike everywhere?")
    elif behind is not None:
        said.append(f"Label more of {called(behind.id)}: it is behind ({behind.dice.mean:.2f}).")
    unseen = [c.id for c in classes if not c.dice.images]
    if unseen:
        said.append(f"No image kept back shows {called(*unseen)}, so nobody can say how good that is.")
    return said


def _afresh(verdict: Verdict) -> list[str]:
    """Once most masks are newer than the weights, a round as long as all so far learns more from them."""
    if not verdict.outgrown:
        return []
    first, now = verdict.last.findings.began_with, verdict.last.labelled
    began = f"It began with {first} painted image{'s' * (first > 1)} and has {now} now"
    return [f"{began}: a longer training from the start may do better."]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
