"""What a round writes into its model file: classes, how to look at pictures, and how the training went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.device import describe_device
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.types import TrainRequest

if TYPE_CHECKING:
    from napari_semigda.engine.round import Round


def classes_of(request: TrainRequest, table: ClassTable) -> list[dict[str, Any]]:
    """The classes with names and colours, in the network's order."""
    names, colours = request.classes, request.colours
    return [
        {"id": c, "name": names.get(c, "background" if c == 0 else f"class {c}")}
        | ({"colour": colours[c]} if c in colours else {})
        for c in table.ids
    ]


def header_of(run: Round, findings: Findings) -> dict[str, Any]:
    """The header of the model of a round that has ended, for `save_model`."""
    clock, examiner, model = run.clock, run.examiner, run.model
    return {
        "classes": classes_of(run.request, run.table),
        "class_order": [c for c in run.request.classes if c in run.table.ids],  # the user's
        "sparse": run.settings.sparse,
        "backbone": model.backbone.name,
        "mapper_width": model.mapper_width,
        "adapter_kernel": model.adapter_kernel,
        "fusion": model.fusion,
        "v_share": model.v_share,
        "view": asdict(run.view),
        "input": run.reader.rule.to_json(),
        "structure_width": run.width,
        "plan": asdict(replace(run.plan, fractions=tuple(clock.passed), checks=tuple(clock.checked))),
        "training": {
            "rounds": rounds_before(run.earlier) + 1,
            "steps": clock.step,
            "seconds": round(clock.elapsed, 1),
            "device": describe_device(run.device),
            "settings": asdict(run.settings),
            "labelled": painted_images(run),
            "unlabelled": len(run.objective.unlabelled),
            "strokes_spread": run.lessons.spread_from is not None,
            "held_out": list(examiner.names),
            "trained_on": run.lessons.trained_on,
            "dice": examiner.dice,
            "dice_by_class": {str(c): dice for c, dice in examiner.dice_by_class.items()},
            "findings": findings.to_json(),
        },
    }


def painted_images(run: Round) -> int:
    """How many images of a round are painted."""
    return sum(plane.mask is not None for plane in run.planes)


def began_with(run: Round) -> int:
    """How many were when its weights were new; 0 where an earlier version did not write it down."""
    if not run.earlier:
        return painted_images(run)
    return Findings.from_json(run.earlier.get("training", {}).get("findings", {})).began_with


def rounds_before(header: Mapping[str, Any]) -> int:
    """How many rounds the model with this header has behind it; 0 for an empty one."""
    return header.get("training", {}).get("rounds", 0)
