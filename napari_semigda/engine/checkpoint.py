"""A `.semigda` model file: one safetensors file whose metadata is JSON. Data, never code.

Tensors are called ``weights.NAME`` (what predicts), ``clean.NAME`` (weights that never saw the held-out images: the
next round starts from them, so that its held-out Dice stays honest) and ``backbone.NAME`` (the frozen decoder, so that
the file predicts the same masks after an update of the package). The backbones `tiny` and `sd` are not in the file: it
holds the name of where their weights came from, without folders, and their SHA-256.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_semigda.engine import whereabouts
from napari_semigda.engine.backbones import Backbone, load_backbone
from napari_semigda.engine.header import KEY, SCHEMA, network_of, read_header
from napari_semigda.engine.model import V_SHARE, SemiGDA
from napari_semigda.engine.types import EngineError

_LIBRARIES = ("torch", "monai", "kornia", "numpy", "scipy", "scikit-image")


def save_model(path: Path, model: SemiGDA, header: Mapping[str, Any], clean: Mapping[str, Tensor] | None) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path
        Where to; an existing file is replaced in one step.
    model
        With the weights that shall predict.
    header
        JSON-able: classes, view, training record (see `Trainer`); schema and versions are added here.
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
    head |= _provenance(model.backbone) | {"libraries": _libraries()}
    if (place := (head.get("training", {}).get("settings") or {}).get("backbone_source")) is not None:
        settings = head["training"]["settings"] | {
            "backbone_source": head.get("backbone_source") or whereabouts.recorded(place)
        }
        head["training"] = {**head["training"], "settings": settings}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={KEY: json.dumps(head)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise EngineError(f"The model could not be written to {path} ({error}). Choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_model(
    path: Path, device: torch.device, clean: bool = False, source: str | None = None
) -> tuple[SemiGDA, dict[str, Any]]:
    """A model and its header.

    Parameters
    ----------
    path
        The model file.
    device
        Where its weights go.
    clean
        Take the weights that never saw the held-out images, where the file has them.
    source
        Where the frozen backbone's weights are, when not where the file says; see `load_backbone`.

    Raises
    ------
    EngineError
        As `read_header`, or when weights are missing or of another shape, or the backbone is not the one of training.
    """
    header = read_header(path)
    backbone = _backbone_of(header, path, source)
    try:
        model = SemiGDA(backbone, header["class_count"], **network_of(header))
        with safe_open(path, framework="pt") as file:
            kind = "clean." if clean and any(name.startswith("clean.") for name in file.keys()) else "weights."  # noqa: SIM118
            weights = _read(file, kind, model.trained_parts())
            frozen = _read(file, "backbone.", backbone.portable_state())
        model.load_state_dict(weights, strict=False)
        backbone.restore(frozen)
        model.v_share = float(header.get("v_share", V_SHARE))
    except (KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise EngineError(f"{path} is damaged: its weights do not fit together. Train the model again.") from error
    return model.to(device, memory_format=torch.channels_last).eval(), header


def _backbone_of(header: Mapping[str, Any], path: Path, source: str | None) -> Backbone:
    """The backbone that a model was trained on.

    A file from a stranger must not reach for the network: only a source that the user names is downloaded.
    """
    try:
        place = source or whereabouts.of_model(
            header.get("backbone_source"), header.get("backbone_digest"), path.parent
        )
        backbone = load_backbone(header["backbone"], source=place, download=source is not None)
    except EngineError as error:
        raise EngineError(f"{path} cannot be used without the backbone it was trained on: {error}") from error
    if backbone.provenance().get("backbone_digest") != header.get("backbone_digest"):
        raise EngineError(
            f"{path} was trained on other weights of the {backbone.name} backbone than those of {place}: name the "
            "right ones as the source, or train the model again."
        )
    return backbone


def _read(file: Any, prefix: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a kind, once it is known that they are those wanted: no other one is read, however large."""
    there = {name.removeprefix(prefix): name for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    if set(there) != set(wanted):
        raise KeyError("weights are missing, or of another network")
    for name, stored in there.items():
        if tuple(file.get_slice(stored).get_shape()) != tuple(wanted[name].shape):
            raise KeyError(f"{name} is of another size")
    return {name: file.get_tensor(stored).to(torch.float32) for name, stored in there.items()}


def _provenance(backbone: Backbone) -> dict[str, str]:
    """Where the frozen weights came from, without folders; on this computer the whole path is kept in mind."""
    told = backbone.provenance()
    if place := told.get("backbone_source"):
        whereabouts.remember(told["backbone_digest"], place)
        told["backbone_source"] = whereabouts.recorded(place)
    return told


def _libraries() -> dict[str, str]:
    """Versions of what the weights were computed with."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def _plain(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float32).contiguous()
