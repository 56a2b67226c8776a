"""Keys of the docks, beside napari's own: one table, which the docks, their tooltips and the sheet of keys are made of.

They are bound on the viewer, which napari asks after the selected layer, so no key of a layer is taken away. That is
why showing and hiding the prediction is H and not P (P is napari's paint brush), and why stopping is Shift+T (Escape
ends napari's polygons). Verify is D, for done, because V hides the selected layers in napari; with A and S it lies
under one hand. The sheet of keys is F1, because napari tells no "?" from other keys that it does not know.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qtpy.QtGui import QKeySequence

TRAIN, STOP, ACCEPT, TOGGLE, SHEET = "T", "Shift-T", "A", "H", "F1"
VERIFY, SKIP, NEXT = "D", "S", "N"
UNDO, REDO = "Control-Z", "Control-Shift-Z"
DIGITS, CLASSES = tuple("123456789"), "1 to 9"
"""Choose the class and the brush. Bound on the masks layer alone, where napari has tools on them: its tools keep their
letters, and all other layers their digits."""


@dataclass(frozen=True)
class Entry:
    """What a key does."""

    place: str
    """The dock that has to be open, or the layer that has to be selected."""
    name: str
    """As on its button."""
    tip: str
    """Whole sentences: what it does, and what happens next."""


_TRAIN, _REVIEW, _MASKS = "SemiGDA: Train", "SemiGDA: Review", "While the masks are selected"
TABLE = {
    TRAIN: Entry(
        _TRAIN,
        "Train",
        "Learn from the painted and the unlabelled images. A first preview shows within a minute; you can go on "
        "painting meanwhile.",
    ),
    STOP: Entry(_TRAIN, "Stop", "End the training and keep the best result so far."),
    ACCEPT: Entry(
        _TRAIN,
        "Accept slice",
        "Copy the predicted masks of the image in view into your masks. Ctrl+Z takes it back.",
    ),
    TOGGLE: Entry(
        _TRAIN,
        "Hide / show",
        "Flip between the predicted masks, with yours as outlines on top, and yours alone.",
    ),
    SHEET: Entry(_TRAIN, "Keys", "Show all keys at a glance, or put them away."),
    NEXT: Entry(
        _REVIEW,
        "Next doubtful",
        "Go to the next place that is in doubt: first those of the image in view, then the image that is best "
        "corrected next.",
    ),
    SKIP: Entry(
        _REVIEW,
        "Skip",
        "Do not suggest the image in view any more, and go to the next one. Pressed again, it is suggested again.",
    ),
    VERIFY: Entry(
        _REVIEW,
        "Verify",
        "Say that your masks of the image in view are the truth; with nothing painted, that none of your classes is on "
        "it. Accept leaves it alone from then on. Pressed again, or with Ctrl+Z, it is not verified.",
    ),
    CLASSES: Entry(
        _MASKS,
        "Choose a class",
        "Paint the class of that number, with the brush, or with fill or polygon when one of these is on. On other "
        "layers the digits stay napari's; its tools are on letters as ever: E erases, P paints, F fills.",
    ),
    UNDO: Entry(_MASKS, "Undo", "Take back the last stroke, Accept, Verify, Skip or edit of a class, one by one."),
    REDO: Entry(_MASKS, "Redo", "Do again what was taken back last."),
}
"""Every key, by its name in napari, in the order of the sheet."""


def shown(key: str) -> str:
    """A key as this computer's keyboard has it: ``"Shift+T"``."""
    if key == CLASSES:
        return key
    sequence = QKeySequence(key.replace("Control", "Ctrl").replace("-", "+"))
    return sequence.toString(QKeySequence.SequenceFormat.NativeText)


def label(key: str, name: str = "") -> str:
    """Text of a button with a key, under its own name or another: ``"Train  (T)"``."""
    return f"{name or TABLE[key].name}  ({shown(key)})"


def tip(key: str) -> str:
    """Tooltip of a button with a key."""
    return f"{TABLE[key].tip} Key: {shown(key)}."


def by_place() -> Iterator[tuple[str, list[str]]]:
    """Places of the table, and the keys of each."""
    for place in dict.fromkeys(entry.place for entry in TABLE.values()):
        yield place, [key for key, entry in TABLE.items() if entry.place == place]


class Keys:
    """Binds keys on a viewer and gives them back.

    Parameters
    ----------
    viewer : napari.Viewer
        Where keys are pressed.
    actions : dict of str to callable
        What each key of `TABLE` does, without arguments.
    """

    def __init__(self, viewer: Any, actions: dict[str, Callable[[], object]]) -> None:
        self._viewer = viewer
        self._before = {}
        for key, action in actions.items():
            self._before[key] = viewer.bind_key(key, None)
            viewer.bind_key(key, _ignoring_viewer(action))

    def release(self) -> None:
        """Leave the keys as they were found."""
        for key, earlier in self._before.items():
            self._viewer.bind_key(key, earlier, overwrite=True)
        self._before = {}


def _ignoring_viewer(action: Callable[[], object]) -> Callable[[Any], None]:
    def press(_: Any) -> None:
        action()

    return press
