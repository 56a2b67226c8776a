"""What the training process answers, as lines of JSON with their arrays as files beside them: both ways.

Neither torch nor Qt is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_semigda.engine.arrays import inside, load_array, save_array
from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.types import BatchReport, EngineError, Prediction, Report


@contextmanager
def _understood() -> Iterator[None]:
    """Whatever is missing or odd in a line becomes a sentence."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EngineError("The training process said what cannot be understood: press Train again.") from error


def prediction_to_json(prediction: Prediction, folder: Path, stem: str) -> dict[str, Any]:
    """Write the arrays of `prediction` into `folder` as ``STEM-mask.npy`` and ``STEM-doubt.npy`` and name them."""
    mask, doubt = f"{stem}-mask.npy", f"{stem}-doubt.npy"
    save_array(folder / mask, np.asarray(prediction.mask, np.uint8))
    # Doubt is looked at, never computed with: 256 steps are plenty and a quarter of the memory.
    save_array(folder / doubt, np.clip(np.nan_to_num(prediction.doubt) * 255, 0, 255).astype(np.uint8))
    content = {"plane": prediction.index, "name": prediction.name, "mask": mask, "doubt": doubt}
    if prediction.description is not None:
        content["description"] = np.nan_to_num(prediction.description).round(4).tolist()
    return content


@_understood()
def prediction_from_json(content: Mapping[str, Any], folder: Path) -> Prediction:
    """Read a prediction into memory and remove its files, so that none pile up.

    Returns
    -------
    Prediction
        `mask` (H, W) uint8; `doubt` (H, W) float32 in [0, 1], in steps of 1/255.
    """
    paths = [inside(folder, content[key]) for key in ("mask", "doubt")]
    mask, doubt = (load_array(path, mapped=False) for path in paths)
    for path in paths:
        path.unlink(missing_ok=True)
    if mask.ndim != 2 or mask.shape != doubt.shape:
        raise EngineError(f"The prediction of {content['name']} is damaged: press Train again.")
    description = np.array(content["description"], np.float32) if "description" in content else None
    doubt = doubt.astype(np.float32) / 255
    return Prediction(int(content["plane"]), content["name"], mask, doubt, description=description)


def report_to_json(report: Report, folder: Path, stem: str) -> dict[str, Any]:
    """A report as plain JSON values; the arrays of its preview go to `folder`."""
    content = {key: value for key, value in vars(report).items() if key not in ("preview", "dice_by_class")}
    content["findings"] = None if report.findings is None else report.findings.to_json()
    content["dice_by_class"] = {str(number): _finite(dice) for number, dice in report.dice_by_class.items()}
    content["dice_by_image"] = {name: dice for name, dice in report.dice_by_image.items() if np.isfinite(dice)}
    content["model"] = None if report.model is None else str(report.model)
    for key in ("loss", "unlabelled_loss", "dice", "remaining"):
        content[key] = _finite(content[key])
    if report.preview is not None:
        content["preview"] = prediction_to_json(report.preview, folder, stem)
    return content


@_understood()
def report_from_json(content: Mapping[str, Any], folder: Path) -> Report:
    """The report that `report_to_json` wrote, its preview read into memory."""
    known = {key: value for key, value in content.items() if key in Report.__dataclass_fields__}
    preview = known.pop("preview", None)
    known["model"] = Path(known["model"]) if known.get("model") else None
    known["held_out"] = tuple(known.get("held_out", ()))
    known["findings"] = Findings.from_json(known["findings"]) if known.get("findings") else None
    known["dice_by_class"] = {int(number): dice for number, dice in known.get("dice_by_class", {}).items()}
    report = Report(**known)
    return report if preview is None else replace(report, preview=prediction_from_json(preview, folder))


def batch_to_json(report: BatchReport) -> dict[str, Any]:
    """How far a batch has come, as plain JSON values."""
    return asdict(report)


@_understood()
def batch_from_json(content: Mapping[str, Any]) -> BatchReport:
    """The report that `batch_to_json` wrote."""
    known = {key: content[key] for key in BatchReport.__dataclass_fields__}
    return BatchReport(**known | {"failed": tuple(content["failed"])})


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """How a job ended, as plain JSON values."""
    model = None if outcome.model is None else str(outcome.model)
    classes = {str(number): name for number, name in outcome.classes.items()}
    return vars(outcome) | {"model": model, "skipped": list(outcome.skipped), "classes": classes}


@_understood()
def outcome_from_json(content: Mapping[str, Any]) -> Outcome:
    """The outcome that `outcome_to_json` wrote."""
    model = None if content["model"] is None else Path(content["model"])
    classes = {int(number): name for number, name in content["classes"].items()}
    return Outcome(model, content["stopped"], content["kept"], tuple(content["skipped"]), classes)


def _finite(value: float | None) -> float | None:
    """None for NaN and infinities, which JSON does not have."""
    return float(value) if value is not None and np.isfinite(value) else None
