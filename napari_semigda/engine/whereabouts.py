"""What a model file tells of where its backbone came from, and how the weights are found again.

A model that is passed on shows no folder of the computer it was made on; that computer remembers them for itself.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from napari_semigda.engine.sources import HUB_NAME
from napari_semigda.engine.strangers import parse_json
from napari_semigda.engine.types import EngineError

_MOST_REMEMBERED = 100  # places of weights


def recorded(origin: str) -> str:
    """What a model file says of where its backbone came from: a name on the hub, or that of a file or folder.

    Folders stay at home: they often say who works where.
    """
    return origin if _names_hub(origin) else _last(origin)


def remember(digest: str, origin: str) -> None:
    """Note for this user of this computer where weights of that digest are; a disk that takes no notes is no matter."""
    if _names_hub(origin):
        return
    known = {key: place for key, place in _remembered().items() if key != digest} | {digest: origin}
    path = _memory()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(dict(list(known.items())[-_MOST_REMEMBERED:]), indent=1), encoding="utf-8")
        os.replace(part, path)
    with suppress(OSError):
        part.unlink(missing_ok=True)


def of_model(name: str | None, digest: str | None, folder: Path) -> str | None:
    """A source for `locate` from what a model file records, which may come from a stranger.

    Parameters
    ----------
    name
        The source it records; None for a backbone that needs none. Of a path only the last part counts.
    digest
        The checksum it records.
    folder
        Where the model file is: its backbone may lie beside it.

    Returns
    -------
    str or None
        A name on the hub; else the file or folder where weights of that checksum were on this computer, or one of that
        name beside the model.

    Raises
    ------
    EngineError
        When it is in neither place.
    """
    if name is None or _names_hub(name):
        return name
    last = _last(name)
    places = [Path(_remembered().get(digest or "", ""))] + [folder / last] * (last not in ("", ".", ".."))
    found = next((place for place in places if place.name and place.exists()), None)
    if found is None:
        raise EngineError(
            f"its weights {last} are not where they were on this computer: name them as the source (--backbone-source "
            "on the command line), or put them beside the model."
        )
    return str(found)


def _names_hub(origin: str) -> bool:
    """Whether it is a name on the hub; of a `Found.origin` everything else is absolute."""
    return bool(HUB_NAME.fullmatch(origin)) and not {".", ".."} & {*origin.split("/")}


def _last(origin: str) -> str:
    return PureWindowsPath(PurePosixPath(origin).name).name


def _memory() -> Path:
    from platformdirs import user_config_path

    return user_config_path("napari-semigda", appauthor=False) / "backbones.json"


def _remembered() -> dict[str, str]:
    """Places by digest."""
    with suppress(OSError, ValueError):
        known = parse_json(_memory().read_bytes())
        if isinstance(known, dict):
            return {key: place for key, place in known.items() if isinstance(place, str)}
    return {}
