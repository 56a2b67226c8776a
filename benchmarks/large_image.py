"""Images larger than memory: seams, what blocks cost, and time and memory as the image grows.

    python benchmarks/large_image.py run --data FOLDER
    python benchmarks/large_image.py run --data FOLDER --sides 30000 --ways blocks
    python benchmarks/large_image.py table

Images of a set's pool, laid side by side and mirrored until they fill a square, become an OME-Zarr. Each way of
predicting it has a process of its own, so that its peak memory is known:

- ``blocks``: `semigda predict`, in blocks however small the image, masks into an OME-Zarr;
- ``whole``: the same model in one array, as it predicts small images;
- ``one look``: the same without windows, for how far windows themselves change a mask;
- ``basic-unet``: MONAI's sliding window over a BasicUNet of random weights, in the same windows.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from cells import RESULTS, engine, load_set, machine, markdown, today, write_section

FOLDER = RESULTS / "large_image"
WAYS = ("blocks", "whole", "one look", "basic-unet")
CHUNK = 1024
app = typer.Typer(add_completion=False)


@app.command()
def run(  # noqa: PLR0913, PLR0917  options
    data: Annotated[Path, typer.Option(help="folder of the sets")],
    name: Annotated[str, typer.Option("--set")] = "glands_glas",
    sides: str = "1024,2048,4096,8192",
    ways: str = ",".join(WAYS),
    most: Annotated[int, typer.Option(help="array ways only up to this side, for they need its memory")] = 4096,
    steps: Annotated[int, typer.Option(help="of training, where no model is given")] = 60,
    model: Annotated[Path | None, typer.Option(help="a model trained on the set")] = None,
    blocks: Annotated[int | None, typer.Option(help="stop after so many blocks: memory only")] = None,
    note: Annotated[str, typer.Option(help="on the machine")] = "",
) -> None:
    """Measure; prints the table and keeps the figures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if model is None:
            model = place / "m.semigda"
            child("train", data / name, model, steps)
        for side in map(int, sides.split(",")):
            for path in place.glob("*.npy"):
                path.unlink()
            child("make", data / name, place / "large.ome.zarr", side)
            for way in ways.split(","):
                if way == "blocks" or side <= most:
                    child("measure", place, model, side, way, blocks or 0)
                    figures = json.loads((place / "figures.json").read_text())
                    figures |= {"set": name, "date": today(), "engine": engine()}
                    figures["machine"] = ", ".join(filter(None, (machine(), note)))
                    whole = place / "blocks.npy"
                    if way in ("whole", "one look") and whole.exists():
                        figures["differs"] = differing(whole, place / f"{way}.npy")
                    (FOLDER / f"{name}-{side}-{way.replace(' ', '-')}.json").write_text(
                        json.dumps(figures, indent=1) + "\n"
                    )
                    print(json.dumps(figures), flush=True)


def child(command: str, *arguments: object) -> None:
    """Run one of the commands below in a process of its own."""
    subprocess.run([sys.executable, __file__, command, *map(str, arguments)], check=True)


def differing(first: Path, second: Path) -> float:
    """Share of pixels in which two masks differ."""
    a, b = (np.load(path, mmap_mode="r") for path in (first, second))
    return float(np.mean([np.mean(a[top : top + CHUNK] != b[top : top + CHUNK]) for top in range(0, len(a), CHUNK)]))


@app.command(hidden=True)
def train(data: Path, model: Path, steps: int) -> None:
    """A model of the first 8 masks of the pool."""
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import Settings, TrainRequest

    pool, *_ = load_set(data, 8)
    for _ in Trainer().fit(TrainRequest(tuple(pool[:16]), model, Settings(max_steps=steps, device="cpu"))):
        pass


@app.command(hidden=True)
def make(data: Path, store: Path, side: int) -> None:
    """An OME-Zarr of one resolution of real images side by side, each second one mirrored so that edges meet."""
    import zarr

    pool, *_ = load_set(data, 0)
    pictures = [np.asarray(plane.image) for plane in islice(pool, 4)]
    height, width = (min(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    first, second, third, fourth = (picture[:height, :width] for picture in pictures)
    block = np.concatenate([np.concatenate([first, second], 1), np.concatenate([third, fourth], 1)])
    colours = block.ndim == 3
    group = zarr.open_group(store, mode="w")
    shape = (side, side, *block.shape[2:])
    array = group.create_array("0", shape=shape, chunks=(CHUNK, CHUNK, *block.shape[2:]), dtype=block.dtype)
    rows, columns = (mirrored(side, n) for n in block.shape[:2])
    for top in range(0, side, CHUNK):
        for left in range(0, side, CHUNK):
            array[top : top + CHUNK, left : left + CHUNK] = block[
                np.ix_(rows[top : top + CHUNK], columns[left : left + CHUNK])
            ]
    axes = [{"name": axis, "type": "channel" if axis == "c" else "space"} for axis in ("yxc" if colours else "yx")]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def mirrored(length: int, period: int) -> np.ndarray:
    """Positions 0 .. period-1 .. 0 .. and so on."""
    at = np.arange(length) % (2 * period)
    return np.minimum(at, 2 * period - 1 - at)


@app.command(hidden=True)
def measure(place: Path, model: Path, side: int, way: str, most: int) -> None:
    """Predict ``large.ome.zarr`` in one way; leaves ``figures.json`` and the mask as ``WAY.npy``."""
    from napari_semigda.engine import blocks, predict
    from napari_semigda.formats import open_source
    from napari_semigda.images import planes_of

    store, out = place / "large.ome.zarr", place / "out"
    predictor = predict.Predictor(model, "cpu")
    view = predictor._view
    figures = {"side": side, "way": way, "scale": view.scale, "window": predict.window_side(view.crop)}
    figures |= {"classes": len(predictor.class_ids), "memory before": peak(), "blocks": 0}
    blocks.LARGE = 0 if way == "blocks" else 2**60
    if way == "one look":
        predict.WHOLE = 2**30
    began, worked = time.perf_counter(), time.process_time()
    if way == "blocks":
        figures["blocks"], figures["of blocks"] = by_batch(predictor, model, store, out, most)
    else:
        (plane,) = planes_of(open_source(store))
        mask = by_basic_unet(plane, predictor) if way == "basic-unet" else predictor.predict(plane).mask
    figures |= {"wall": time.perf_counter() - began, "processor": time.process_time() - worked, "memory": peak()}
    if way == "blocks" and figures["blocks"] == figures["of blocks"] and side <= 2 * 8192:
        (plane,) = open_source(out / store.name).planes
        mask = np.asarray(plane)
    if way != "blocks" or figures["blocks"] == figures["of blocks"]:
        np.save(place / f"{way}.npy", mask) if side <= 2 * 8192 else None
    (place / "figures.json").write_text(json.dumps(figures))


def looked_at_again(side: int, figures: dict) -> float:
    """Share of the windows that are looked at twice because they lie across two strips of blocks; counted."""
    from napari_semigda.engine.blocks import SIDE
    from napari_semigda.engine.predict import OVERLAP
    from napari_semigda.engine.tiles import strip_columns

    window, scale = figures["window"], figures["scale"]
    columns = strip_columns(window, OVERLAP, 2, 2 * figures["classes"], scale)
    interval = int(window * (1 - OVERLAP))
    starts = range(0, max(1, round(side * scale) - window + interval), interval)
    borders = [edge * scale for edge in range(columns * SIDE, side, columns * SIDE)]
    return sum(start < edge < start + window for start in starts for edge in borders) / len(starts)


def peak() -> float:
    """Most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def by_batch(predictor, model: Path, store: Path, out: Path, most: int) -> tuple[int, int]:
    """`semigda predict --resume`, block by block; how many blocks of how many."""
    import shutil

    from napari_semigda.batch import run_batch
    from napari_semigda.engine.blocks import count_blocks
    from napari_semigda.engine.types import BatchRequest
    from napari_semigda.formats import open_source

    shutil.rmtree(out, ignore_errors=True)
    (plane,) = open_source(store).planes
    whole, done = count_blocks(plane.shape), [0]
    request = BatchRequest(model, (store,), out, keep_going=False, device="cpu")
    for report in run_batch(request, predictor, lambda: 0 < most <= done[0]):
        done[0] = whole if report.written else max(done[0], round(report.fraction * (whole + 1)))
    return done[0], whole


def by_basic_unet(plane, predictor) -> np.ndarray:
    """(H, W) class indices of a BasicUNet with the windows of the model, over an array."""
    import torch
    from monai.inferers import sliding_window_inference
    from rivals import basic_unet

    from napari_semigda.engine.predict import OVERLAP, window_side
    from napari_semigda.engine.view import PlaneReader

    view = predictor._view
    network, side = basic_unet(len(predictor.class_ids)).eval(), window_side(view.crop)
    picture = PlaneReader([plane]).whole(0, view.scale)[None] * 2 - 1
    with torch.inference_mode():
        scores = sliding_window_inference(picture, (side, side), 1, network, overlap=OVERLAP, mode="gaussian")
        full = torch.nn.functional.interpolate(scores, size=plane.size, mode="bilinear")
    return full[0].argmax(0).numpy().astype(np.uint8)


@app.command()
def table() -> None:
    """Write what was measured into benchmarks/README.md."""
    found = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    write_section("large-image", lines(found) if found else ["Not yet taken."])


def lines(found: list[dict]) -> list[str]:
    """The tables: what grows with the image, and blocks against arrays."""
    by_way = {(each["set"], each["side"], each["way"]): each for each in found}
    header = ["image", "way", "windows of", "blocks", "processor, s", "wall, s", "Mpx a processor second"]
    header += [
        "peak memory, MiB",
        "of that before, MiB",
        "windows looked at again",
        "above `whole` in processor time",
        "pixels other than `blocks`",
    ]
    rows = []
    for each in sorted(found, key=lambda each: (each["set"], each["side"], WAYS.index(each["way"]))):
        whole = by_way.get((each["set"], each["side"], "whole"))
        partly = each["blocks"] and each["blocks"] < each["of blocks"]
        done = each["blocks"] / each["of blocks"] if partly else 1.0
        rows.append(
            [
                f"{each['set']}, {each['side']} x {each['side']}",
                f"{each['way']} (stopped early)" if partly else each["way"],
                f"{each['window']} px at {each['scale']:.0%}",
                f"{each['blocks']} of {each['of blocks']}" if each["blocks"] else "–",
                f"{each['processor']:.1f}",
                f"{each['wall']:.1f}",
                f"{each['side'] ** 2 * done / 1e6 / each['processor']:.2f}",
                f"{each['memory']:.0f}",
                f"{each['memory before']:.0f}",
                f"{looked_at_again(each['side'], each):.1%}" if each["way"] == "blocks" else "–",
                f"{each['processor'] / whole['processor'] - 1:+.0%}" if whole and each["way"] == "blocks" else "–",
                f"{each['differs']:.4%}" if "differs" in each else "–",
            ]
        )
    taken = sorted({f"{each['date']} on {each['machine']}; engine {each['engine']}" for each in found})
    again = looked_at_again(30000, found[0])
    return [
        *markdown(header, rows),
        "",
        f"Taken {'; '.join(taken)}. At 30,000 x 30,000 {again:.1%} of the windows would be looked at again (counted).",
    ]


if __name__ == "__main__":
    app()
