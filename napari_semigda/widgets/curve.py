"""Curves drawn with QPainter: loss and held-out Dice over the steps of one run, and Dice over the rounds."""

import math
from collections.abc import Sequence
from itertools import pairwise

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_semigda.colours import class_hex
from napari_semigda.engine.verdict import Point

LOSS, DICE = "#D55E00", "#009E73"  # both stand out on napari's dark and light ground, to colour-blind eyes too
HEIGHT = 76
MAX_POINTS = 600  # twice what 320 pixels can show


class Curve(QWidget):
    """Two lines over steps: the loss (own scale, from 0) and the Dice (0 to 1)."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._loss: list[tuple[float, float]] = []
        self._dice: list[tuple[float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Orange: how far the masks still are from yours while learning; it should fall.\n"
            "Green: held-out Dice, measured on images kept back; it should rise towards 1."
        )
        self.setAccessibleName("Curve of loss and held-out Dice")

    def value(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """(step, loss) and (step, Dice) points."""
        return list(self._loss), list(self._dice)

    def clear(self) -> None:
        """Begin a new run."""
        self._loss, self._dice = [], []
        self.update()

    def add(self, step: int, loss: float | None, dice: float | None) -> None:
        """Append what one report says; values that are missing or not finite leave no point."""
        for points, value in ((self._loss, loss), (self._dice, dice)):
            if value is None or not math.isfinite(value):
                continue
            if points and step <= points[-1][0]:
                points.pop()  # a check between two steps: the newer figure counts
            points.append((float(step), float(value)))
            if len(points) > MAX_POINTS:
                del points[1:-1:2]  # a long run keeps its shape at half the points
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(280, HEIGHT)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(120, HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        line = painter.fontMetrics().height()
        box = QRectF(1, line + 3, self.width() - 2, self.height() - line - 5)
        faint = QColor(text)
        faint.setAlpha(70)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(box)
        last = max([points[-1][0] for points in (self._loss, self._dice) if points], default=0) or 1
        top = max((value for _, value in self._loss), default=1) or 1
        self._line(painter, box, self._loss, last, top, LOSS)
        self._line(painter, box, self._dice, last, 1, DICE)
        self._legend(painter, text, line)

    def _line(
        self, painter: QPainter, box: QRectF, points: list[tuple[float, float]], last: float, top: float, colour: str
    ) -> None:
        painter.setPen(QPen(QColor(colour), 2))
        place = [
            QPointF(box.left() + step / last * box.width(), box.bottom() - min(value / top, 1) * box.height())
            for step, value in points
        ]
        if len(place) == 1:
            painter.drawEllipse(place[0], 2, 2)
        painter.drawPolyline(QPolygonF(place))

    def _legend(self, painter: QPainter, text: QColor, line: int) -> None:
        """The last figures, each beside a dash in its colour, so that colour alone carries nothing."""
        left = 2.0
        for name, points, colour in (("loss", self._loss, LOSS), ("held-out Dice", self._dice, DICE)):
            painter.setPen(QPen(QColor(colour), 2))
            painter.drawLine(QPointF(left, line / 2 + 1), QPointF(left + 14, line / 2 + 1))
            painter.setPen(text)
            words = f"{name} {points[-1][1]:.2f}" if points else name
            place = QRectF(left + 18, 0, self.width(), line + 2)
            painter.drawText(place, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), words)
            left += 18 + painter.fontMetrics().horizontalAdvance(words) + 14


class RoundsCurve(QWidget):
    """Held-out Dice over rounds: a thick line with its intervals, and a thin one in its colour for each class.

    Rounds that were measured on other images are not joined: their figures cannot be compared.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._points: tuple[Point, ...] = ()
        self._in_use: int | None = None
        self._colours: dict[int, str] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Held-out Dice of every round: thick over all classes, thin for each class in its colour. "
            "Below: how many images were painted. The ring is the round in use; a gap means other images kept back."
        )
        self.setAccessibleName("Curve of held-out Dice over rounds")

    def value(self) -> tuple[tuple[Point, ...], int | None]:
        """The rounds shown, and the number of the one in use."""
        return self._points, self._in_use

    def setValue(self, points: Sequence[Point], in_use: int | None, colours: dict[int, str]) -> None:  # noqa: N802
        """Show `points`, and classes in these colours, ``"#rrggbb"`` by class id."""
        self._points, self._in_use, self._colours = tuple(points), in_use, colours
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(280, HEIGHT + 4)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(120, HEIGHT + 4)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        if not self._points:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        metrics = painter.fontMetrics()
        left = metrics.horizontalAdvance("0.0") + 6
        box = QRectF(left, 4, self.width() - left - 6, self.height() - metrics.height() - 8)
        bottom = self._bottom()
        self._frame(painter, box, text, bottom)
        step = box.width() / len(self._points)
        across = [box.left() + (place + 0.5) * step for place in range(len(self._points))]

        def up(dice: float) -> float:
            return box.bottom() - (dice - bottom) / (1 - bottom) * box.height()

        for class_id in sorted({c for point in self._points for c in point.by_class}):
            painter.setPen(QPen(QColor(self._colours.get(class_id, class_hex(class_id))), 2))
            heights = [up(point.by_class.get(class_id, math.nan)) for point in self._points]
            self._join(painter, across, heights)
        painter.setPen(QPen(text, 3))
        heights = [up(point.dice.mean) for point in self._points]
        self._join(painter, across, heights)
        for point, x, y in zip(self._points, across, heights, strict=True):
            if point.dice.ends is not None:
                low, high = (up(end) for end in point.dice.ends)
                painter.setPen(QPen(text, 1))
                painter.drawLine(QPointF(x, low), QPointF(x, high))
            if point.number == self._in_use:
                painter.setPen(QPen(text, 1.5))
                painter.drawEllipse(QPointF(x, y), 6, 6)

    def _bottom(self) -> float:
        """Of the scale: the tenth below the lowest figure, so that small changes can be seen."""
        lowest = [
            min([point.dice.mean, *(point.dice.ends or ()), *(d for d in point.by_class.values() if math.isfinite(d))])
            for point in self._points
        ]
        return min(0.9, max(0.0, math.floor(min(lowest) * 10) / 10))

    def _frame(self, painter: QPainter, box: QRectF, text: QColor, bottom: float) -> None:
        faint = QColor(text)
        faint.setAlpha(70)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(box)
        painter.setPen(text)
        line = painter.fontMetrics().height()
        right = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        painter.drawText(QRectF(0, box.top() - 3, box.left() - 4, line), right, "1")
        painter.drawText(QRectF(0, box.bottom() - line + 3, box.left() - 4, line), right, f"{bottom:.1f}")
        step = box.width() / len(self._points)
        every = math.ceil(len(self._points) * painter.fontMetrics().horizontalAdvance("9999") / box.width())
        for place, point in enumerate(self._points):
            if place % every == 0:
                below = QRectF(box.left() + place * step, box.bottom() + 1, step * every, line + 2)
                painter.drawText(below, int(Qt.AlignmentFlag.AlignCenter), str(point.labelled))

    def _join(self, painter: QPainter, across: Sequence[float], heights: Sequence[float]) -> None:
        places = [QPointF(x, y) for x, y in zip(across, heights, strict=True)]
        for place in places:
            if math.isfinite(place.y()):
                painter.drawEllipse(place, 1.5, 1.5)
        for (here, there), point in zip(pairwise(places), self._points[1:], strict=True):
            if point.goes_on and math.isfinite(here.y()) and math.isfinite(there.y()):
                painter.drawLine(here, there)
