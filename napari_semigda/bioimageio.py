"""A model as a BioImage.IO package, which Fiji (deepImageJ), ilastik, bioimageio.core and others run without us.

::

    OUT.zip
      rdf.yaml                the description: axes, what is done before and after, classes, citations, training record
      weights.pt              TorchScript, from `engine.torchscript`
      test_input.npy          an example picture, raw; test_output.npy is our own prediction of it
      cover.png, README.md    for people

TorchScript and not ONNX: it is the one format that all of those programs run, and that needs no package beside PyTorch
to be written. A package is written only after bioimageio.core has run it and found our prediction again.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from napari_semigda.engine.normalise import PERCENTILES, Input, is_rgb_bytes
from napari_semigda.engine.types import EngineError, Plane, Prediction
from napari_semigda.formats import open_source
from napari_semigda.formats.source import replacing
from napari_semigda.model_card import CITATIONS, model_card, public_record
from napari_semigda.overlays import overlay, png

EXTRA = "napari-semigda[bioimageio]"
_FOREIGN = re.compile(r"[^A-Za-z0-9_+\- ()]+")  # what names in the collection may not hold
_EXAMPLE = 512  # pixels a side of the test picture at most: a package is to be sent around
_COVER = 256  # pixels a side of each half of the cover


@dataclass(frozen=True)
class About:
    """What a person may say of a package."""

    name: str = ""  # empty: made of the classes
    authors: tuple[str, ...] = ()
    licence: str = "CC-BY-4.0"  # an SPDX identifier; this one is what most models of the collection have


def export(model: Path, out: Path, image: np.ndarray | None = None, about: About | None = None) -> None:
    """Write a package, whole and tested or not at all.

    Parameters
    ----------
    model
        A `.semigda` file on the backbone `compact`.
    out
        The `.zip` file to write; an existing one is replaced in one step.
    image
        (H, W) or (H, W, C) example that becomes public with the package: its middle, 512 pixels a side at most, is the
        test picture and the cover. It also says whether the model takes grey or colour pictures. None takes a slice of
        the bundled sample.
    about
        Name, authors and licence.

    Raises
    ------
    EngineError
        When bioimageio.core is not installed, the model or the image is of no use, or `out` cannot be written.
    """
    core, about = _core(), about or About()
    _check(out, about)
    from napari_semigda.engine.predict import Predictor
    from napari_semigda.engine.torchscript import save_torchscript, to_torchscript

    graph, header = to_torchscript(model)
    rule = Input.of_model(header)
    if not rule.pictures:
        raise EngineError(
            f"{model.name} sees chosen channels, which a package cannot tell other programs yet: train a model with "
            "the channels left as they are to export it."
        )
    picture = _middle(_sample() if image is None else np.asarray(image))
    if rule.ranges and not is_rgb_bytes(picture) and rule.contrasts(picture) != rule.ranges:
        raise EngineError(
            f"The example picture is much brighter or duller than all that {model.name} learnt from: choose one of "
            "your own (--image on the command line)."
        )
    prediction = Predictor(model, "cpu").predict(Plane("the example picture", picture), probabilities=True)
    # A folder that bioimageio.core may read until this process ends: it keeps archives open.
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, replacing(out) as part:
        save_torchscript(graph, Path(folder) / "weights.pt")
        _write_examples(Path(folder), picture, prediction)
        _pack(core, Path(folder), part, header, picture, about)


def example_of(path: Path) -> np.ndarray:
    """The picture of a file that represents it: the only one, or the middle one of a stack or volume.

    Raises
    ------
    EngineError
        When the file cannot be read.
    """
    planes = open_source(path).planes
    return np.asarray(planes[len(planes) // 2])


def _core() -> Any:
    """bioimageio.core, loaded when it is wanted and not before."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bioimageio.core
            import bioimageio.spec.model.v0_5
    except ImportError as error:
        raise EngineError(
            f'Exporting needs the package bioimageio.core, which is not installed: run pip install "{EXTRA}".'
        ) from error
    from loguru import logger

    logger.disable("bioimageio")  # what it has to say comes back as a summary
    return bioimageio.core


def _check(out: Path, about: About) -> None:
    """Refuse what can be refused before there is work in it."""
    from bioimageio.spec.generic.v0_3 import LicenseId

    if out.suffix.lower() != ".zip":
        raise EngineError(f"{out.name} is not the name of a package: call it {out.stem}.zip.")
    try:
        LicenseId(about.licence)
    except ValueError as error:
        raise EngineError(
            f"{about.licence} is no licence that packages know: name one by its SPDX identifier, such as CC-BY-4.0."
        ) from error
    if about.name and (not 5 <= len(about.name) <= 64 or _FOREIGN.search(about.name)):
        raise EngineError(
            f"A package cannot be called {about.name!r}: use 5 to 64 letters, digits, spaces and any of _ + - ( )."
        )


def _sample() -> np.ndarray:
    from napari_semigda import sample_data

    stack = sample_data.brain_unpainted()[0][0]
    return stack[len(stack) // 2]


def _middle(image: np.ndarray) -> np.ndarray:
    """The middle of a picture, (H, W) or (H, W, 3); small sides stay as they are."""
    rows, columns = (
        slice(max(0, (n - _EXAMPLE) // 2), max(0, (n - _EXAMPLE) // 2) + _EXAMPLE) for n in image.shape[:2]
    )
    middle = image[rows, columns]
    if middle.ndim == 3:
        middle = middle[..., :3] if middle.shape[2] >= 3 else middle[..., 0]
    if not np.isfinite(middle).all() or middle.min() == middle.max():
        raise EngineError(
            "The example picture is empty in its middle or holds values that are no numbers: choose another one."
        )
    return middle


def _write_examples(folder: Path, picture: np.ndarray, prediction: Prediction) -> None:
    channels = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
    np.save(folder / "test_input.npy", channels[None].astype(np.float32))  # (1, C, H, W)
    np.save(folder / "test_output.npy", prediction.probabilities[None].astype(np.float32))  # (1, K, H, W)
    from skimage.transform import resize

    side = min(picture.shape[:2])
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    square = np.s_[top : top + side, left : left + side]
    plain = overlay(picture[square], np.zeros((side, side), np.uint8))
    halves = [plain, overlay(picture[square], prediction.mask[square])]
    small = [resize(half, (_COVER, _COVER), order=1, anti_aliasing=side > _COVER) for half in halves]
    (folder / "cover.png").write_bytes(png(np.round(np.hstack(small) * 255).astype(np.uint8)))


def _pack(core: Any, folder: Path, part: Path, header: Mapping[str, Any], picture: np.ndarray, about: About) -> None:
    """Describe what is in `folder`, put it into one archive, and let bioimageio.core test that."""
    import torch
    from bioimageio.spec import ValidationContext, save_bioimageio_package

    (folder / "README.md").write_text(model_card(header, picture), encoding="utf-8")
    # Nothing of an export may wait for a network: addresses of papers are not looked up.
    with ValidationContext(perform_io_checks=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            save_bioimageio_package(_describe(folder, header, picture, about), output_path=part)
        except ValueError as error:
            raise EngineError(
                f"bioimageio.spec does not take the description ({_first_complaint(error)}): if that says nothing to "
                f'you, try versions that work together: pip install "{EXTRA}".'
            ) from error
        with torch.jit.optimized_execution(False):  # the test has a size for each try, and optimising takes seconds
            summary = core.test_description(part, weight_format="torchscript", devices=["cpu"])
    if summary.status == "failed":
        complaint = "; ".join(e.msg.splitlines()[0] for e in summary.errors[:2])
        raise EngineError(f"The package did not pass the test of bioimageio.core, so it was not kept: {complaint}.")


def _first_complaint(error: ValueError) -> str:
    """What pydantic finds wrong, in one line."""
    details = error.errors() if hasattr(error, "errors") else []
    said = f"{'.'.join(map(str, details[0]['loc']))} {details[0]['msg']}" if details else str(error)
    return " ".join(said.split())[:200]


def _describe(folder: Path, header: Mapping[str, Any], picture: np.ndarray, about: About) -> Any:
    """The description of the package, a `ModelDescr`."""
    import torch
    from bioimageio.spec.common import FileDescr
    from bioimageio.spec.generic.v0_3 import Author, CiteEntry
    from bioimageio.spec.model import v0_5 as spec

    from napari_semigda.engine.torchscript import TOLERANCE

    names = [entry["name"] for entry in header["classes"]]
    wanted = [entry["name"] for entry in header["classes"] if entry["id"] or header["sparse"]]
    record = public_record(header)
    tolerance = spec.ReproducibilityTolerance(
        absolute_tolerance=TOLERANCE, relative_tolerance=TOLERANCE, mismatched_elements_per_million=100
    )
    return spec.ModelDescr(
        name=about.name or _name(wanted),
        description=f"Finds {', '.join(wanted)}: probabilities of {len(names)} classes at the size of the picture. "
        "Trained with napari-semigda on a few painted and many unlabelled pictures.",
        authors=[Author(name=name) for name in about.authors],
        license=about.licence,
        cite=[CiteEntry(text=text, doi=doi) for text, doi in CITATIONS],
        documentation=FileDescr(source=folder / "README.md"),
        covers=[FileDescr(source=folder / "cover.png")],
        tags=["2d", "pytorch", "semantic-segmentation", "semi-supervised", "napari", "semigda"],
        inputs=[_input(spec, FileDescr(source=folder / "test_input.npy"), picture, header)],
        outputs=[_output(spec, FileDescr(source=folder / "test_output.npy"), names)],
        weights=spec.WeightsDescr(
            torchscript=spec.TorchscriptWeightsDescr(
                source=folder / "weights.pt", pytorch_version=torch.__version__.split("+")[0]
            )
        ),
        config=spec.Config(
            bioimageio=spec.BioimageioConfig(
                reproducibility_tolerance=[tolerance],
                architecture_type="SemiGDA",
                task="semantic segmentation",
                target_structure=wanted,
            ),
            napari_semigda=record,
        ),
    )


def _input(spec: Any, file: Any, picture: np.ndarray, header: Mapping[str, Any]) -> Any:
    colour = picture.ndim == 3
    clip = spec.ClipDescr(kwargs=spec.ClipKwargs(min=0.0, max=1.0))
    least = min(32, *picture.shape[:2])
    space = [spec.SpaceInputAxis(id=name, size=spec.ParameterizedSize(min=least, step=1)) for name in "yx"]
    channels = spec.ChannelAxis(channel_names=["red", "green", "blue"] if colour else ["grey"])
    return spec.InputTensorDescr(
        id="picture",
        description=f"A {'colour' if colour else 'grey'} picture of any size, with values as they are in its file.",
        axes=[spec.BatchAxis(), channels, *space],
        data=spec.IntervalOrRatioDataDescr(type="float32"),
        preprocessing=[_contrast(spec, picture, Input.of_model(header)), clip],
        test_tensor=file,
    )


def _contrast(spec: Any, picture: np.ndarray, rule: Input) -> Any:
    """What becomes 0 and 1, in words of the format: the same values in every picture, or percentiles of each."""
    if rule.ranges or is_rgb_bytes(picture):
        low, high = rule.contrasts(picture)[0]  # of grey, or of bytes, whose channels are alike
        gain = 1 / (high - low)
        return spec.ScaleLinearDescr(kwargs=spec.ScaleLinearKwargs(gain=gain, offset=-low * gain))
    low, high = PERCENTILES
    # eps is next to nothing: float pictures may lie in a narrow range.
    axes = ["channel", "y", "x"] if rule.joint else ["y", "x"]
    stretch = spec.ScaleRangeKwargs(axes=axes, min_percentile=low, max_percentile=high, eps=1e-12)
    return spec.ScaleRangeDescr(kwargs=stretch)


def _output(spec: Any, file: Any, names: Sequence[str]) -> Any:
    space = [spec.SpaceOutputAxis(id=name, size=spec.SizeReference(tensor_id="picture", axis_id=name)) for name in "yx"]
    return spec.OutputTensorDescr(
        id="probabilities",
        description="The probability of every class; the mask is the class that is likeliest at a pixel.",
        axes=[spec.BatchAxis(), spec.ChannelAxis(channel_names=list(names)), *space],
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
        test_tensor=file,
    )


def _name(classes: Sequence[str]) -> str:
    """A name in the few characters that the collection allows."""
    listed = _FOREIGN.sub(" ", " and ".join(classes))
    return (
        f"Segmentation of {listed} (SemiGDA)"
        if len(listed) <= 40
        else f"Segmentation of {len(classes)} classes (SemiGDA)"
    )
