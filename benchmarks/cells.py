"""What the benchmarks share: the sets, one JSON file for each measured cell, and tables kept between markers.

A set is a folder with images/, masks/ (same stems, 8-bit class ids) and split.json: {"test": [stems], "pool": [stems]}.
The first N stems of the pool are labelled, the rest is unlabelled; `test` never trains.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULTS, REHEARSAL = HERE / "results", HERE.parent / "out" / "rehearsal"
PLOTS, README = HERE / "plots", HERE / "README.md"
SETS = ("skin_ph2", "glands_glas", "nuclei_dsb2018", "hippocampus_mri", "brain_tissue_mri", "membranes_em_isbi2012")
FORESTS = ("forest", "deep-forest")
RIVALS = (*FORESTS, "unet", "encoder-unet", "mean-teacher")  # see rivals.py
SHORT = (*RIVALS, "semigda-supervised", "semigda")
WIDE = (*SHORT, "no-stage1", "only-v", "only-c", "no-adapters", "decoder-scratch", "no-mixing")  # see ablations.py
ALL = "all"  # in place of a number of labelled images: every mask of the pool
SCORED = 40  # most unlabelled pool images scored a cell, evenly spread


def load_set(folder: Path, labels: int | str):
    """The pool with its first `labels` masks, then the planes scored of `test` and of the unlabelled pool."""
    from skimage.io import imread

    from napari_semigda.engine.types import Plane

    split = json.loads((folder / "split.json").read_text())
    files = {path.stem: path for path in (folder / "images").iterdir()}
    count = len(split["pool"]) if labels == ALL else int(labels)

    def plane(stem: str, with_mask: bool) -> Plane:
        mask = imread(folder / "masks" / f"{stem}.png") if with_mask else None
        return Plane(stem, imread(files[stem]), mask)

    pool = [plane(stem, i < count) for i, stem in enumerate(split["pool"])]
    return (
        pool,
        [plane(stem, True) for stem in split["test"]],
        [plane(stem, True) for stem in evenly(split["pool"][count:], SCORED)],
    )


def foreground(planes: Iterable) -> list[int]:
    """Ids of the classes that are on any of the planes, background left out."""
    return sorted({int(v) for p in planes for v in np.unique(p.mask)} - {0})


def evenly(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly spread."""
    return [items[i] for i in sorted({int(i) for i in np.linspace(0, len(items) - 1, most)})] if items else []


@dataclass(frozen=True)
class Place:
    """Where a cell stands in a grid; its text, ``skin_ph2-8labels-5min-seed0-semigda``, is the name of its file."""

    set: str
    labels: int | str  # or ALL
    minutes: float
    seed: int
    arm: str
    device: str = "cpu"

    def __str__(self) -> str:
        device = "" if self.device == "cpu" else f"@{self.device}"
        return f"{self.set}-{self.labels}labels-{self.minutes:g}min-seed{self.seed}-{self.arm}{device}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place that has this text."""
        found = re.fullmatch(r"(.+?)-(\d+|all)labels-([\d.]+)min-seed(\d+)-([^@]+)(?:@(\w+))?", text)
        if not found:
            raise ValueError(f"no place of a cell: {text}")
        name, labels, minutes, seed, arm, device = found.groups()
        return cls(name, ALL if labels == ALL else int(labels), float(minutes), int(seed), arm, device or "cpu")


def grid(data: Path, device: str = "cpu", **axes: str) -> list[Place]:
    """All combinations of comma-separated values; sets, labels, minutes, seeds, arms.

    Sets and arms vary fastest, so that a grid that is cut short has whole comparisons.
    """
    values = {name: text.split(",") for name, text in axes.items()}
    unknown = [name for name in values["sets"] if not (data / name / "split.json").is_file()]
    if unknown:
        raise SystemExit(f"{data} has no set {', '.join(unknown)}: each is a folder with a split.json.")
    return [
        Place.parse(f"{name}-{labels}labels-{minutes}min-seed{seed}-{arm}{'' if device == 'cpu' else f'@{device}'}")
        for seed, labels, minutes, name, arm in product(
            *(values[a] for a in ("seeds", "labels", "minutes", "sets", "arms"))
        )
    ]


def read_cells(folder: Path = RESULTS) -> list[dict]:
    """All cells of a folder, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def result_path(place: Place, folder: Path = RESULTS) -> Path:
    """Where a cell's result lies."""
    return folder / f"{place}.json"


def write_cell(place: Place, figures: dict, folder: Path = RESULTS) -> None:
    """Leave a cell with its place, day, machine and version of the engine, whole or not at all."""
    path = result_path(place, folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{place}.{os.getpid()}.part")
    circumstances = {"date": today(), "machine": machine(), "engine": engine()}
    part.write_text(json.dumps({**asdict(place), **circumstances, **figures}, indent=1) + "\n")
    part.replace(path)


def run_missing(
    script: str, data: Path, places: Iterable[Place], folder: Path, jobs: int, rehearse: int | None = None
) -> int:
    """Run ``script cell DATA PLACE FOLDER`` for every place without a result, in a process each; how many failed.

    Parameters
    ----------
    script
        Of the benchmark; its command `cell` leaves ``FOLDER/PLACE.json``.
    data, places, folder
        Sets, what is wanted, and where results lie.
    jobs
        Processes at a time, of one thread each.
    rehearse
        So many steps a cell, to see whether it runs: results then lie in `REHEARSAL`.
    """
    options = ("--steps", str(rehearse)) if rehearse else ()
    folder = REHEARSAL if rehearse else folder
    places = list(places)
    missing = [place for place in places if not result_path(place, folder).exists()]
    print(f"{len(places) - len(missing)} cells are there, {len(missing)} to run", flush=True)

    def start(place: Place) -> int:
        command = [sys.executable, script, "cell", str(data), str(place), str(folder), *options]
        return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode

    with ThreadPoolExecutor(jobs) as workers:
        return sum(code != 0 for code in workers.map(start, missing))


def write_section(name: str, lines: Iterable[str], page: Path = README) -> None:
    """Put lines between ``<!-- name:begin -->`` and ``<!-- name:end -->`` of a page; nothing else of it changes."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, rest = page.read_text().split(begin)
    page.write_text(f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.split(end)[1]}")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def mean_and_sd(values: Sequence[float], digits: int = 3) -> str:
    """``0.912`` of one value, ``0.912 ± 0.004`` of several (sample standard deviation), a dash of none."""
    values = [v for v in values if v is not None and not math.isnan(v)]
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def taken(cells: Sequence[dict]) -> str:
    """``Taken 2026-11-23 to 2026-11-25 on x86_64, 2 cores, 1 thread; engine 3f2a1b0.``"""
    dates, machines = sorted({c["date"] for c in cells}), sorted({c["machine"] for c in cells})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    engines = sorted({c.get("engine", "not noted") for c in cells})
    return f"Taken {days} on {'; '.join(machines)}; engine {', '.join(engines)}."


def pairs(cells: Sequence[dict], first: str, second: str) -> list[tuple[dict, dict]]:
    """Cells of two arms that agree in set, labels, minutes, seed and device."""
    others = {_place(c): c for c in cells if c["arm"] == second}
    return [(c, others[_place(c)]) for c in cells if c["arm"] == first and _place(c) in others]


def _place(cell: dict) -> tuple:
    return cell["set"], cell["labels"], cell["minutes"], cell["seed"], cell.get("device", "cpu")


def today() -> str:
    """The date as it stands in the tables."""
    return datetime.date.today().isoformat()


@cache
def engine() -> str:
    """Which version of the engine is in use: git's short name of its folder, ``+`` where that was changed since.

    Asked once, when this is imported: what is committed while a cell runs is not what it measures.
    """
    folder = "napari_semigda/engine"

    def git(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", *arguments], cwd=README.parents[1], capture_output=True, text=True, check=False)

    name = git("rev-parse", "--short", f"HEAD:{folder}")
    if name.returncode:
        return "unknown"
    return name.stdout.strip() + ("+" if git("diff", "--quiet", "HEAD", "--", folder).returncode else "")


engine()


def machine() -> str:
    """The processor, its cores, and how many threads this process uses."""
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    cores = f"{os.cpu_count()} cores, {threads} thread{'' if threads == '1' else 's'}"
    return f"{processor_name() or platform.machine()}, {cores}"


def processor_name() -> str:
    """As the system calls it; nothing where it does not say (a rival's cell from another one is no comparison)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
