"""Thousands of small files: what reading each once costs, against skimage.io, and what a project of them remembers.

    python benchmarks/many_files.py run
    python benchmarks/many_files.py table

Makes its own files of noise in a temporary folder. Each way of reading has a process of its own; the ways take turns,
and the least processor time of three turns counts. Then a project of the same files is opened, its thumbnails are made,
and it is opened once more.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from cells import RESULTS, engine, machine, markdown, today, write_section

from napari_semigda.engine.types import EngineError

FOLDER = RESULTS / "many_files"
KINDS = {"PNG, colours": "png", "TIFF, 16 bits": "tif", "TIFF, 16 bits, Deflate": "deflate.tif"}
WAYS = ("skimage.io", "ours")
TURNS = 3
app = typer.Typer(add_completion=False)


@app.command()
def run(files: int = 5000, side: int = 256, note: Annotated[str, typer.Option(help="on the machine")] = "") -> None:
    """Measure; prints the table and keeps the figures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind, suffix in KINDS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "images"
            make(folder, files, side, suffix)
            seconds = {way: min(child("read", folder, way) for _ in range(TURNS)) for way in WAYS}
            first, second = child("project", folder), child("project", folder)
        figures = {"kind": kind, "files": files, "side": side, "seconds": seconds, "first": first, "second": second}
        figures |= {"date": today(), "engine": engine(), "machine": ", ".join(filter(None, (machine(), note)))}
        (FOLDER / f"{suffix}.json").write_text(json.dumps(figures, indent=1) + "\n")
    table()


@app.command()
def table() -> None:
    """Write what is there into the page."""
    found = [json.loads((FOLDER / f"{suffix}.json").read_text()) for suffix in KINDS.values()]
    rows = [
        (
            f"{each['files']} of {each['side']} x {each['side']}, {each['kind']}",
            *(f"{each['seconds'][way]:.1f}" for way in WAYS),
            f"{each['seconds']['ours'] / each['seconds']['skimage.io']:.2f}",
            f"{each['first']:.1f}",
            f"{each['second']:.1f}",
        )
        for each in found
    ]
    told = sorted({f"{each['date']} on {each['machine']}; engine {each['engine']}" for each in found})
    header = ("files", "skimage.io, s", "ours, s", "of skimage.io", "project, first time, s", "again, s")
    lines = [*markdown(header, rows), "", f"Processor time. Taken {'; '.join(told)}."]
    write_section("many-files", lines)
    print("\n".join(lines))


@app.command(hidden=True)
def read(folder: Path, way: str) -> None:
    """Every file once, in the order of names."""
    if way == "ours":
        from napari_semigda.formats import open_source

        look = lambda path: np.asarray(open_source(path).planes[0])  # noqa: E731
    else:
        from skimage.io import imread as look
    paths = sorted(folder.iterdir())
    look(paths[0])  # imports
    begun = time.process_time()
    for path in paths:
        assert look(path).size
    print(time.process_time() - begun)


@app.command(hidden=True)
def project(folder: Path) -> None:
    """Open the project, which is made the first time, and have a thumbnail of every image."""
    from napari_semigda.store import ProjectStore
    from napari_semigda.widgets.thumbnails import thumbnail

    begun = time.process_time()
    try:
        store = ProjectStore.open(folder)
    except EngineError:
        store = ProjectStore.create(folder)
    for number, image in enumerate(store.images):
        if store.pictures.get(number) is None:
            store.pictures.put(number, thumbnail(np.asarray(image)))
    store.close()
    print(time.process_time() - begun)


def make(folder: Path, files: int, side: int, suffix: str) -> None:
    """Files that noise cannot be packed in much."""
    import tifffile
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(files):
        path = folder / f"im{number:05d}.{suffix}"
        if suffix == "png":
            Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(path, compress_level=1)
        else:
            pixels = rng.integers(0, 4096, (side, side), np.uint16)
            tifffile.imwrite(path, pixels, compression="zlib" if suffix.startswith("deflate") else None)


def child(*arguments: object) -> float:
    """What a command of ours in a process of its own measured."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    app()
