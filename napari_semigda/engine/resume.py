"""A run that was cut off is gone on with: its state in one file, written every few seconds of work.

The file is a safetensors file with JSON, like a model: data, never code. It holds all that later steps depend on,
random numbers included, so that a run which goes by steps or repeats a plan ends with the very weights of one that
nothing disturbed. It is of use for the same images, masks and settings only, which a digest of these sees to; and for
one round: the run that ends removes it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_semigda.engine.planner import Plan
from napari_semigda.engine.types import EngineError, Plane, TrainRequest
from napari_semigda.engine.view import View

if TYPE_CHECKING:
    from napari_semigda.engine.round import Round

EVERY = 6.0
"""Seconds of work between two checkpoints; with a step still under way and the disk at work, at most ten are lost."""
_KEY = "semigda-run"
_LOOKED_AT = 64 * 2**20  # bytes of all images together that the digest takes in; of more, every so manieth pixel
_FREE = {"device", "compile", "devices", "nodes"}  # settings that a run may go on without


def place_beside(model: Path) -> Path:
    """Where the checkpoint of a run is that will write `model`."""
    return model.with_name(f".{model.name}.unfinished")


class Checkpoints:
    """Keeps the state of a round now and then, and removes it once the round is over.

    Training waits until the state is copied, not until the disk has it.

    Parameters
    ----------
    path
        The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._digest = ""
        self._since = time.monotonic()
        self._writing = threading.Thread()

    def step(self, run: Round) -> None:
        """Note that a step is over: the state is kept when it is time to. A disk that refuses stops no training."""
        if self.path is None or time.monotonic() - self._since < EVERY or self._writing.is_alive():
            return
        self._digest = self._digest or digest(run.request)
        self._since = time.monotonic()
        self._writing = threading.Thread(target=_write, args=(self.path, *snapshot(run, self._digest)))
        self._writing.start()

    def drop(self) -> None:
        """Remove the file."""
        self.finish()
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Wait until the disk has what was kept last."""
        if self._writing.is_alive():
            self._writing.join()


def snapshot(run: Round, request_digest: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A copy of the state of a round: tensors and metadata of a safetensors file."""
    tensors: dict[str, Tensor] = {}
    head = {"digest": request_digest, "state": _pack(_state_of(run), tensors)}
    return {name: tensor.clone() for name, tensor in tensors.items()}, {_KEY: json.dumps(head)}


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write it whole or not at all; not when the disk refuses."""
    part = path.with_name(path.name + ".part")
    with suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, part, metadata=metadata)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def read(request: TrainRequest) -> dict[str, Any]:
    """The state in a request's checkpoint.

    Raises
    ------
    EngineError
        When there is none, or it is damaged or of other images, masks or settings.
    """
    path = request.checkpoint
    if path is None or not path.is_file():
        raise EngineError(f"There is no unfinished run of {request.out} to go on with: train without resuming.")
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()[_KEY])
            if head["digest"] != digest(request):
                raise EngineError(
                    f"The unfinished run of {request.out} is of other images, masks or settings: "
                    "bring those back to go on with it, or train without resuming."
                )
            return _unpack(head["state"], file)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"The unfinished run of {request.out} is damaged: train without resuming.") from error


def found(request: TrainRequest) -> bool:
    """Whether there is an unfinished run that a request could go on with."""
    with suppress(EngineError):
        return bool(read(request))
    return False


# ---- what a run is --------------------------------------------------------------------------------------------------


def _random_numbers(run: Round) -> dict[str, Any]:
    """Where the random numbers are."""
    random = {"numpy": run.rng.bit_generator.state, "torch": torch.get_rng_state()}
    if run.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(run.device)
    return random


def _set_random_numbers(run: Round, random: Mapping[str, Any]) -> None:
    run.rng.bit_generator.state = random["numpy"]
    torch.set_rng_state(random["torch"])
    if run.device.type == "cuda" and "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"], run.device)


def _state_of(run: Round) -> dict[str, Any]:
    return {
        "device": run.device.type,
        "plan": asdict(run.plan),
        "view": asdict(run.view),
        "width": run.width,
        "v_share": run.model.v_share,
        "clock": run.clock.state(),
        "learner": run.learner.state(),
        "objective": run.objective.state(),
        "examiner": run.examiner.state(),
        "pseudo_steps": run.pseudo_steps,
        "taught": run.taught,
        "spread_from": run.lessons.spread_from,
        "refit_from": run.lessons.refit_from,
        "note": run.reporter.note,
        "random": _random_numbers(run),
    }


def planned(state: Mapping[str, Any]) -> tuple[Plan, View, float]:
    """The plan of a kept run, its view, and the width of the structures that led to it."""
    return Plan(**state["plan"]), View(**state["view"]), state["width"]


def restore(run: Round, state: Mapping[str, Any]) -> None:
    """Bring a round, made anew from the same request, to where it was; random numbers come last."""
    run.clock.load_state(state["clock"])
    run.learner.load_state(state["learner"])
    run.examiner.load_state(state["examiner"])
    run.model.v_share = state["v_share"]
    if state["spread_from"] is not None:
        run.rng.bit_generator.state = state["spread_from"]
        run.lessons.use_spread(run.lessons.spread())
        run.learn_anew()
    if state["refit_from"] is not None:
        run.rng.bit_generator.state = state["refit_from"]
        run.let_held_out_help()
    run.objective.load_state(state["objective"])
    run.pseudo_steps, run.taught, run.reporter.note = state["pseudo_steps"], state["taught"], state["note"]
    _set_random_numbers(run, state["random"])


def catch_up(run: Round) -> None:
    """Bring all processes of a run to where the first is, after a step that broke off at another place in each."""
    if run.several.count == 1:
        return
    state = {"learner": run.learner.state(), "objective": run.objective.state(), "random": _random_numbers(run)}
    tensors: dict[str, Tensor] = {}
    packed, tensors = run.several.same((_pack(state, tensors), tensors))
    state = _unpack(packed, SimpleNamespace(get_tensor=tensors.__getitem__))
    run.learner.load_state(state["learner"])
    run.objective.load_state(state["objective"])
    _set_random_numbers(run, state["random"])


# ---- whose it is ----------------------------------------------------------------------------------------------------


def digest(request: TrainRequest) -> str:
    """A fingerprint of all that decides how a run goes: images, masks, settings, the models that it builds on.

    Of images that are large together, some pixels stand for all; the masks are taken in whole.
    """
    told = hashlib.blake2b(digest_size=16)
    settings = {name: value for name, value in asdict(request.settings).items() if name not in _FREE}
    facts = settings, request.hold_out, request.keep_start, version("napari-semigda"), torch.__version__
    told.update(json.dumps(facts, default=str).encode())
    for model in (request.init, request.plan):
        told.update(b"-" if model is None else hashlib.blake2b(Path(model).read_bytes()).digest())
    every = _stride(request.planes)
    for plane in request.planes:
        told.update(json.dumps((plane.name, plane.group, plane.image.shape, str(plane.image.dtype))).encode())
        told.update(np.ascontiguousarray(plane.image[::every, ::every]).tobytes())
        told.update(b"-" if plane.mask is None else np.ascontiguousarray(plane.mask).tobytes())
    return told.hexdigest()


def _stride(planes: Sequence[Plane]) -> int:
    """Every so manieth row and column of the images is looked at."""
    total = sum(math.prod(plane.image.shape) * np.dtype(plane.image.dtype).itemsize for plane in planes)
    return max(1, math.ceil(math.sqrt(total / _LOOKED_AT)))


# ---- nested values as JSON and tensors ------------------------------------------------------------------------------


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Nested values as JSON; tensors and arrays go to `tensors`, and their names stand for them."""
    match value:
        case Tensor():
            return {"tensor": _put(value.detach().cpu(), tensors)}
        case np.ndarray():
            return {"array": _put(torch.from_numpy(np.ascontiguousarray(value)), tensors)}
        case Mapping():
            return {"dict": [[key, _pack(each, tensors)] for key, each in value.items()]}
        case tuple():
            return {"tuple": [_pack(each, tensors) for each in value]}
        case list() if any(isinstance(each, Tensor | np.ndarray) for each in value):
            return {"list": [_pack(each, tensors) for each in value]}
        case np.generic():
            return value.item()
    return value


def _put(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    name = f"{len(tensors):05d}"
    tensors[name] = tensor.contiguous()
    return name


def _unpack(value: Any, file: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return file.get_tensor(content)
        case "array":
            return file.get_tensor(content).numpy()
        case "dict":
            return {key: _unpack(each, file) for key, each in content}
        case "tuple":
            return tuple(_unpack(each, file) for each in content)
        case "list":
            return [_unpack(each, file) for each in content]
    raise ValueError(kind)
