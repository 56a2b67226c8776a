"""The whole loop by itself, with real strokes and clicks: paint, train, stop, look, correct, train again.

    make demo         (or: xvfb-run -a -s "-screen 0 1400x900x24" python scripts/demo.py)

Leaves in ``out/run/`` screenshots, the predicted masks of both rounds (TIFF) and how well these agree with the truth on
the slices that nobody painted (``dice.md``, ``dice.csv``). Ends with 0 when every step worked, with 1 and a sentence
when one did not.
"""

import argparse
import csv
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from qtpy.QtCore import Qt

sys.path.insert(0, str(Path(__file__).parent))
from session import Session, StepError, play

from napari_semigda import sample_data
from napari_semigda.engine.types import Prediction
from napari_semigda.widgets.words import State

OUT = Path(__file__).parents[1] / "out" / "run"
PAINT = 5  # the slice that the demo paints, beside the four that the sample brings
ENOUGH = 0.7  # of the first round, then Stop
SHOW = 12  # a slice nobody paints, for the screenshots


class Demo(Session):
    """One session: a viewer, the dock, a hand, and the truth to paint from."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.truth = tifffile.imread(sample_data.SAMPLE / "truth" / "brain.tif")
        self.viewer.open_sample("napari-semigda", "brain")
        self.previews: list[Prediction] = []
        self.dock.runner.predicted.connect(self.previews.append)

    # -- the steps --------------------------------------------------------------------------------------------------

    def paint(self) -> None:
        """A fifth slice, all of it, by hand."""
        self.wait("the dock to be ready to train", lambda: self.dock.state is State.READY, 30)
        self.look_at(PAINT)
        self.viewer.layers.selection.active = self.masks
        self.masks.mode = "paint"
        strokes = self.hand.trace(self.masks, self.truth[PAINT])
        alike = (self.masks.data[PAINT] == self.truth[PAINT]).mean()
        if alike < 0.95:
            raise StepError(f"{strokes} strokes painted only {alike:.0%} of the slice right.")
        self.wait("the dock to count the slice", lambda: "5 of 24" in self.dock.counts.text(), 10)
        self.fact(f"Painted slice {PAINT} with {strokes} strokes, {alike:.1%} of its pixels as in the truth.")
        self.shoot("01-painted")

    def train_and_stop(self) -> None:
        """The first round, cut short."""
        pressed = self.press_train()
        self.look_at(SHOW)
        self.wait("a first preview of that slice", lambda: any(p.index == SHOW for p in self.previews), 120)
        self.fact(f"First preview {time.monotonic() - pressed:.0f} s after Train was pressed.")
        self.wait("training to get somewhere", lambda: self.dock.run.bar.value() >= 1000 * ENOUGH, 300)
        if self.dock.state is not State.TRAINING:
            raise StepError(f"Training is {self.dock.state.value} when it should be going on.")
        self.shoot("02-training")
        self.click(self.dock.stop_button)
        stopped = time.monotonic()
        self.wait("training to stop", lambda: self.dock.state not in (State.TRAINING, State.STOPPING), 60)
        self.fact(f"Stop took {time.monotonic() - stopped:.1f} s to save the best weights.")
        self.wait_for_masks()
        self.look_at(SHOW)
        self.shoot("03-predicted")

    def correct(self) -> int:
        """Accept the most doubtful slice, take that back and again, then put right what is wrong."""
        doubt = np.asarray(self.dock.bridge.ours("doubt").data).mean(axis=(1, 2))
        doubt[self.masks.data.any(axis=(1, 2))] = -1
        at = int(doubt.argmax())
        self.look_at(at)
        before = self.masks.data[at].copy()
        self.click(self.dock.accept_button)
        self.check_accepted(at)
        self.press("Z", Qt.KeyboardModifier.ControlModifier)
        self.wait("Ctrl+Z to take Accept back", lambda: np.array_equal(self.masks.data[at], before), 5)
        self.click(self.dock.accept_button)
        self.check_accepted(at)
        strokes = self.hand.trace(self.masks, self.truth[at])
        self.fact(f"Accepted slice {at}, the most doubtful one, and corrected it with {strokes} strokes.")
        self.wait("the dock to count the slice", lambda: "6 of 24" in self.dock.counts.text(), 10)
        return at

    def check_accepted(self, at: int) -> None:
        predicted = self.dock.bridge.ours("predicted").data[at]
        self.wait("Accept to copy the prediction", lambda: np.array_equal(self.masks.data[at], predicted), 5)

    def train_again(self) -> None:
        """The second round, to its end."""
        self.press_train()
        self.wait_for_masks()
        self.look_at(SHOW)
        self.shoot("04-corrected")

    def press_train(self) -> float:
        self.previews.clear()
        self.click(self.dock.train_button)
        self.wait("training to begin", lambda: self.dock.state in (State.STARTING, State.TRAINING), 10)
        return time.monotonic()

    def wait_for_masks(self) -> None:
        over = (State.DONE, State.WORSE)
        self.wait("the masks of all slices", lambda: self.dock.state in over, 300)
        self.rest(1)
        self.fact(f"The dock says: {self.dock.run.sentence.text()}")

    def predicted(self) -> np.ndarray:
        """A copy of the predicted masks, (24, 200, 160) uint8."""
        return np.asarray(self.dock.bridge.ours("predicted").data)


def report(demo: Demo, rounds: dict[str, np.ndarray], left: list[int]) -> None:
    """Write masks and the table of Dice on the slices `left`, which nobody painted."""
    from napari_semigda.engine.metrics import score, summarise  # loads torch, which the viewer does without

    rows = []
    for name, masks in rounds.items():
        tifffile.imwrite(demo.out / f"masks-{name}.tif", masks, compression="zlib", metadata={"axes": "ZYX"})
        by_class, foreground = summarise(score(masks[i], demo.truth[i], sample_data.CLASSES) for i in left)
        figures = [*(by_class[number].dice.mean for number in sample_data.CLASSES), foreground.dice.mean]
        rows.append([name, *(f"{figure:.3f}" for figure in figures), len(left)])
    header = ["round", *sample_data.CLASSES.values(), "mean Dice", "slices"]
    with (demo.out / "dice.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows)]
    note = (
        "Dice against the sample's truth, on the slices nobody painted. Neighbouring slices of one brain look alike: "
    )
    facts = [f"- {fact}" for fact in demo.facts]
    (demo.out / "dice.md").write_text("\n".join([note + "easy images.", "", *lines, "", *facts, ""]))
    print("\n".join(lines))
    if float(rows[-1][-2]) < 0.5:
        raise StepError(f"A mean Dice of {rows[-1][-2]} means that nothing was learnt.")


def run(out: Path) -> None:
    """All steps in order; a StepError or any other exception when one fails."""
    demo = Demo(out)
    try:
        demo.paint()
        demo.train_and_stop()
        rounds = {"round-1": demo.predicted()}
        corrected = demo.correct()
        demo.train_again()
        rounds["round-2"] = demo.predicted()
        painted = demo.masks.data.any(axis=(1, 2))
        left = [int(i) for i in np.flatnonzero(~painted)]
        if corrected in left or len(left) != 24 - 6:
            raise StepError(f"{24 - len(left)} slices are painted instead of 6.")
    except BaseException:
        demo.shoot("failed")
        raise
    finally:
        demo.close()
    report(demo, rounds, left)


def main() -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where the results go")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    began = time.monotonic()
    status = play("The demo", lambda: run(out))
    if not status:
        print(f"Done in {time.monotonic() - began:.0f} s; see {out}.")
    return status


if __name__ == "__main__":
    sys.exit(main())
