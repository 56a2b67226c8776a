"""A `.semigda` model file: one safetensors file whose metadata is JSON. Data, never code.

Tensors are called ``weights.NAME`` (what predicts), ``clean.NAME`` (weights that never saw the held-out images: the
next round starts from them, so that its held-out Dice stays honest) and ``backbone.NAME`` (the frozen decoder, so that
the file predicts the same masks after an update of the package).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.header import KEY, SCHEMA, read_header
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.types import EngineError


def save_model(path: Path, model: SemiGDA, header: Mapping[str, Any], clean: Mapping[str, Tensor] | None) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path
        Where to; an existing file is replaced in one step.
    model
        With the weights that shall predict.
    header
        JSON-able: classes, view, training record (see `Trainer`); schema and version are added here.
    clean
        Weights by name that never saw the held-out images, None when nothing was held out.

    Raises
    ------
    EngineError
        When the file cannot be written.
    """
    tensors = {f"weights.{name}": _plain(weight) for name, weight in model.trained_parts().items()}
    tensors |= {f"clean.{name}": _plain(weight) for name, weight in (clean or {}).items()}
    tensors |= {f"backbone.{name}": _plain(weight) for name, weight in model.backbone.portable_state().items()}
    head = {"schema": SCHEMA, "version": version("napari-semigda"), "class_count": model.class_count, **header}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={KEY: json.dumps(head)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise EngineError(f"The model could not be written to {path} ({error}). Choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path: Path, device: torch.device, clean: bool = False) -> tuple[SemiGDA, dict[str, Any]]:
    """A model and its header.

    Parameters
    ----------
    path
        The model file.
    device
        Where its weights go.
    clean
        Take the weights that never saw the held-out images, where the file has them.

    Raises
    ------
    EngineError
        As `read_header`, or when weights are missing or of another shape.
    """
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            kind = "clean." if clean and any(n.startswith("clean.") for n in names) else "weights."
            weights = {n.removeprefix(kind): file.get_tensor(n) for n in names if n.startswith(kind)}
            frozen = {n.removeprefix("backbone."): file.get_tensor(n) for n in names if n.startswith("backbone.")}
        model = SemiGDA(load_backbone(header["backbone"]), header["class_count"], header["mapper_width"])
        if set(weights) != set(model.trained_parts()):
            raise KeyError("weights are missing")
        model.load_state_dict(weights, strict=False)
        model.backbone.restore(frozen)
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise EngineError(f"{path} is damaged: its weights do not fit together. Train the model again.") from error
    return model.to(device, memory_format=torch.channels_last).eval(), header


def _plain(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float32).contiguous()
