"""The engine without a screen: ``semigda train``, ``predict``, ``evaluate``, ``export``, ``doctor`` and ``report``.

Progress goes to stderr, results to stdout. Whatever the user can put right ends with status 2 and one sentence on
stderr. Torch is imported by the commands that need it, so that help and refusals come at once.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal

import typer
import typer.core

from napari_semigda.console import bar, json_lines, print_table, progress_bar, some, warn, write_line
from napari_semigda.engine.planner import TimeName, chosen_time
from napari_semigda.engine.types import (
    BackboneName,
    BatchRequest,
    ContrastName,
    DeviceName,
    EngineError,
    Settings,
    TrainRequest,
)
from napari_semigda.exits import first_interrupt, status_of

app = typer.Typer(
    help="Segment images from a few painted ones, with the help of the unlabelled rest (SemiGDA).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_MORE = "For experiments"


class _SeveralImages(typer.core.TyperCommand):
    """Lets one ``--images`` take several values, as a shell's ``*.png`` gives them."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        rest, repeated = list(args), []
        while rest:
            token = rest.pop(0)
            repeated.append(token)
            if token == "--images":
                values = list(takewhile(lambda value: not value.startswith("-"), rest))
                del rest[: len(values)]
                repeated += [part for value in values for part in ("--images", value)][1:]
        return super().parse_args(ctx, repeated)


@app.command()
def train(  # noqa: PLR0913, PLR0917  one argument for each option of the command
    images: Annotated[Path, typer.Option(help="Folder of PNG, JPEG, TIFF (pages), NIfTI, DICOM (slices) or OME-Zarr.")],
    masks: Annotated[Path, typer.Option(help="Folder of masks: class ids, 0 is background; same stem as the image.")],
    out: Annotated[Path, typer.Option(help="The model file to write, FILE.semigda.")],
    time: Annotated[
        TimeName | None,
        typer.Option(help="About 1, 5 (the default) or 20 minutes, or until it stops improving; with --init a fifth."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time to train for, in place of --time; with --time best, the most.")
    ] = None,
    backbone: Annotated[BackboneName, typer.Option(help="The frozen image autoencoder.")] = Settings.backbone,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = Settings.device,
    init: Annotated[
        Path | None, typer.Option(help="Go on from this model: a correction. Left out, training starts from nothing.")
    ] = None,
    sparse: Annotated[bool, typer.Option("--sparse", help="Scribbles: 0 means not annotated.")] = Settings.sparse,
    channels: Annotated[
        str, typer.Option(metavar="N,N,N", help="Channels to learn from, up to three, from 1; else the first three.")
    ] = "",
    contrast: Annotated[
        ContrastName,
        typer.Option(help="Black and white of each image, each volume, or all alike (CT); auto: as masks show."),
    ] = Settings.contrast,
    seed: Annotated[int, typer.Option(help="Two runs of one seed differ only by the clock.")] = Settings.seed,
    json: Annotated[bool, typer.Option("--json", help="One JSON report a line on stdout, nothing else.")] = False,
    max_steps: Annotated[
        int | None, typer.Option(help="Stop after so many steps, whatever the clock says.", rich_help_panel=_MORE)
    ] = None,
    backbone_source: Annotated[
        str | None,
        typer.Option(help="Weights of tiny or sd: folder, file or name on the hub.", rich_help_panel=_MORE),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="A model file: repeat its run step by step.", rich_help_panel=_MORE)
    ] = None,
    clock: Annotated[
        Literal["wall", "cpu"], typer.Option(help="What minutes are counted in.", rich_help_panel=_MORE)
    ] = Settings.clock,
    unlabelled_weight: Annotated[
        float, typer.Option(help="Most weight of unlabelled images; 0 leaves them out.", rich_help_panel=_MORE)
    ] = Settings.unlabelled_weight,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile the steps: for long runs on a GPU.", rich_help_panel=_MORE)
    ] = Settings.compile,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run of this model that was cut off.")] = False,
    devices: Annotated[
        int, typer.Option(help="Graphics cards that learn together; with --device cpu, processes.")
    ] = Settings.devices,
    nodes: Annotated[
        int, typer.Option(help="Computers that do; the command is started on each, or by torchrun or SLURM.")
    ] = Settings.nodes,
) -> None:
    """Train a model. An image whose stem has a mask is labelled, every other one unlabelled.

    Of a stack or volume, only pages or slices with paint are labelled. Ctrl+C stops early and saves the model.
    """
    from napari_semigda.engine.check import check_settings
    from napari_semigda.images import labelled_planes
    from napari_semigda.store import painted_how

    painted, scribbles = painted_how(masks)
    said = []
    if scribbles and not sparse:
        said.append("This project is painted with scribbles: 0 means not annotated, as with --sparse.")
    settings = Settings(
        **chosen_time(time, minutes, correction=init is not None),
        backbone=backbone,
        device=device,
        sparse=sparse or scribbles,
        seed=seed,
        unlabelled_weight=unlabelled_weight,
        max_steps=max_steps,
        clock=clock,
        backbone_source=backbone_source,
        compile=compile,
        channels=_numbers(channels),
        contrast=contrast,
        devices=devices,
        nodes=nodes,
    )
    names, colours = ({each.number: getattr(each, what) for each in painted} for what in ("name", "colour"))
    request = TrainRequest((), out, settings, init, classes=names, colours=colours, plan=plan)
    check_settings(request)  # what is quick to say comes before the images are looked at
    planes, strangers = labelled_planes(images, masks)

    from napari_semigda.engine.checkpoint import read_header
    from napari_semigda.engine.device import pick_device
    from napari_semigda.engine.resume import found, place_beside
    from napari_semigda.engine.several import begin
    from napari_semigda.engine.train import Trainer

    pick_device(device)
    for model in (init, plan):
        if model is not None:
            read_header(model)
    with begin(settings) as several:
        warn(*said, *strangers)
        request = replace(request, planes=planes, checkpoint=place_beside(out), resume=resume)
        if not resume and several.first and found(request):
            warn(f"A run of {out} was cut off; this one starts anew. To go on with it, interrupt now and add --resume.")
        trainer = Trainer(several)
        with first_interrupt(trainer.stop), json_lines() if json else progress_bar() as show:
            for report in trainer.fit(request):
                show(report)


@app.command(cls=_SeveralImages)
def predict(  # noqa: PLR0913, PLR0917  as above
    model: Annotated[Path, typer.Option(help="The model file.")],
    images: Annotated[list[Path], typer.Option(metavar="PATH...", help="Image files, folders of them, or both.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the masks: STEM.png, .tif, .nii.gz or .ome.zarr, after the image.")
    ],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also STEM_probabilities.tif: float32, a page for each class.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also STEM_uncertainty.tif: float32, 0 certain, 1 undecided.")
    ] = False,
    smooth_slices: Annotated[
        float,
        typer.Option(
            metavar="WIDTH",
            help="Smooth between the slices of a volume: width in mm (um or slices, as the file tells); 0 is off.",
        ),
    ] = 0.0,
    overlays: Annotated[
        bool, typer.Option("--overlays", help="Also overlays/STEM.png: the classes in colour on the image.")
    ] = False,
    measurements: Annotated[
        bool, typer.Option("--measurements", help="Also measurements.csv (every object) and totals.csv (every class).")
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Pass over files that fail; status 1 when there were any.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Note what is finished in the folder, and go on from there next time.")
    ] = False,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Have the workers of this Dask cluster do it; they must see the files under the same names.",
        ),
    ] = None,
    backbone_source: Annotated[
        str | None,
        typer.Option(help="Weights of tiny or sd, where they moved since training.", rich_help_panel=_MORE),
    ] = None,
) -> None:
    """Write the masks of images: 8-bit class ids at each image's exact height and width.

    All images are looked at first, so nothing is written when one of them cannot be read, unless --keep-going.
    """
    from napari_semigda.batch import check_batch, run_batch
    from napari_semigda.images import find_images

    maps = [name for name, wanted in (("probabilities", probabilities), ("uncertainty", uncertainty)) if wanted]
    files = tuple(find_images(images))
    request = BatchRequest(
        *(model, files, out, overlays, measurements, tuple(maps), keep_going, resume),
        smooth=smooth_slices,
        device=device,
    )
    check_batch(request)  # what is quick to say comes before the model is loaded
    if scheduler is not None:
        from napari_semigda.cluster import run_on_cluster

        reports = run_on_cluster(request, scheduler, backbone_source)
    else:
        from napari_semigda.engine.predict import Predictor

        reports = run_batch(request, Predictor(model, device, backbone_source))
    with bar(f"Predicting {_files(len(files))}") as (progress, task), closing(reports):
        progress.update(task, total=1.0)
        for report in reports:
            progress.update(task, completed=report.fraction)
            warn(*(f"Passed over: {sentence}" for sentence in report.failed))
    left_out = [f"{_files(report.before)} finished before"] * bool(report.before)
    left_out += [f"{report.failures} failed"] * bool(report.failures)
    warn("; ".join([f"Wrote the masks of {_files(report.written)} into {out}", *left_out]) + ".")
    if report.failures:
        raise typer.Exit(1)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option(help="Folder of predicted masks.")],
    truth: Annotated[Path, typer.Option(help="Folder of true masks of the same stems.")],
    json: Annotated[bool, typer.Option("--json", help="One line of JSON instead of a table.")] = False,
    ignore: Annotated[int | None, typer.Option(help="Value of true masks that means not annotated.")] = None,
) -> None:
    """Compare masks: Dice, IoU and 95 % Hausdorff distance a class and overall, and over how many images.

    A class that is in neither mask of an image does not count there; in one of them only, Dice and IoU are 0 and there
    is no Hausdorff distance. Overall is the mean over the classes of an image, then over images.
    """
    from napari_semigda.evaluation import evaluate_folders

    result = evaluate_folders(predictions, truth, ignore)
    if result.missing:
        warn(f"{len(result.missing)} true masks have no prediction and are in no figure ({some(result.missing)}).")
    if result.unexpected:
        warn(f"{len(result.unexpected)} predictions have no true mask ({some(result.unexpected)}).")
    if result.strange_classes:
        warn(f"No true mask holds the predicted classes {some(map(str, result.strange_classes))}: are they the same?")
    if json:
        write_line(sys.stdout, asdict(result))
    else:
        print_table(result)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="The model file.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The package to write, FILE.zip.", show_default=False)],
    image: Annotated[
        Path | None,
        typer.Option(help="An image of the kind the model is for; it becomes public with the package."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the package; left out, it is made of the classes.")] = "",
    author: Annotated[list[str] | None, typer.Option(help="Your name; again for each author.")] = None,
    licence: Annotated[str, typer.Option(help="SPDX identifier of the licence of the package.")] = "CC-BY-4.0",
) -> None:
    """Write a BioImage.IO package, for Fiji, ilastik and others; needs the extra "bioimageio".

    The package is tested with bioimageio.core before it is kept.
    """
    from napari_semigda.bioimageio import About, example_of, export

    if image is None:
        warn("No --image: the package will show a brain slice of the bundled sample and take grey images.")
    export(model, out, image and example_of(image), About(name, tuple(author or ()), licence))
    warn(f"Wrote {out}, which passed the test of bioimageio.core. Its licence is {licence}.")


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="Where images and masks are.", show_default="here")] = Path(),
) -> None:
    """Look whether this computer has what is needed; one line for each thing, and what to do about it.

    The status is 1 when something needs to be done.
    """
    from napari_semigda.doctor import examine

    wrong = 0
    for finding in examine(folder.resolve()):
        wrong += bool(finding.advice)
        typer.echo(str(finding))
    raise typer.Exit(1 if wrong else 0)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="The text file to write.", show_default=False)],
    project: Annotated[Path | None, typer.Option(help="Folder of the project that the problem is with.")] = None,
) -> None:
    """Write what a helper has to know into one text file: versions, what doctor finds, the last of the log.

    No picture and no name of a file goes in. Look through it before you pass it on.
    """
    from napari_semigda import problem
    from napari_semigda.store import is_project, project_folder

    folder = None if project is None else project_folder(project.resolve())
    if folder is not None and not is_project(folder):
        raise EngineError(f"{project} is no project: choose the folder that holds the images and semigda.")
    problem.write(out, problem.compose(problem.examined(folder or Path.cwd()), folder))
    warn(f"Wrote {out}: look through it before you pass it on.")


def main() -> None:
    """Run the command line and leave with its status."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command; its status, see `status_of`."""
    return status_of(app, args)


def _numbers(text: str) -> tuple[int, ...]:
    """``"1,3"`` as numbers."""
    try:
        return tuple(int(each) for each in text.split(",")) if text.strip() else ()
    except ValueError:
        raise EngineError(f"The channels are {text}: give numbers with commas between them, as in 1,3.") from None


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


if __name__ == "__main__":
    main()
