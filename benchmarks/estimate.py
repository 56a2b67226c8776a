"""How well the Train dock knows when a round will end.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/estimate.py [--times quick,quick,standard]

The bundled sample in a real viewer with the real training process. Train is pressed, and every report is noted with the
moment at which it came; a round is over when the masks of all images are there. Each later one is a correction, which
takes a fifth of its word's minutes. An estimate is `now + what is said to remain`; its error is its distance to the
true end as a share of the round, from Train to the last mask.
"""

import argparse
import datetime
import os
import platform
import time
from dataclasses import dataclass

import napari
from responsiveness import wait_for

from napari_semigda.widgets.train import TrainDock
from napari_semigda.widgets.words import ENDED, State

ASKED = (0.1, 0.25, 0.5, 0.75)
"""Shares of a round at which the estimate of that moment stands in the table."""
MOST = 40 * 60.0  # seconds to wait for a round


@dataclass
class Course:
    """What was said in one round, and when it was over."""

    said: list[tuple[float, float]]  # seconds since Train: the moment, and the end as it was expected then
    end: float

    def error_at(self, share: float) -> float:
        """Of the estimate that stood at a share of the round, signed: above 0 said too late an end."""
        stood = [expected for moment, expected in self.said if moment <= share * self.end] or [self.said[0][1]]
        return stood[-1] / self.end - 1

    @property
    def largest_error(self) -> float:
        """Of all estimates from the first tenth of the round on, without its sign."""
        late = [expected for moment, expected in self.said if moment >= ASKED[0] * self.end]
        return max(abs(expected / self.end - 1) for expected in late)


def follow(dock: TrainDock) -> Course:
    """Press Train and note what is said until the last mask is there."""
    said: list[tuple[float, float]] = []
    pressed = time.monotonic()

    def note(report) -> None:
        if report.remaining is not None:
            moment = time.monotonic() - pressed
            said.append((moment, moment + report.remaining))

    dock.runner.reported.connect(note)
    if not dock.training.start():
        raise SystemExit(f"Train did nothing: {dock.run.sentence.text()}")
    wait_for(lambda: dock.state in ENDED, MOST)
    dock.runner.reported.disconnect(note)
    if dock.state is State.ERROR or not said:
        raise SystemExit(f"The round failed: {dock.run.sentence.text()}")
    return Course(said, time.monotonic() - pressed)


def main() -> None:
    """Follow the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", default="quick,quick,standard", help="of the rounds, with commas between them")
    times = parser.parse_args().times.split(",")
    viewer = napari.Viewer()
    dock = TrainDock(viewer)
    viewer.window.add_dock_widget(dock, name="SemiGDA: Train", area="right")
    ready = []
    dock.runner.ready.connect(ready.append)
    viewer.open_sample("napari-semigda", "brain")
    wait_for(lambda: ready, 120)
    print("| round | from Train to the last mask, s | first estimate after, s |", end="")
    print("".join(f" at {share:.0%} |" for share in ASKED), "largest error after the first tenth |")
    print("|---" * (4 + len(ASKED)) + "|")
    for number, name in enumerate(times):
        dock.time.setValue(name)
        course = follow(dock)
        kind = "correction" if number else "first round"
        errors = "".join(f" {course.error_at(share):+.0%} |" for share in ASKED)
        print(f"| {name}, {kind} | {course.end:.0f} | {course.said[0][0]:.1f} |{errors} {course.largest_error:.0%} |")
    print(f"\n{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.")
    dock.close_session()
    viewer.close()


if __name__ == "__main__":
    main()
