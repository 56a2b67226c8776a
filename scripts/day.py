"""A working day by itself, with real strokes, keys and clicks: project, paint, train, correct, verify, batch, export.

    make day                      on a copy of the bundled sample
    make day DATA=folder          on copies of images in DATA/images, painted after the masks of the same names in
                                  DATA/masks

Prints every step with its time and figures; leaves the project, its masks, the batch, the package and screenshots in
``out/day/``. ``--screenshots FOLDER`` writes a picture of every dock there; ``--rehearse`` is a short day, which the
tests play. Ends with 0 when every step worked, with 1 and a sentence when one did not.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from app_model import Application
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

sys.path.insert(0, str(Path(__file__).parent))
from session import Session, StepError, play

from napari_semigda import sample_data
from napari_semigda.engine.types import EngineError
from napari_semigda.images import by_stem, images_in, read_mask
from napari_semigda.review import ImageState
from napari_semigda.widgets.batch import BatchDock
from napari_semigda.widgets.predict import PredictDock
from napari_semigda.widgets.review import ReviewDock, share_place
from napari_semigda.widgets.words import RUNNING, State

OUT = Path(__file__).parents[1] / "out" / "day"
STUDY, NEW = 24, 6  # images of the project, and of the batch, which no round ever sees
CONTROL = Qt.KeyboardModifier.ControlModifier


@dataclass(frozen=True)
class Hours:
    """How much is done in a day."""

    painted: int = 4  # images, before the first round
    a_round: int = 2  # images corrected before each of the others
    rounds: int = 2
    hand: tuple[int, int] = 5, 5  # the broad brush, and how many pixels in a row must be wrong before it bothers
    alike: float = 0.9  # of the pixels of an image must then be right
    max_steps: int | None = None  # of a training
    learnt: float = 0.5  # mean Dice below which nothing was learnt
    export: bool = True  # which takes long and has tests of its own


REHEARSAL = Hours(painted=2, a_round=1, rounds=1, hand=(7, 12), alike=0.7, max_steps=12, learnt=0.0, export=False)


@dataclass(frozen=True)
class Material:
    """Images of the day, and what an expert would paint on them."""

    study: Path
    new: Path
    truth: dict[str, np.ndarray]  # (H, W) class ids by the stem of the image


def material(data: Path | None, out: Path) -> Material:
    """Copy images for the project and for the batch, evenly spread over what there is."""
    folders = [out / "study", out / "new"]
    for folder in folders:
        folder.mkdir(parents=True)
    truth = {}
    if data is None:
        stacks = [tifffile.imread(sample_data.SAMPLE / kind / "brain.tif") for kind in ("images", "truth")]
        for number, (image, mask) in enumerate(zip(*stacks, strict=True)):
            Image.fromarray(image).save(folders[number % 5 == 2] / f"ax{number:02d}.png")
            truth[f"ax{number:02d}"] = mask
        return Material(*folders, truth)
    images, masks = by_stem(images_in(data / "images")), by_stem(images_in(data / "masks"))
    stems = [stem for stem in images if stem in masks]
    if len(stems) < 10:
        raise StepError(f"{data} has {len(stems)} images with masks; a day needs ten at least.")
    some = [stems[int(i)] for i in np.unique(np.linspace(0, len(stems) - 1, STUDY + NEW))]
    for number, stem in enumerate(some):
        shutil.copy(images[stem], folders[number % 5 == 2])
        (truth[stem],) = read_mask(masks[stem])  # flat images only
    return Material(*folders, truth)


class Day(Session):
    """The steps, in the order of a day."""

    def __init__(self, material: Material, hours: Hours, out: Path, pictures: Path | None) -> None:
        super().__init__(out)
        self.material, self.hours, self.pictures = material, hours, pictures
        self.predictions: list[tuple[str, np.ndarray]] = []  # of every round: what it was, (N, H, W) class ids
        if hours.max_steps is not None:
            self.dock.training.tune = lambda settings: replace(settings, max_steps=hours.max_steps)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print what is done, how long it took, and before that its facts."""
        print(f"{title} ...", flush=True)
        began = time.monotonic()
        yield
        self.fact(f"    {title}: {time.monotonic() - began:.0f} s")

    def dock_of(self, kind: type, command: str):
        """Open another dock as its menu entry does, and lay it over the others: below each other they are too low."""
        Application.get_app("napari").commands.execute_command(f"napari-semigda.{command}").result()
        dock = self.find_dock(kind)
        share_place(dock, self.dock)
        self.rest(1)
        return dock

    def picture(self, name: str) -> None:
        """A screenshot of the day, and for the documentation where that is wanted."""
        self.shoot(name)
        if self.pictures is not None:
            shutil.copy(self.out / f"{name}.png", self.pictures)

    # -- the steps --------------------------------------------------------------------------------------------------

    def make_project(self) -> None:
        """Drop the folder on the viewer and take what is offered."""
        self.viewer.open(str(self.material.study), plugin="napari")
        row = self.dock.project_row
        self.wait("the offer of a project", lambda: row.offered() is not None, 20)
        self.click(row.yes)
        self.wait("the project", lambda: row.value() is not None and self.masks is not None, 20)
        images = len(self.project.stack)
        self.fact(f"    {images} images in {row.value().name}; saving: {row.saved.text()}")

    @property
    def project(self):
        return self.dock.bridge.project

    def truth(self, plane: int) -> np.ndarray:
        """What an expert would paint on an image, as large as the slice in view."""
        height, width = self.project.stack.size(plane)
        wanted = np.zeros(self.project.stack.shape[-2:], np.uint8)
        wanted[:height, :width] = self.material.truth[Path(self.project.stack.plane_name(plane)).stem]
        return wanted

    def paint(self) -> None:
        """The first images from nothing, all of each."""
        for plane in np.linspace(1, len(self.project.stack) - 2, self.hours.painted).round().astype(int):
            self.look_at(int(plane))
            self.trace(int(plane))
        self.wait("the dock to count", lambda: f"{self.hours.painted} of" in self.dock.counts.text(), 10)
        self.shoot("painted")

    def trace(self, plane: int) -> None:
        """Paint until the masks of the image in view are as they should be."""
        self.press("R", CONTROL)  # all of the image in view
        self.viewer.layers.selection.active = self.masks
        self.masks.mode = "paint"
        wanted = self.truth(plane)
        strokes = self.hand.trace(self.masks, wanted, *self.hours.hand)
        alike = (self.masks.data[plane] == wanted)[: self.project.stack.size(plane)[0]].mean()
        name = self.project.stack.plane_name(plane)
        if alike < self.hours.alike:
            raise StepError(f"{strokes} strokes painted only {alike:.0%} of {name} right.")
        self.fact(f"    {name}: {strokes} strokes, {alike:.1%} of its pixels as in the truth")

    def train(self, what: str) -> None:
        """T, and wait for the masks of all images."""
        self.dock.time.setValue("quick")
        self.press("T")
        self.wait("training to begin", lambda: self.dock.state in RUNNING, 20)
        if not self.predictions:
            self.wait("training to get somewhere", lambda: self.dock.run.bar.value() > 300, 600)
            self.picture("train")
        self.wait("the masks of all images", lambda: self.dock.state in (State.DONE, State.WORSE), 900)
        self.rest(1)
        self.fact(f"    {self.dock.run.sentence.text()}")
        self.predictions.append((what, np.array(self.dock.bridge.ours("predicted").data)))

    def look_at_rounds(self, review: ReviewDock) -> None:
        """What the rounds came to."""
        self.bring(review)
        self.fact(f"    {review.rounds.sentence.text()}")
        self.picture("rounds")

    def correct(self, review: ReviewDock) -> None:
        """N to the image that is best corrected next; A, strokes, D; and so on."""
        for _ in range(self.hours.a_round):
            self.press("N")
            self.wait("a suggestion", lambda: self.dock.bridge.plane_in_view() not in self.project.painted, 20)
            plane = self.dock.bridge.plane_in_view()
            self.fact(f"    suggested: {review.sentence.text()}")
            self.press("A")
            self.wait("Accept to fill in the prediction", self.masks.data[plane].any, 10)
            self.trace(plane)
            self.verify(plane)
            self.rest(0.5)
        self.picture("review")

    def verify(self, plane: int) -> None:
        """D, on the image in view."""
        self.press("D")
        self.wait("Verify", lambda: self.project.review.is_verified(plane), 10)

    def look_through(self) -> None:
        """Verify what was painted first as well; Ctrl+Z and D again."""
        review = self.project.review
        for plane in [plane for plane in self.project.painted if not review.is_verified(plane)]:
            self.look_at(plane)
            self.verify(plane)
        self.press("Z", CONTROL)
        self.wait("Ctrl+Z to take it back", lambda: not review.is_verified(plane), 10)
        self.verify(plane)
        kept = self.project.review.count(range(len(self.project.stack)))[ImageState.VERIFIED]
        self.wait("the project to be saved", lambda: self.saved_marks() == kept, 10)
        self.fact(f"    {kept} images verified, and so project.json says")

    def saved_marks(self) -> int:
        """How many images are verified on disk."""
        images = json.loads((self.material.study / "semigda" / "project.json").read_text())["images"]
        return sum(len(image["verified"]) for image in images)

    def save_and_predict(self) -> Path:
        """Save the model, then use it on one image as somebody would who has nothing else."""
        model = self.out / "day.semigda"
        self.choose(model)
        self.open_advanced()
        self.click(self.dock.save_button)
        self.wait("the model file", model.is_file, 10)
        dock = self.dock_of(PredictDock, "predict")
        dock.model.value = model
        self.wait("Predict", dock.predict_button.isEnabled, 10)
        self.click(dock.predict_button)
        self.wait("the masks", lambda: dock.result is not None and not dock.running, 300)
        self.fact(f"    {dock.run.sentence.text()}")
        self.picture("predict")
        return model

    def batch(self, model: Path) -> Path:
        """The images that no round has seen."""
        dock = self.dock_of(BatchDock, "batch")
        dock.model.value, dock.images.value, dock.masks.value = model, self.material.new, self.out / "masks"
        self.click(dock.run_button)
        self.wait("the batch", lambda: not dock.running, 300)
        self.fact(f"    {dock.run.sentence.text()}")
        found = {path.stem for path in (self.out / "masks").glob("*.*")} >= {
            p.stem for p in self.material.new.iterdir()
        }
        if not found or not (self.out / "masks" / "measurements.csv").is_file():
            raise StepError(f"The batch left {sorted(p.name for p in (self.out / 'masks').iterdir())}.")
        self.picture("batch")
        return self.out / "masks"

    def export(self) -> None:
        """A package for others."""
        ends: list[tuple[bool, str]] = []
        self.dock.export_button.exporter.finished.connect(lambda *end: ends.append(end))
        package = self.out / "day.zip"
        self.choose(package)
        self.open_advanced()
        self.click(self.dock.export_button)
        self.wait("the package", lambda: ends, 300)
        if not ends[0][0]:
            raise StepError(ends[0][1])
        self.fact(f"    {package.name}, {package.stat().st_size / 1e6:.0f} MB: {ends[0][1]}")

    def open_advanced(self) -> None:
        """Bring the Train dock to the front and unfold what is at its end."""
        self.bring(self.dock)
        self.dock.advanced.expand(animate=False)
        self.rest(0.3)

    def choose(self, path: Path) -> None:
        """What the next file dialog will answer: it belongs to the system, and nobody is there to click in it."""
        QFileDialog.getSaveFileName = staticmethod(lambda *_, **__: (str(path), ""))


def work(day: Day) -> Path:
    """The whole day; the folder with the masks of the batch."""
    hours = day.hours
    with day.step("Make a project"):
        day.make_project()
    with day.step(f"Paint {hours.painted} images"):
        day.paint()
    with day.step("Train"):
        day.train(f"{hours.painted} painted")
    review = day.dock_of(ReviewDock, "review")
    for number in range(1, hours.rounds + 1):
        with day.step(f"Correct {hours.a_round} suggested images"):
            day.correct(review)
        with day.step("Train again"):
            day.train(f"{hours.a_round * number} corrected")
    day.look_at_rounds(review)
    with day.step("Verify"):
        day.look_through()
    with day.step("Save the model and predict with it"):
        model = day.save_and_predict()
    with day.step("Batch"):
        masks = day.batch(model)
    if hours.export:
        with day.step("Export"):
            day.export()
    return masks


def report(day: Day, painted: set[str], names: list[str], sizes: list, masks: Path) -> None:
    """Dice against the truth, of what nobody painted, round by round, and of the batch."""
    from napari_semigda.engine.metrics import score, summarise  # loads torch, which the viewer does without

    truth, classes = (
        day.material.truth,
        sorted({int(c) for mask in day.material.truth.values() for c in np.unique(mask)}),
    )
    classes = [c for c in classes if c]

    def dice(pairs) -> float:
        return summarise(score(mask, wanted, classes) for mask, wanted in pairs)[1].dice.mean

    left = [i for i, name in enumerate(names) if Path(name).stem not in painted]
    for what, predicted in day.predictions:
        pairs = [(predicted[i][: sizes[i][0], : sizes[i][1]], truth[Path(names[i]).stem]) for i in left]
        day.fact(f"Dice on the {len(left)} images nobody painted, {what}: {dice(pairs):.3f}")
    files = by_stem(images_in(masks))
    last = dice((read_mask(files[path.stem])[0], truth[path.stem]) for path in day.material.new.iterdir())
    day.fact(f"Dice on the {len(files)} images of the batch, which no round has seen: {last:.3f}")
    (day.out / "day.txt").write_text("\n".join([*day.facts, ""]))
    if last < day.hours.learnt:
        raise StepError(f"A Dice of {last:.2f} means that nothing was learnt.")


def run(arguments: argparse.Namespace) -> None:
    """Play the day and write the report; raises what goes wrong."""
    out, pictures = arguments.out, arguments.screenshots
    shutil.rmtree(out, ignore_errors=True)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    hours = REHEARSAL if arguments.rehearse else Hours()
    day = Day(material(arguments.data, out), hours, out, pictures)
    try:
        masks = work(day)
        stack = day.project.stack
        names, sizes = zip(*((stack.plane_name(i), stack.size(i)) for i in range(len(stack))), strict=True)
        painted = {Path(names[i]).stem for i in day.project.painted}
    except BaseException:
        day.shoot("failed")
        raise
    finally:
        day.close()
    report(day, painted, names, sizes, masks)


def main() -> int:
    """Run the day; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with images/ and masks/; left out, the bundled sample")
    parser.add_argument("--out", type=Path, default=OUT, help="where everything goes; emptied first")
    parser.add_argument("--screenshots", type=Path, help="folder for a picture of every dock")
    parser.add_argument("--rehearse", action="store_true", help="fewer images and steps, to see that all of it works")
    arguments = parser.parse_args()
    began = time.monotonic()
    status = play("The day", lambda: run(arguments), (StepError, EngineError))
    if not status:
        print(f"A day in {time.monotonic() - began:.0f} s; see {arguments.out}.")
    return status


if __name__ == "__main__":
    sys.exit(main())
