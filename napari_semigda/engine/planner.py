"""What a run takes on: how long, how large its crops, how many at once, whether unlabelled images pay, when it ends.

Plain functions of the user's choice and of seconds measured before the first step and halfway (`pace`), so that the
viewer and the tests can ask them too; no torch here. What they decide goes into the model file as its `Plan`: a replay
asks nothing and measures nothing.

The user's time is the time from Train to the masks. What follows the last step (the last check, saving, the masks of
all images where a viewer wants them) is taken off the training, but never more than a quarter of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from napari_semigda.engine.types import EngineError, Settings

TimeName = Literal["quick", "standard", "thorough", "best"]

MINUTES: dict[TimeName, float] = {"quick": 1.0, "standard": 5.0, "thorough": 20.0, "best": 60.0}
"""Minutes of a first round; of "best", which ends once it stops improving, the most."""
CORRECTION = 0.2  # share of the time that a round takes which goes on from an earlier model

BATCH = 1  # crops a step, unless steps are very cheap here: more steps teach more than larger ones
LEAST_STEPS = 500  # a shorter run learns more from painted pixels alone: pseudo-masks come into stage 2 only in longer
_FEW_STEPS = 40  # with fewer, smaller crops teach more than large ones
_MANY_STEPS = 1000  # left over by this many, time is better spent on steadier steps
_FAST_STEP = 0.05  # seconds; nothing below a graphics card (or very many cores) is as quick at the default size
_LEAST_BATCH, _MOST_BATCH = 1, 16
_LEAST_CROP, _SMALLER_CROP = 96, 2 / 3
_SMALLEST_CROP, _STRIDE = 64, 32  # where memory is short; sides of what the networks see are multiples of the latter
_BESIDES_STEPS = 0.1  # share of the training that goes into checks and previews
_SAVING = 0.5  # seconds
_LEAST_TRAINING = 0.75  # of the user's time, getting ready included ...
_LEAST_LEARNING = 0.5  # ... and without


@dataclass(frozen=True)
class Pace:
    """Seconds that things take on this machine."""

    step: float  # a step of stage 2
    megapixel: float  # predicting a million image pixels in one orientation
    room: float = math.inf  # how many times the memory of that step there is


@dataclass(frozen=True)
class Plan:
    """What a run chose for this machine and how it went; the same plan, seed and images give the same weights again.

    Every later choice that depends on speed hangs on `fractions` and `checks`. Scale and poses are the model's view.
    """

    crop: int  # side of a training crop in working pixels
    batch: int = BATCH  # crops a step, of all devices together
    steps: int = 1  # expected before the first one
    unlabelled: bool = False  # whether pseudo-masks come into stage 2
    step_seconds: float = 0.0  # the `Pace` that it was made for, or turned out to have; 0 where nothing was measured
    megapixel_seconds: float = 0.0
    fractions: tuple[float, ...] = ()  # how far the run was at each step, 0..1
    checks: tuple[int, ...] = ()  # steps before which it was asked whether the run still improves

    @classmethod
    def of(cls, header: Mapping[str, Any], path: Any) -> Plan:
        """The plan in the header of the model file `path`.

        Raises
        ------
        EngineError
            When it has none, or one that makes no sense.
        """
        try:
            said = {name: value for name, value in header["plan"].items() if name in {f.name for f in fields(cls)}}
            course, checks = said.pop("fractions"), said.pop("checks", ())
            plan = cls(**said, fractions=tuple(map(float, course)), checks=tuple(map(int, checks)))
            if min(plan.crop, plan.batch, plan.steps) < 1:
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineError(f"{path} does not say how its run went: train it again to repeat it.") from error
        return plan


def chosen_time(time: TimeName | None, minutes: float | None = None, *, correction: bool = False) -> dict[str, Any]:
    """The fields of `Settings` that say how long a round takes.

    Parameters
    ----------
    time
        A word for it; None means "standard".
    minutes
        A time of the user's own, which is taken as it is; with "best" it is the most.
    correction
        Whether the round goes on from an earlier model: the words then mean a fifth of their minutes.

    Raises
    ------
    EngineError
        When a word and minutes contradict each other.
    """
    if time not in (None, "best") and minutes is not None:
        raise EngineError(f"The time is given twice, as {time} and as {minutes:g} minutes: choose one of the two.")
    if minutes is None:
        minutes = MINUTES[time or "standard"] * (CORRECTION if correction else 1.0)
    return {"minutes": minutes, "until_best": time == "best"}


def tail_seconds(pace: Pace, checked: float, predicted: float) -> float:
    """Seconds from the end of the training time to the last mask; on average half a step is still under way then.

    Parameters
    ----------
    pace
        Of this machine.
    checked
        Million pixels of the images held out, which are looked at once more.
    predicted
        Million pixels of the images that are predicted afterwards, in each orientation; 0 when nobody asked.
    """
    return pace.step / 2 + _SAVING + pace.megapixel * (checked + predicted)


def training_seconds(minutes: float, tail: float, started: float = 0.0) -> float:
    """Seconds from Train to the end of training.

    Parameters
    ----------
    minutes
        The user's.
    tail
        What follows training comes off the user's time, as long as three quarters are left.
    started
        Seconds from Train to the first step: where a slow machine needed long to get ready, half the time still comes.
    """
    return max(60 * minutes - tail, _LEAST_TRAINING * 60 * minutes, started + _LEAST_LEARNING * 60 * minutes)


def whole_seconds(minutes: float, tail: float) -> float:
    """From Train to the last mask."""
    return training_seconds(minutes, tail) + tail


def choose_size(
    pace: Pace,
    seconds: float,
    crop: int,
    batch: int,
    *,
    crop_free: bool = True,
    batch_free: bool = True,
    correction: bool = False,
) -> tuple[int, int]:
    """Crop and batch that this machine can learn from in the time there is.

    Parameters
    ----------
    pace
        Measured with `crop` and `batch`.
    seconds
        Of training.
    crop, batch
        The ordinary size. It stays, unless steps are so dear that there would be next to none, or so cheap that
        there are more than enough.
    crop_free, batch_free
        Whether each may change at all; the user may have fixed it.
    correction
        A correction makes do with fewer steps: it starts from a model that knows the images.

    Returns
    -------
    tuple of int
        Crop and batch.
    """
    few = _FEW_STEPS * (CORRECTION if correction else 1.0)
    usual = expected_steps(pace, seconds)
    if batch_free and pace.step / batch * BATCH <= _FAST_STEP:
        most = min(_MOST_BATCH / batch, pace.room, usual / _MANY_STEPS)
        return crop, batch * 2 ** max(0, math.floor(math.log2(most))) if most > 0 else batch
    if batch_free and batch > _LEAST_BATCH and usual < few:
        usual = round(usual * batch / max(_LEAST_BATCH, batch // 2))
        batch = max(_LEAST_BATCH, batch // 2)
    if crop_free and crop > _LEAST_CROP and usual < few:
        crop = max(_LEAST_CROP, round(crop * _SMALLER_CROP))
    return crop, batch


def smaller(plan: Plan, devices: int = 1) -> Plan | None:
    """The plan for a machine that ran out of memory: half the crops a step, then smaller ones; None below that.

    Several devices share the crops of a step evenly.
    """
    crop = max(_SMALLEST_CROP, plan.crop // 2 // _STRIDE * _STRIDE)
    each = plan.batch // devices
    if each > _LEAST_BATCH:
        return replace(plan, batch=each // 2 * devices, step_seconds=plan.step_seconds / 2)
    if crop < plan.crop:
        return replace(plan, crop=crop, step_seconds=plan.step_seconds * (crop / plan.crop) ** 2)
    return None


def mended(plan: Plan, step_seconds: float | None) -> Plan:
    """The plan of a run halfway, when its steps have shown how long they take.

    What is timed before the first step may be unlucky, as when another program is busy just then. Pseudo-masks would
    stay out of a run that has steps enough for them, and corrections, which believe the plan, would expect too few.

    Parameters
    ----------
    plan
        As it was made. Its `steps` stay: the rate of learning has hung on them from the first one on.
    step_seconds
        Mean of the steps of stage 2 so far, None when there was none.
    """
    if not plan.step_seconds or not step_seconds:
        return plan
    steps = plan.steps * plan.step_seconds / step_seconds
    return replace(plan, unlabelled=steps >= LEAST_STEPS, step_seconds=round(step_seconds, 4))


def expected_steps(pace: Pace, seconds: float, work: float = 1.0) -> int:
    """How many steps fit into so many seconds of training when each is `work` times what was measured."""
    return max(1, int(seconds * (1 - _BESIDES_STEPS) / (pace.step * work)))


def make_plan(
    settings: Settings,
    crop: int,
    measure: Callable[[int], Pace],
    seconds_left: Callable[[Pace], float],
    *,
    correction: bool = False,
    before: Plan | None = None,
) -> Plan:
    """The plan of a run that is about to begin.

    Parameters
    ----------
    settings
        The user's; what is fixed there stays.
    crop
        What the images ask for, or what an earlier model was trained with.
    measure
        Takes a batch and times steps of it at that crop. Asked only when the clock ends the run and `before` is no
        answer.
    seconds_left
        Seconds of training that are sure to come, at that pace.
    correction
        Whether the round goes on from an earlier model; its crop then stays.
    before
        The plan of that model, where it was made on this machine: its measurements are believed.

    Returns
    -------
    Plan
        Its crop may be smaller than asked for; the scale is then to be chosen anew.
    """
    batch = settings.batch or (before.batch if before is not None else BATCH)
    if settings.max_steps is not None:
        steps = settings.max_steps
        return Plan(crop, batch, steps, unlabelled=steps >= LEAST_STEPS)
    if before is not None and before.step_seconds > 0 and before.batch == batch:
        pace = Pace(before.step_seconds, before.megapixel_seconds)
    else:
        pace = measure(batch)
    seconds = seconds_left(pace)
    chosen_crop, chosen_batch = choose_size(
        pace,
        seconds,
        crop,
        batch,
        crop_free=not correction and settings.crop is None,
        batch_free=settings.batch is None,
        correction=correction,
    )
    work = (chosen_crop / crop) ** 2 * chosen_batch / batch
    steps = expected_steps(pace, seconds, work)
    return Plan(
        chosen_crop,
        chosen_batch,
        steps,
        unlabelled=steps >= LEAST_STEPS,
        step_seconds=round(pace.step * work, 4),
        megapixel_seconds=round(pace.megapixel, 4),
    )
