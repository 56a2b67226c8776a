"""What the docks say: numbers and states as words a biologist reads. No widget here."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from napari_semigda.engine.header import class_names
from napari_semigda.engine.planner import whole_seconds
from napari_semigda.engine.schedule import OpenEnd
from napari_semigda.engine.types import BatchReport, Report, Settings
from napari_semigda.review import ImageState


class State(StrEnum):
    """Where the Train dock is."""

    NO_IMAGES = "no images"
    NO_MASKS = "no masks"
    NOTHING_PAINTED = "nothing painted"
    READY = "ready"
    STARTING = "starting"
    TRAINING = "training"
    STOPPING = "stopping"
    PREDICTING = "predicting"
    DONE = "done"
    WORSE = "worse"
    ERROR = "error"


RUNNING = frozenset({State.STARTING, State.TRAINING, State.STOPPING, State.PREDICTING})
ENDED = frozenset({State.DONE, State.WORSE, State.ERROR})
CAN_TRAIN = frozenset({State.READY, State.PREDICTING, State.DONE, State.WORSE, State.ERROR})
CAN_STOP = frozenset({State.STARTING, State.TRAINING, State.PREDICTING})

ASK_FOR = {
    State.NO_IMAGES: ("Open images first: drag files or a folder onto the viewer, or File > Open Sample > SemiGDA."),
    State.NO_MASKS: "Press New masks to start masks for these images.",
    State.NOTHING_PAINTED: "Paint at least one whole image. Two or three varied ones work better.",
    State.STARTING: "Starting…",
    State.STOPPING: "Stopping, keeping the best result so far.",
}

DOUBT_BOX = "Show doubt"
DOUBT_BOX_TIP = "Bright where the prediction is least sure of itself: look there first."

STAGES = {
    "starting": "Starting…",
    "aligning": "Learning your masks.",
    "learning": "Learning your masks.",
    "unlabelled": "Learning from the unlabelled images.",
    "checking": "Checking on images kept back.",
    "predicting": "Marking the images.",
    "done": "Saving.",
    "stopped": "Saving.",
}


def clock(seconds: float) -> str:
    """Seconds as ``"1:04"``, hours only when there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(number: int, thing: str) -> str:
    """``"1 image"``, ``"3 images"``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def count_planes(layer: Any) -> int:
    """How many images an image layer holds; 0 when it holds none."""
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    return math.prod(shape[: -3 if layer.rgb else -2])


def layer(layer: Any) -> str:
    """An image layer in a combo box."""
    number = count_planes(layer)
    return f"{layer.name} ({count(number, 'slice')})" if number > 1 else layer.name


def painted(number: int, total: int, empty: int = 0) -> str:
    """How far painting has come; `empty` images were verified to hold none of the classes."""
    return f"{number} of {total} painted" + (f", {empty} empty" if empty else "")


def span(seconds: float) -> str:
    """A rough time: ``"12 seconds"``, ``"1 minute"``, ``"5 minutes"``."""
    return count(round(seconds), "second") if seconds < 55 else count(round(seconds / 60), "minute")


def how_long(settings: Settings, tail: float, device: str) -> str:
    """How long a round would take, as the end of a sentence; `tail` seconds of it go into the masks of all images."""
    where = f" on this computer ({device})" if device else ""
    most = whole_seconds(settings.minutes, tail)
    if settings.until_best:
        return f"Until it stops improving: {round(OpenEnd.least * most / 60) or 1} to {span(most)}{where}"
    return f"About {span(most)}{where}"


def ready(number: int, total: int, how_long: str, going_on_from: int | None = None, empty: int = 0) -> str:
    """What pressing Train would do; a correction goes on from the model of an earlier round, told by its number."""
    known = f"{number} painted, {empty} verified as empty" if empty else f"{number} painted"
    unlabelled = count(total - number - empty, "unlabelled image")
    correction = "" if going_on_from is None else f", to correct round {going_on_from}"
    return f"{known}, {unlabelled}. {how_long}{correction}."


def dice(report: Report) -> str:
    """Held-out Dice, or why there is none."""
    if not report.held_out:
        return "No image is kept back to check on: paint a second one."
    if report.dice is None:
        return f"Kept back to check on: {count(len(report.held_out), 'image')}."
    return f"Held-out Dice {report.dice:.2f} on {count(len(report.held_out), 'image')}."


def dice_tip(report: Report, classes: dict[int, str]) -> str:
    """The figures and names behind the Dice."""
    lines = [
        "How well the masks agree with yours on images that training had not seen: 1 is perfect, 0 nothing in common."
    ]
    for number, value in report.dice_by_class.items():
        figure = "not on these images" if value is None or value != value else f"{value:.2f}"  # noqa: PLR0124 - NaN
        lines.append(f"{classes.get(number, f'class {number}')}: {figure}")
    if report.held_out:
        lines.append("Measured on: " + ", ".join(report.held_out))
    return "\n".join(lines)


def progress(report: Report) -> str:
    """Text in the bar."""
    if report.stage in ("done", "stopped"):
        return ""
    left = f"{clock(report.remaining)} left" if report.remaining is not None else "working out the time left"
    return f"{report.fraction:.0%}, {'at most ' if getattr(report, 'at_most', False) else ''}{left}"


def share(report: Report) -> float:
    """How much of the time from Train to the last mask is over, 0..1, where that is known."""
    whole = report.elapsed + (report.remaining or 0)
    known = report.remaining is not None and not report.at_most and whole > 0
    return report.elapsed / whole if known else report.fraction


def marking(report: Report, total: int) -> str:
    """How far predicting is."""
    return f"Marking the images: {round(report.fraction * total)} of {total}."


def noted(sentence: str, note: str) -> str:
    """What goes on, and what befell the run; said once."""
    return sentence if not note or note in sentence else f"{sentence} {note}"


def skipped(problems: Sequence[str]) -> str:
    """Images that were not predicted; there is a sentence for each."""
    return f"{count(len(problems), 'image')} without masks: {problems[0]}"


def numbers(report: Report) -> str:
    """Step and time, for those who want to see it move."""
    return f"Step {report.step}, {clock(report.elapsed)} so far."


def done(seconds: float, verdict: str, stopped: bool) -> str:
    """The end of a round."""
    how = "Stopped after" if stopped else "Done in"
    return f"{how} {clock(seconds)}. {verdict} Look through the masks, correct a few, train again."


def model(header: Mapping[str, Any]) -> str:
    """What a model file finds, and how well."""
    names = ", ".join(name for number, name in class_names(header).items() if number)
    training = header.get("training", {})
    if training.get("dice") is None:
        return f"Finds {names}."
    return f"Finds {names}. Held-out Dice {training['dice']:.2f} on {count(len(training['held_out']), 'image')}."


def batch_progress(report: BatchReport) -> str:
    """How far a batch is."""
    before = f" ({report.before} finished earlier)" if report.before else ""
    return f"{report.done} of {count(report.total, 'file')}{before}."


def batch_end(report: BatchReport, folder: str, stopped: bool) -> str:
    """The end of a batch."""
    if stopped:
        return f"Stopped after {report.done} of {count(report.total, 'file')}. Press Run to go on from there."
    if report.before == report.total:
        return f"All {count(report.total, 'file')} were finished earlier: nothing to do. Their masks are in {folder}."
    earlier = f" {report.before} were finished earlier." if report.before else ""
    return f"Done: masks of {count(report.written, 'file')} written into {folder}.{earlier}"


def in_batch(message: str) -> str:
    """What the child process says of its troubles, told by a dock that neither trains nor paints."""
    for said, meant in (
        ("training process", "working process"),
        ("Your painted masks", "Finished files"),
        ("press Train", "press Run"),
    ):
        message = message.replace(said, meant)
    return message


def verified_stays(name: str) -> str:
    """Why a prediction is not accepted."""
    return f"{name} is verified, so its masks stay as they are: press Verify again first if they are to change."


# -- the Review dock ------------------------------------------------------------------------------------------------

NO_IMAGES_TO_REVIEW = "Open images and choose them in SemiGDA: Train; they are then listed here."
NOTHING_PREDICTED = "Nothing is predicted yet: paint some images and press Train."
NOTHING_LEFT = "Nothing is left to suggest: every predicted image is painted, verified or skipped."


def image_state(state: ImageState) -> str:
    """A state in the table."""
    return f"✓ {state}" if state is ImageState.VERIFIED else str(state)


def empty_or_accept(name: str) -> str:
    """Why an image without paint is not verified at once: something is predicted there."""
    return (
        f"{name} has no masks of yours: press Accept to take the predicted ones, then Verify. "
        "If none of your classes is on it, press Verify once more."
    )


def empty_in_scribbles(name: str) -> str:
    """Why an image without paint cannot be verified where only strokes are painted."""
    return f"With scribbles, what is not painted is unknown: paint some background on {name}, then press Verify."


def nothing_to_skip(name: str, verified: bool) -> str:
    """Why an image cannot be skipped."""
    return f"{name} is {'verified' if verified else 'painted'}, so it is not suggested anyway."


def marked(name: str, kind: str, on: bool) -> str:
    """What became of an image."""
    if kind == "skipped":
        return f"{name} is skipped and will not be suggested." if on else f"{name} is suggested again."
    if not on:
        return f"{name} is not verified any more."
    truth = "its masks are the truth" if kind == "verified" else "none of your classes is on it"
    return f"{name} is verified: {truth}."


def in_doubt(name: str, place: int, places: int) -> str:
    """Where the tour of doubtful places is."""
    return f"{name}: place {place} of {places} in doubt." if place else f"{name}: no place of it stands out."


def marking_first(number: int) -> str:
    """A model is there, but no predictions yet."""
    return f"Marking the images with round {number} first; press Next doubtful again in a moment."


def tiles_made(name: str, tiles: str, size: tuple[int, int], count: int) -> str:
    """That a large image was cut, and what to do with the parts."""
    return (
        f"{name} is large ({size[0]} x {size[1]} pixels), so {tiles} shows it in {count} tiles: paint some of them and "
        "train. With the model saved, SemiGDA: Predict marks all of it without seams. "
        f"{name} is hidden, not changed."
    )


def growing(report: Report, name: str) -> str:
    """How far a large image is."""
    return f"Marking {name}: {report.fraction:.0%}, shown as it comes."


def predicted(classes: str, stopped: bool, large: bool) -> str:
    """What there is once predicting has ended, and what can be done with it."""
    how = f"{'Stopped' if stopped else 'Done'}.{f' Classes: {classes}.' if classes else ''}"
    if not large:
        return f"{how} The masks are yours: correct them, or save the layer."
    more = " Predict goes on where it stopped." if stopped else ""
    return (
        f"{how}{more} Masks of this size are kept in a temporary folder until the viewer is closed: save them before."
    )
