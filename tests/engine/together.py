"""What two processes do together in the tests of several devices: both run all of this, started by the first."""

import atexit
import hashlib
import json
import os
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from napari_semigda import cli
from napari_semigda.engine import planner, pseudo, reporter, resume
from napari_semigda.engine.backbones import Encoded
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.round import Round
from napari_semigda.engine.several import begin
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Settings, TrainRequest
from tests.engine.conftest import drawn_planes

STEPS = 6
CUT_AT = 4


def hurry() -> None:
    """A checkpoint and a report after every step, and pseudo-masks in runs as short as these."""
    resume.EVERY, reporter.REPORT_EVERY = 0.0, -1.0
    planner.LEAST_STEPS, pseudo.KEPT = 0, 8
    step = resume.Checkpoints.step
    resume.Checkpoints.step = lambda self, run: (step(self, run), self.finish())  # no step goes without


def quieten() -> None:
    """Without the noise of latents, which each process draws by itself."""
    Encoded.sample = lambda self: self.latent_mean


def asked(out: Path, **changes) -> TrainRequest:
    """Four crops a step on two devices."""
    settings = Settings(max_steps=STEPS, crop=64, batch=2, device="cpu", devices=2, contrast="image")
    return replace(TrainRequest(drawn_planes(3, 3), out, settings), **changes)


class Watched(Trainer):
    """Keeps its round."""

    def rounds(self, *arguments):
        self.round = Round(*arguments)
        return self.round


def train(several, request, name, until=None):
    """Train; note how it went, and the weights and random numbers that it ended with."""
    trainer, reports = Watched(several), []
    for report in trainer.fit(request):
        reports.append(report)
        if until is not None and report.step >= until:
            break
    told = hashlib.sha256()
    for weight in trainer.round.learner.state()["weights"].values():
        told.update(weight.numpy().tobytes())
    random = hashlib.sha256(json.dumps(resume._pack(resume._random_numbers(trainer.round), {})["dict"][0]).encode())
    note(request.out.parent, several, name, curve=curve_of(reports), note=reports[-1].note,
         weights=told.hexdigest(), random=random.hexdigest(), cpu=time.process_time())  # fmt: skip


def curve_of(reports):
    """The losses by step, without those that the images of a step do not decide."""
    return [(report.step, report.loss, report.unlabelled_loss) for report in reports]


def note(folder, several, name, **what):
    """Leave word for the test."""
    (folder / f"{name}-{several.rank}.json").write_text(json.dumps(what))


def fail_in_the_second(error, several, at):
    """From now on, a step of the second process fails."""
    whole, count = Objective._in_other_colours, []

    def borrow(self, batch):
        count.append(1)
        if several.rank == 1 and len(count) == at:
            raise error
        return whole(self, batch)

    Objective._in_other_colours = borrow


def note_the_end(folder: Path) -> None:
    """Leave word, late in this process's end, whether it still hangs on the other."""
    (folder / f"end-{os.environ['LOCAL_RANK']}.json").write_text(json.dumps(torch.distributed.is_initialized()))


def main(folder: Path) -> int:
    """All of it; returns the status of the command that is to fail."""
    atexit.register(note_the_end, folder)  # the last comes first
    warnings.simplefilter("ignore")  # as the command line does
    hurry()
    with begin(asked(folder / "noisy.semigda").settings) as several:
        note(folder, several, "process", id=os.getpid(), threads=os.environ["OMP_NUM_THREADS"])
        train(several, asked(folder / "noisy.semigda"), "noisy")
        cut = asked(folder / "cut.semigda", checkpoint=folder / "unfinished")
        train(several, cut, "cut", until=CUT_AT)
        train(several, replace(cut, resume=True), "resumed")
        whole = Objective._in_other_colours
        fail_in_the_second(MemoryError("no room"), several, at=3)
        train(several, asked(folder / "small.semigda"), "small")
        Objective._in_other_colours = whole
        other = asked(folder / "other.semigda", planes=drawn_planes(3, 3 + several.rank))
        try:
            list(Trainer(several).fit(other))
        except EngineError as error:
            note(folder, several, "other", refused=str(error))
        quieten()
        train(several, asked(folder / "quiet.semigda"), "quiet")
    arguments = ["--images", folder / "images", "--masks", folder / "masks", "--max-steps", 3]
    command = ["train", *arguments, "--devices", 2, "--device", "cpu", "--json", "--out"]
    done = cli.run([str(each) for each in (*command, folder / "out" / "m.semigda")])
    fail_in_the_second(ValueError("boom"), several, at=2)
    return done or cli.run([str(each) for each in (*command, folder / "never" / "m.semigda")])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
