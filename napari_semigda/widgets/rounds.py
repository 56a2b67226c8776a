"""What the rounds came to: figures a class, the curve over rounds, the verdict, and which model is in use."""

from html import escape

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_semigda.classes import Classes, PaintClass, plain_name
from napari_semigda.colours import class_hex
from napari_semigda.engine.verdict import Estimate, Verdict, course, judge
from napari_semigda.engine.wording import figure, sentences
from napari_semigda.project import Project
from napari_semigda.rounds import Rounds
from napari_semigda.widgets.curve import RoundsCurve
from napari_semigda.widgets.progress import text_label

TABLE_TIP = (
    "Measured on the images kept back. Dice: 1 is perfect, 0 nothing in common with your masks; in brackets where the "
    "true figure lies with 95 % certainty, or with fewer than five images the lowest and the highest of them. "
    "Change: of Dice since the round before, on the same images. Border: how many pixels the predicted border is off; "
    "all but the worst twentieth of it (the 95 % Hausdorff distance)."
)


class RoundChoice(QWidget):
    """Which round's model is in use, shown once there is a choice."""

    chosen = Signal(int)
    """Number of the round that the user wants."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QComboBox()
        self.box.setToolTip(
            "The model that marks the images and that the next round goes on from. After a round that is surely worse "
            "the better one stays; choose any other here, and all images are marked anew."
        )
        self.box.setAccessibleName("Model in use")
        self.box.setMinimumWidth(60)
        self.box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.box.activated.connect(lambda _: self.chosen.emit(self.value()))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("In use"))
        layout.addWidget(self.box, 1)
        self.setFocusProxy(self.box)
        self.setVisible(False)

    def value(self) -> int | None:
        """Number of the round in use."""
        return self.box.currentData()

    def show_rounds(self, rounds: Rounds | None) -> None:
        """Show the rounds of a project, without announcing anything."""
        with QSignalBlocker(self.box):
            self.box.clear()
            for each in reversed(rounds or ()):
                dice = "" if each.standing.dice is None else f": Dice {each.standing.dice:.2f}"
                self.box.addItem(f"Round {each.standing.number}{dice}", each.standing.number)
            self.box.setCurrentIndex(self.box.findData(rounds.number_in_use) if rounds else -1)
        self.setVisible(len(rounds or ()) > 1)


class RoundsView(QWidget):
    """Did it get better? One sentence or a few, a table of classes, the curve, and the choice of a round."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.sentence = text_label("What the last round came to, and what to do next.")
        self.table = text_label(TABLE_TIP)
        self.table.setTextFormat(Qt.TextFormat.RichText)
        self.curve = RoundsCurve()
        self.choice = RoundChoice()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.sentence, self.table, self.curve, self.choice):
            layout.addWidget(widget)
        self.show_rounds(None)

    def show_rounds(self, project: Project | None) -> None:
        """Show the rounds of a project; nothing before the first."""
        rounds = None if project is None else project.rounds
        self.choice.show_rounds(rounds)
        self.setVisible(bool(rounds))
        if not rounds:
            return
        said, table = told(project)
        self.sentence.setText(said)
        self.table.setText(table)
        self.table.setVisible(bool(table))
        points = course(rounds.trained())
        self.curve.setValue(points, rounds.number_in_use, project.colours)
        self.curve.setVisible(len(points) > 1)


def told(project: Project) -> tuple[str, str]:
    """The verdict on the newest round of a project in sentences, and its figures as a table in rich text."""
    verdict = judge(project.rounds.trained())
    return " ".join(sentences(verdict, project.classes)), _class_table(verdict, project.class_list)


def _class_table(verdict: Verdict, classes: Classes) -> str:
    """Dice, its change and the distance of the borders of every class; empty when there are no figures."""
    if not verdict.classes:
        return ""
    known = {each.number: each for each in classes}
    rows = ["<tr><td></td><td>Dice</td><td>change&nbsp;</td><td>border</td></tr>"]
    for each in verdict.classes:
        its = known.get(each.id) or PaintClass(each.id, plain_name(each.id), class_hex(each.id))  # deleted since
        name = f'<font color="{its.colour}">■</font> {escape(its.name)}'
        dice = figure(each.dice).replace("(0.", "(.").replace("–0.", "–.")  # three figures side by side in 300 pixels
        cells = "".join(
            f'<td style="white-space:nowrap">{cell}&nbsp;</td>'
            for cell in (dice, _change(each.change), _pixels(each.hausdorff))
        )
        rows.append(f"<tr><td>{name}&nbsp;</td>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _change(change: Estimate | None) -> str:
    if change is None:
        return "–"
    rounded = round(change.mean, 2)
    return f"{rounded:+.2f}".replace("-", "−") if rounded else "0.00"


def _pixels(distance: Estimate) -> str:
    return "–" if not distance.images else f"{distance.mean:.1f} px"
