"""Which painted images seem to contradict the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from napari_semigda.engine.findings import Findings, Opinions

_GAIN, _REACHED = 0.25, 0.5  # Dice that an exchange of two classes must add, and reach
_LEAST_BELOW = 0.2  # Dice
_TIMES = 4.0  # median absolute deviations below the median of the others
_OTHERS = 3  # images that say what is usual, at least


@dataclass(frozen=True)
class Suspect:
    """One image whose masks do not fit what the others taught."""

    image: str
    swap: tuple[int, int] | None = None
    """Class ids (0 is background) that seem to be exchanged; None when its masks are unlike in another way."""


def suspects(findings: Findings, worse: bool) -> tuple[Suspect, ...]:
    """Painted images that look contradictory, the surest first.

    Two classes that seem swapped are told after any round: no hard image looks like that. Masks that agree with no
    model are told after a round that made things worse only, for a hard image looks like that too: users paint first
    what the model finds hard.

    Parameters
    ----------
    findings
        Of the round.
    worse
        Whether it made things worse.
    """
    opinions = findings.opinions
    swapped = {name: swap for name, both in opinions.items() if (swap := _swap(both)) is not None}
    found = [Suspect(name, swap) for name, swap in swapped.items()]
    found.sort(key=lambda each: -max(o.gain for o in opinions[each.image] if o is not None))
    if worse:
        rest = {name: both for name, both in opinions.items() if name not in swapped and both.before is not None}
        usual = [both.now.dice for name, both in opinions.items() if name not in swapped and both.now is not None]
        found += [Suspect(name) for name, both in rest.items() if _unlike(both, usual)]
    return tuple(found)


def _swap(both: Opinions) -> tuple[int, int] | None:
    """Two classes that seem exchanged to the model that never saw the image, or failing that to the newest."""
    opinion = both.before or both.now
    sure = opinion is not None and opinion.gain >= _GAIN and opinion.reached >= _REACHED
    return opinion.swap if sure else None


def _unlike(both: Opinions, usual: list[float]) -> bool:
    """Whether both models disagree with a mask far more than with the others."""
    usual = [value for value in usual if not math.isnan(value)]
    if both.now is None or math.isnan(both.now.dice) or len(usual) <= _OTHERS:
        return False
    middle = median(usual)
    deviation = median(abs(value - middle) for value in usual)
    limit = middle - max(_LEAST_BELOW, _TIMES * deviation)
    return both.now.dice < limit and both.before.dice < limit
