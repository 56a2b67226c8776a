"""Where the weights of the `tiny` and `sd` backbones come from: a name on the hub, a folder, or one file.

All of them end as two files on this computer, read by one function: settings as JSON, weights as plain numbers, never
code. The network is asked only for a name on the hub that is not in the hub's own cache yet, and only when the caller
allows it.
"""

from __future__ import annotations

import inspect
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from napari_semigda.engine.strangers import parse_json
from napari_semigda.engine.types import EngineError

HUB = {"sd": ("AutoencoderKL", "stabilityai/sd-vae-ft-mse"), "tiny": ("AutoencoderTiny", "madebyollin/taesd")}
"""Class of `diffusers` and where its weights are unless somebody says otherwise, by backbone."""

_SETTINGS = "config.json"
_IN_FOLDER = tuple(
    f"diffusion_pytorch_model.{ending}" for ending in ("safetensors", "fp16.safetensors", "bin", "fp16.bin")
)
_PICKLED = (".ckpt", ".pt", ".pth", ".bin")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)?")
"""Owner, name and maybe a folder."""
_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
_REMEDY = (
    "give a folder as diffusers saves it, one .safetensors or .ckpt file, or a name on the hub "
    "(--backbone-source on the command line)"
)


class Found(NamedTuple):
    """Files of an autoencoder on this computer."""

    weights: Path
    settings: Path | None
    """JSON of `diffusers`; None for a lone file."""
    origin: str
    """An absolute path, or the name on the hub; of a path a model file records the last part only."""


def locate(name: str, source: str | Path | None, download: bool) -> Found:
    """The files behind a source.

    Parameters
    ----------
    name : {"sd", "tiny"}
    source : str or Path, optional
        A file, a folder, or ``OWNER/NAME`` (``OWNER/NAME/FOLDER``) on the hub; by default the name in `HUB`.
    download : bool
        Ask the hub for what is not in its cache.

    Raises
    ------
    EngineError
        When there is no such thing; the sentence says what to do.
    """
    wanted = HUB[name][1] if source is None else str(source)
    path = Path(wanted).expanduser()
    if path.is_file():
        beside = path.with_name(_SETTINGS)
        fits = beside.is_file() and read_settings(beside).get("_class_name") == HUB[name][0]
        return Found(path, beside if fits else None, str(path.resolve()))
    if path.is_dir():
        return _in_folder(path)
    if _is_hub_name(wanted):
        return _on_hub(name, wanted, download)
    raise EngineError(f"There are no weights for the {name} backbone at {wanted}: {_REMEDY}.")


def _is_hub_name(wanted: str) -> bool:
    """Two or three plain words; what begins with a folder that is here, or ends like a file, was meant as a path."""
    first = Path(wanted.partition("/")[0])
    looks_local = Path(wanted).suffix.lower() in (".safetensors", *_PICKLED) or first.exists()
    return bool(HUB_NAME.fullmatch(wanted)) and not looks_local


def _in_folder(folder: Path) -> Found:
    for place in (folder, folder / "vae"):  # an autoencoder's own, or that of a whole Stable Diffusion
        weights = next((place / name for name in _IN_FOLDER if (place / name).is_file()), None)
        if weights is not None and (place / _SETTINGS).is_file():
            return Found(weights, place / _SETTINGS, str(folder.resolve()))
    raise EngineError(f"The folder {folder} has no {_SETTINGS} with {_IN_FOLDER[0]} beside it: {_REMEDY}.")


def _on_hub(name: str, wanted: str, download: bool) -> Found:
    """The hub's cache first, so that what was fetched once works offline and nobody is asked again."""
    hub = require("huggingface_hub", name)
    owner, repository, *folder = wanted.split("/")

    def fetch(offline: bool) -> Found:
        paths = [
            Path(
                hub.hf_hub_download(
                    f"{owner}/{repository}", file, subfolder=folder[0] if folder else None, local_files_only=offline
                )
            )
            for file in (_SETTINGS, _IN_FOLDER[0])
        ]
        return Found(paths[1], paths[0], wanted)

    try:
        return fetch(offline=True)
    except Exception as error:
        if not download:
            raise EngineError(
                f"The {name} backbone's weights {wanted} are not on this computer: name them as the source to "
                "download them (--backbone-source on the command line), or give a folder or file."
            ) from error
    logging = hub.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # each of its attempts would be a warning; the last one becomes our sentence
    try:
        return fetch(offline=False)
    except Exception as error:  # the hub's client raises errors of several network libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EngineError(
            f"The {name} backbone's weights {wanted} are neither on this computer nor could they be downloaded "
            f"({reason}): check the name and the connection, give a folder or file, or use the compact backbone."
        ) from error
    finally:
        logging.set_verbosity(before)


def read_autoencoder(name: str, found: Found) -> Any:
    """The autoencoder of `diffusers` with its weights in float32, complete and of the right kind.

    A lone file is read with Stable Diffusion's settings, its widths taken from the weights. The layout of the original
    releases (``first_stage_model.``, with or without the rest of Stable Diffusion) is translated.

    Raises
    ------
    EngineError
        When `diffusers` is missing, or the weights are damaged, incomplete or of another network.
    """
    kind = HUB[name][0]
    diffusers = require("diffusers", name)
    state = _autoencoder_part(read_weights(found.weights))
    really = "AutoencoderTiny" if any(key.startswith("encoder.layers.") for key in state) else "AutoencoderKL"
    if state and really != kind:
        other = next(backbone for backbone, (its, _) in HUB.items() if its == really)
        raise EngineError(f"{found.weights} holds an {really}, not an {kind}: choose the {other} backbone for it.")
    try:
        settings = read_settings(found.settings) if found.settings else _SETTINGS_OF[kind](state)
        if kind == "AutoencoderKL":
            state = _renamed(state, settings)
        build = getattr(diffusers, kind)
        known = {key: settings[key] for key in inspect.signature(build).parameters if key in settings}
        with torch.device("meta"):  # no time and no random numbers for weights that are replaced at once
            autoencoder = build(**known)
        autoencoder.load_state_dict(state, strict=True, assign=True)
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
        raise EngineError(
            f"{found.weights} is not a whole {kind} that fits its settings, which the {name} backbone needs: {_REMEDY}."
        ) from error
    return autoencoder


def read_settings(path: Path) -> dict[str, Any]:
    """A ``config.json`` of `diffusers`.

    Raises
    ------
    EngineError
        When it is no JSON object.
    """
    try:
        settings = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {_REMEDY}.") from error
    if not isinstance(settings, dict):
        raise EngineError(f"{path} is not a config.json of diffusers: {_REMEDY}.")
    return settings


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, whichever way it was saved.

    Raises
    ------
    EngineError
        When the file is damaged, or holds more than plain weights: those may be code, which is never run.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".safetensors":
            state: Any = load_file(path)
        elif ending in _PICKLED:
            # Mapped where the format allows: of a whole Stable Diffusion, most gigabytes are not needed.
            mapped = zipfile.is_zipfile(path)
            # The older format is read from memory: asked for more than there is, a file would take that much first.
            content = path if mapped else io.BytesIO(path.read_bytes())
            state = torch.load(content, map_location="cpu", weights_only=True, mmap=mapped)
        else:
            raise EngineError(f"{path} is no file of weights: {_REMEDY}.")
    except UnpicklingError as error:
        raise EngineError(
            f"{path} is damaged, or holds more than plain weights, which is not read for safety: "
            "choose its .safetensors version."
        ) from error
    except EngineError:
        raise
    except Exception as error:  # of a damaged file, torch raises about everything
        raise EngineError(f"{path} is damaged or cannot be read: {_REMEDY}.") from error
    while isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise EngineError(f"{path} holds no weights by name: {_REMEDY}.")
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _autoencoder_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder out of a larger checkpoint, as float32 copies, so that the file may change or go."""
    for prefix in ("first_stage_model.", "vae.", ""):
        wanted = tuple(prefix + part for part in _PARTS)
        part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(wanted)}
        if part:
            return {key: value.to(torch.float32, copy=True) for key, value in part.items()}
    return {}


def _renamed(state: dict[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights under the names that `diffusers` has now: from the original releases, or from its own early days."""
    if any(key.startswith("encoder.down.") for key in state):
        translate = import_module("diffusers.loaders.single_file_utils").convert_ldm_vae_checkpoint
        renamed = translate(dict(state), dict(settings))
        if len(renamed) != len(state):  # it passes over names it does not know
            raise KeyError("weights of another architecture")
        return renamed
    renamed = {}
    for key, value in state.items():
        new = key
        if ".attentions." in key:
            for old, now in _OLD_ATTENTION.items():
                new = new.replace(old, now)
        renamed[new] = value
    return renamed


def _settings_of_kl(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of a lone file: Stable Diffusion's, with the widths of this one."""
    widths: dict[int, int] = {}
    blocks = 0
    for key, value in state.items():
        match = re.match(r"encoder\.down(?:_blocks)?\.(\d+)\.(?:block|resnets)\.(\d+)\.conv2\.weight", key)
        if match:
            widths[int(match[1])] = value.shape[0]
            blocks = max(blocks, int(match[2]) + 1)
    levels = len(widths)
    return {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [widths[level] for level in range(levels)],
        "layers_per_block": blocks,
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "use_quant_conv": "quant_conv.weight" in state,
        "use_post_quant_conv": "post_quant_conv.weight" in state,
    }


def _settings_of_tiny(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of a lone file: those of the published tiny autoencoders, with the widths of this one."""
    return {
        "encoder_block_out_channels": [state["encoder.layers.0.weight"].shape[0]] * 4,
        "decoder_block_out_channels": [state["decoder.layers.0.weight"].shape[0]] * 4,
        "latent_channels": state["decoder.layers.0.weight"].shape[1],
    }


_SETTINGS_OF: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Any]]] = {
    "AutoencoderKL": _settings_of_kl,
    "AutoencoderTiny": _settings_of_tiny,
}


def require(package: str, name: str) -> Any:
    """A package that only the backbones `tiny` and `sd` need: it takes seconds to import.

    Raises
    ------
    EngineError
        When it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise EngineError(
            f"The {name} backbone needs the diffusers package; install it with: pip install diffusers, "
            "or use the compact backbone."
        ) from error
