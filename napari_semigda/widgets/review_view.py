"""The look of the Review dock: a line of figures, the table of images, and what can be done with the one in view."""

from itertools import pairwise

from qtpy.QtWidgets import QCheckBox, QComboBox, QSizePolicy, QVBoxLayout, QWidget

from napari_semigda.review import ImageState
from napari_semigda.widgets import keys, words
from napari_semigda.widgets.dock import Dock, button, row
from napari_semigda.widgets.progress import text_label
from napari_semigda.widgets.review_table import BY_COLUMN, ORDERS, ImageTable, TableView
from napari_semigda.widgets.rounds import RoundsView


class ReviewView(Dock):
    """Composition only: what the widgets mean is the dock's business."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("SemiGDA: Review")
        self.table = ImageTable(self)
        self._make_widgets()
        layout = QVBoxLayout()
        layout.addWidget(self.counts)
        layout.addLayout(row(self.state_box, self.order_box, stretch=(1, 1)))
        layout.addWidget(self.view, 100)
        layout.addLayout(row(self.next_button, self.skip_button, stretch=(3, 2)))
        layout.addLayout(row(self.accept_button, self.verify_button, stretch=(1, 1)))
        layout.addLayout(row(self.doubt_box, self.toggle_button, stretch=(3, 2)))
        layout.addWidget(self.sentence)
        layout.addWidget(self.rounds)
        layout.addWidget(self.train_button)
        self.fill(layout)
        for one, following in pairwise(self._in_order()):
            QWidget.setTabOrder(one, following)
        self.view.horizontalHeader().sectionClicked.connect(lambda column: self.set_order(BY_COLUMN[column]))

    def _make_widgets(self) -> None:
        self.counts = text_label("How many images there are, and how many of them are done.")
        self.state_box = QComboBox()
        self.state_box.setToolTip("Show the images of one state only.")
        self.state_box.setAccessibleName("Images to show")
        self.state_box.addItem("All images", None)
        for state in ImageState:
            self.state_box.addItem(words.image_state(state), state)
        self.order_box = QComboBox()
        self.order_box.setToolTip(
            "The order of the table; clicking on the head of a column does the same. Suggested first: images in doubt "
            "that differ from those you have painted, and from each other."
        )
        self.order_box.setAccessibleName("Order")
        for order, text in ORDERS.items():
            self.order_box.addItem(text, order)
        for box in (self.state_box, self.order_box):
            box.setMinimumWidth(60)
        self.view = TableView(self.table)
        # It takes what room there is, and gives way to the verdict before the dock has to scroll.
        self.view.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self.view.setMinimumHeight(120)
        self.next_button, self.skip_button, self.accept_button, self.verify_button, self.toggle_button = (
            button(keys.label(key), keys.tip(key))
            for key in (keys.NEXT, keys.SKIP, keys.ACCEPT, keys.VERIFY, keys.TOGGLE)
        )
        self.doubt_box = QCheckBox(words.DOUBT_BOX)
        self.doubt_box.setToolTip(words.DOUBT_BOX_TIP)
        self.sentence = text_label("What just happened, or what to do next.")
        self.rounds = RoundsView()
        self.train_button = button("Open SemiGDA: Train", "The dock in which images are chosen, painted and learnt.")

    def _in_order(self) -> list[QWidget]:
        boxes = [self.state_box, self.order_box, self.view, self.next_button, self.skip_button]
        boxes += [self.accept_button, self.verify_button, self.doubt_box, self.toggle_button]
        return [*boxes, self.rounds.choice, self.train_button]

    def set_order(self, order: str) -> None:
        """Choose one of `ORDERS`."""
        self.order_box.setCurrentIndex(self.order_box.findData(order))

    def arrange(self) -> None:
        """Order and filter the table anew, as the boxes say."""
        self.table.arrange(self.order_box.currentData(), self.state_box.currentData())

    def enable_for(self, *, images: bool, predicted: bool, verified: bool, connected: bool) -> None:
        """Enable what makes sense.

        Parameters
        ----------
        images, predicted
            Whether there are images, and predictions of them.
        verified
            Whether the image in view is verified.
        connected
            Whether there is a Train dock to work with.
        """
        for widget in (self.state_box, self.order_box, self.next_button, self.skip_button, self.verify_button):
            widget.setEnabled(images)
        for widget in (self.accept_button, self.toggle_button, self.doubt_box):
            widget.setEnabled(predicted)
        self.verify_button.setText(keys.label(keys.VERIFY, "Verified ✓" if verified else ""))
        self.train_button.setVisible(not connected)


def figures(counts: dict[ImageState, int]) -> str:
    """``"24 images   4 verified   2 in progress"``."""
    total = words.count(sum(counts.values()), "image")
    said = [f"{counts[state]} {state}" for state in (ImageState.VERIFIED, ImageState.IN_PROGRESS)]
    skipped = [f"{counts[ImageState.SKIPPED]} skipped"] if counts[ImageState.SKIPPED] else []
    return "   ".join([total, *said, *skipped])
