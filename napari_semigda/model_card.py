"""What a shared model says of itself: where it comes from, what it does, how well, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_semigda.engine.normalise import PERCENTILES, Input, is_rgb_bytes

CITATIONS = (
    (
        "The method: SemiGDA: Generative Dual-distribution Alignment for Semi-Supervised Medical Image Segmentation. "
        "CVPR 2026.",
        "10.48550/arXiv.2604.23274",
    ),
    (
        "The encoder: Tan, Le. EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019.",
        "10.48550/arXiv.1905.11946",
    ),
)

_TEXT = """\
# {title}

Made with napari-semigda {version}: somebody painted {labelled}, {unlabelled} without masks helped (SemiGDA, CVPR 2026).

## Classes

| channel of the output | class | number in masks of napari-semigda |
|---|---|---|
{classes}

## In and out

- In: a {kind} picture with the axes batch, channel, y, x; of any size, not cut into tiles: large ones are looked at
  through overlapping windows anyway. Where a program has to tile, let tiles overlap by 64 pixels or more.
- Before: {before}, then all is clipped to 0 and 1.
  Programs that read `rdf.yaml` do both by themselves.
- In the weights: scaling to {scale:.4g} of the picture's size, the mean of {orientations},
  the weighted mean of the two branches, scaling back.
- Out: the probability of every class at the size of the picture, between 0 and 1; nothing is left to do. The likeliest
  class of a pixel is its class in the mask.

Probabilities are those of napari-semigda on a CPU to within {tolerance:g}; `test_output.npy` is its own prediction. On
graphics cards it computes in half precision and differs a little more. Of pictures of 1024 pixels a side and more it
reads the contrast from every second (third, ...) pixel, so the two percentiles may differ a little.

## Training

{training}

## Validation

{validation}
Figures from so few pictures of one source say little of others. Before you rely on this model, paint a
few of your own pictures that it has not seen, predict them and compare the masks (Dice, 95 % Hausdorff distance):
`semigda evaluate` of napari-semigda does so for folders of masks.

## Limits

Not a medical device. The model has learnt the pictures of one microscope or scanner and may fail on others. It
classifies pixels: touching objects of one class come out as one piece.

## Origin and licence of the weights

The weights descend from EfficientNet-Lite0 trained on ImageNet (Apache-2.0) and from the compact backbone of
napari-semigda (BSD-3-Clause); keep these notices when you pass them on. The licence in `rdf.yaml` is what the
author of this package chose for the rest. Please cite:

{citations}
"""


def public_record(header: Mapping[str, Any]) -> dict[str, Any]:
    """A model file's record without what should not become public with a package: names of files, and paths."""
    training = {k: v for k, v in header["training"].items() if k not in ("held_out", "trained_on")}
    settings = {k: v for k, v in training.get("settings", {}).items() if k != "backbone_source"}
    return {
        "version": header["version"],
        "libraries": dict(header.get("libraries", {})),
        "classes": [dict(entry) for entry in header["classes"]],
        "scribbles": header["sparse"],
        "backbone": header["backbone"],
        "view": {k: list(v) if isinstance(v, (list, tuple)) else v for k, v in header["view"].items()},
        "training": training | {"settings": settings, "held_out": len(header["training"]["held_out"])},
    }


def model_card(header: Mapping[str, Any], picture: np.ndarray) -> str:
    """README.md of a package.

    Parameters
    ----------
    header
        Of the model file.
    picture
        The example, (H, W) or (H, W, 3): whether the model takes grey or colour pictures.
    """
    from napari_semigda.engine.pose import averaging_pose
    from napari_semigda.engine.torchscript import TOLERANCE
    from napari_semigda.engine.view import View

    view, training, colour = View.of_model(header), header["training"], picture.ndim == 3
    names = [entry["name"] for entry in header["classes"] if entry["id"] or header["sparse"]]
    rule = Input.of_model(header)
    of_what = "each of its channels" if colour and not rule.joint else "all its values"
    before = "the {} and {} percentiles of {} become 0 and 1".format(*PERCENTILES, of_what)
    if is_rgb_bytes(picture):
        before = "values are divided by 255"
    elif rule.ranges:
        before = "the values {:g} and {:g} become 0 and 1, the same in every picture".format(*rule.ranges[0])
    return _TEXT.format(
        title=f"Segmentation of {', '.join(names)}",
        version=header["version"],
        labelled=_count(training["labelled"], "picture"),
        unlabelled=_count(training["unlabelled"], "picture"),
        classes="\n".join(f"| {i} | {entry['name']} | {entry['id']} |" for i, entry in enumerate(header["classes"])),
        kind="colour (red, green, blue)" if colour else "grey",
        before=before,
        scale=view.scale,
        orientations="two orientations" if averaging_pose(view.poses) else "one orientation",
        tolerance=TOLERANCE,
        training="\n".join(_training_lines(header)),
        validation=_validation(header),
        citations="\n".join(f"- {text} https://doi.org/{doi}" for text, doi in CITATIONS),
    )


def _training_lines(header: Mapping[str, Any]) -> list[str]:
    training, settings = header["training"], header["training"]["settings"]
    libraries = ", ".join(f"{name} {version}" for name, version in header.get("libraries", {}).items())
    style = "scribbles (0 is not annotated)" if header["sparse"] else "whole pictures"
    lines = [
        f"- {_count(training['rounds'], 'round')}; the last one {training['steps']} steps "
        f"in {training['seconds']:.0f} s on {training['device']}",
        f"- painted: {style}; crops of {header['view']['crop']} pixels; most weight of unlabelled pictures "
        f"{settings['unlabelled_weight']}; seed {settings['seed']}",
        "- AdamW, warm-up, polynomial decay of the learning rate; weights averaged over steps",
    ]
    return [*lines, f"- {libraries}"] if libraries else lines


def _validation(header: Mapping[str, Any]) -> str:
    training = header["training"]
    if training["dice"] is None:
        return "No picture was kept back from training, so nothing is known of how good the masks are."
    names = {str(entry["id"]): entry["name"] for entry in header["classes"]}
    each = [
        f"{names.get(number, number)} {value:.2f}"
        for number, value in training["dice_by_class"].items()
        if value is not None and value == value  # noqa: PLR0124 - NaN: not on these pictures
    ]
    return (
        f"Dice of {_count(len(training['held_out']), 'picture')} kept back from training: "
        f"{training['dice']:.2f} ({', '.join(each)})."
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
