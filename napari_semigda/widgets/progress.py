"""How a run is going: a bar, a sentence, the held-out Dice, the curve, and the details of an error."""

import time
from dataclasses import replace

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QPlainTextEdit, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_semigda.engine.types import Report
from napari_semigda.widgets import words
from napari_semigda.widgets.curve import Curve

SENTENCE_TIP = "What is going on, or what to do next."
REDRAW_S = 0.2
"""Five updates a second at most: more can be felt while painting and seen by nobody."""


class RunView(QWidget):
    """Shows reports; holds no state of the run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setToolTip("How far the run has come, and the time it still needs.")
        self.sentence = text_label(SENTENCE_TIP)
        self.numbers = text_label("Steps of learning so far, and the time since Train was pressed.")
        self.dice = text_label("")
        self.curve = Curve()
        self.show_details = QPushButton("Show details")
        self.show_details.setCheckable(True)
        self.show_details.setToolTip(
            "The technical text behind the message; Advanced > Report a problem puts it into a file."
        )
        self.details = QPlainTextEdit()
        self.details.setReadOnly(True)
        self.details.setToolTip(
            "Technical text: select it to copy it; Advanced > Report a problem puts it into a file."
        )
        self.details.setFixedHeight(110)
        self.details.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.show_details.toggled.connect(self.details.setVisible)
        self._latest: tuple[Report, dict[int, str]] | None = None
        self._drawn = 0.0
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._draw)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (
            self.bar,
            self.sentence,
            self.show_details,
            self.details,
            self.numbers,
            self.dice,
            self.curve,
        ):
            layout.addWidget(widget)
        self.begin()
        self.end()

    def begin(self) -> None:
        """Clear everything for a new run."""
        self._later.stop()
        self._latest = None
        self.bar.setValue(0)
        self.bar.setFormat("")
        self.bar.setVisible(True)
        self.curve.clear()
        self.curve.setVisible(False)
        self.numbers.setText("")
        self.dice.setText("")
        self.dice.setToolTip("")
        self.sentence.setToolTip(SENTENCE_TIP)
        self.say("")
        for label in (self.numbers, self.dice):
            label.setVisible(False)

    def end(self) -> None:
        """The run is over: the bar goes, the figures stay."""
        self._later.stop()
        if self._latest is not None:
            self._draw()
        self.bar.setVisible(False)
        for label in (self.numbers, self.dice):  # the sentence at the end says the Dice
            label.setVisible(False)
        self.sentence.setToolTip(self.dice.toolTip() or SENTENCE_TIP)

    def say(self, sentence: str, details: str = "") -> None:
        """Show one sentence, with a way to the details when there are any."""
        self.sentence.setText(sentence)
        self.details.setPlainText(details)
        self.show_details.setVisible(bool(details))
        self.show_details.setChecked(False)
        self.details.setVisible(False)

    def show_copying(self, done: int, total: int) -> None:
        """Images on their way to the training process."""
        if time.monotonic() - self._drawn >= REDRAW_S:
            self._drawn = time.monotonic()
            self.say(f"Starting… handing over image {done} of {total}.")

    def show_report(self, report: Report, classes: dict[int, str]) -> None:
        """Show `report`, now or a moment later."""
        self._latest = report, classes
        if (wait := self._drawn + REDRAW_S - time.monotonic()) <= 0:
            self._draw()
        elif not self._later.isActive():
            self._later.start(round(wait * 1000))

    def show_progress(self, report: Report) -> None:
        """Show the bar of `report` and nothing else."""
        self.bar.setValue(round(report.fraction * 1000))
        self.bar.setFormat(words.progress(report))

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        report, classes = self._latest
        self.show_progress(replace(report, fraction=words.share(report)))
        if report.stage != "predicting":
            self.curve.add(report.step, report.loss, report.dice)
            self.numbers.setText(words.numbers(report))
            self.numbers.setVisible(True)
        self.dice.setText(words.dice(report))
        self.dice.setToolTip(words.dice_tip(report, classes))
        self.dice.setVisible(report.stage != "starting")  # nobody knows yet which images are kept back
        self.curve.setVisible(bool(self.curve.value()[0]))


def text_label(tooltip: str) -> QLabel:
    """A text that wraps, can be selected, and never makes the dock wider."""
    label = QLabel()
    label.setWordWrap(True)
    label.setToolTip(tooltip)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label
