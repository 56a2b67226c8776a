"""The live curve: loss and held-out Dice over the steps of one run, drawn with QPainter."""

import math

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

LOSS, DICE = "#D55E00", "#009E73"  # both stand out on napari's dark and light ground, to colour-blind eyes too
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
        return QSize(280, 76)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(120, 76)

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
