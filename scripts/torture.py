"""Everything that docs/reliability.md promises, tried by breaking things; prints a table and writes it there.

    make torture                      200 kills, 100 rounds, a day of painting: half an hour at most
    make torture ARGS="--minutes 5"   as much as can be done in five

Needs a screen (`make` gives it a virtual one). Ends with 0 when every promise was kept. Every part ends when its share
of the time is over; the counts in the table are those that were really done.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))
from cells import markdown, write_section
from torture_disks import Broken, clock_back, full_disk, minding_rights, read_only, small_disk
from torture_kills import PROMISED_S, Damage, torture
from torture_watch import kill_viewers, watch

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
RESULTS = Path(__file__).parents[1] / "out" / "torture"
WHOLE_MINUTES = 28.0  # viewers take their time to start and end
KILLS, VIEWERS, FULL, ROUNDS, STROKES = 180, 20, 40, 100, 5760
MEMORY_MB = 50.0
ENGINES = {"real": "", "fake": ", on a quick stand-in for the engine"}


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    what: str
    how: str
    figure: str
    kept: bool | None  # None: not tried


# -- the parts ------------------------------------------------------------------------------------------------------


def without_screen(folder: Path, seconds: float, engine: str) -> Line:
    """Kills of a process that uses a project as the dock does."""
    damage = torture(folder / "kills", KILLS, seed=0, lanes=4, end=time.monotonic() + seconds)
    return _of_kills("Masks survive kill -9 (a project without a screen)", damage)


def with_screen(folder: Path, seconds: float, engine: str) -> Line:
    """Kills of a real viewer, of its training process, and of both."""
    return _of_kills(
        "Masks survive kill -9 (viewer, trainer or both)", kill_viewers(folder, VIEWERS, time.monotonic() + seconds)
    )


def _of_kills(what: str, damage: Damage) -> Line:
    wrong = [*damage.lost, *damage.half_written, *damage.unopened]
    figure = (
        f"{damage.strokes} strokes; of those older than {PROMISED_S:.0f} s lost: {len(damage.lost)}; half-written "
        f"files: {len(damage.half_written)}; not opened: {len(damage.unopened)}; lost were at most the last "
        f"{damage.oldest_lost_s:.2f} s"
    )
    return Line(
        what, f"{damage.kills} kills", figure + "".join(f"; {sentence}" for sentence in wrong[:3]), damage.whole
    )


def disk(folder: Path, seconds: float, engine: str) -> Line:
    """A disk that fills up."""
    end = time.monotonic() + seconds
    with small_disk() as small:
        if small is None:
            return Line("A disk that fills up", "a small tmpfs", "not tried: none may be mounted here", None)
        return _promised("A disk that fills up", "tmpfs of 4 MB", lambda: full_disk(small, FULL, seed=0, end=end))


def rights(folder: Path, seconds: float, engine: str) -> Line:
    """A folder that is turned read-only."""
    if not hasattr(os, "seteuid"):
        return Line("A folder turned read-only", "rights taken", "not tried: this system has no such rights", None)
    with minding_rights() as own:
        how = "rights taken away, as a user whom they bind"
        return _promised("A folder turned read-only", how, lambda: read_only(own, FULL, time.monotonic() + seconds))


def clock(folder: Path, seconds: float, engine: str) -> Line:
    """A clock that is moved back."""
    return _promised(
        "The clock moved back", "the time in the process and the dates of files", lambda: clock_back(folder)
    )


def _promised(what: str, how: str, action: Callable[[], str]) -> Line:
    try:
        return Line(what, how, action(), True)
    except Broken as broken:
        return Line(what, how, f"not so: {broken}", False)


def leaks(folder: Path, seconds: float, engine: str) -> Line:
    """Train and stop, with an eye on everything that could be left over."""
    said = watch(folder, "rounds", ROUNDS, seconds, engine)
    gone = any(what == "closed" and facts[0] for _, what, *facts in said)
    return _of_measures(
        "Nothing is left over by rounds", f"train/stop rounds, half of them stopped{ENGINES[engine]}", said, gone
    )


def soak(folder: Path, seconds: float, engine: str) -> Line:
    """A day in a hurry."""
    said = watch(folder, "soak", STROKES, seconds, engine)
    how = f"strokes of the {STROKES} of eight hours, with accepts and predictions{ENGINES[engine]}"
    return _of_measures("A day of painting", how, said)


def _of_measures(what: str, how: str, said: list[list], gone: bool = True) -> Line:
    measures = [facts for _, kind, *facts in said if kind == "measured"]
    if failed := [facts for _, kind, *facts in said if kind == "failed"]:
        return Line(what, how, f"the viewer failed: {failed}", False)
    if len(measures) < 2:
        return Line(what, how, "not tried: the time was over before anything could be compared", None)
    (_, first), (done, last) = measures[0], measures[-1]
    grown = {name: last[name] - first[name] for name in first}
    left = {name: grown[name] for name in ("handles", "threads", "processes", "shared", "temporary") if grown[name] > 0}
    highest = max(each["memory"] for _, each in measures) - first["memory"]
    figure = (
        f"viewer memory {grown['memory']:+.0f} MB (at most {highest:+.0f}) from {first['memory']:.0f} MB; left over: "
        + (", ".join(f"{count} {name}" for name, count in left.items()) or "nothing")
        + f"; trainer memory {grown['trainer']:+.0f} MB"
        + ("" if gone else "; the trainer outlived the viewer")
    )
    path = " ".join(f"{each['memory']:.0f}" for _, each in measures)
    return Line(
        what, f"{done} {how}", f"{figure}; memory over time: {path} MB", gone and not left and highest < MEMORY_MB
    )


PARTS: dict[str, tuple[Callable[[Path, float, str], Line], float]] = {
    # with shares of the time
    "kills": (without_screen, 5),
    "disk": (disk, 0.5),
    "rights": (rights, 0.5),
    "clock": (clock, 0.1),
    "viewers": (with_screen, 8),
    "rounds": (leaks, 8),
    "soak": (soak, 6),
}


def run(minutes: float, only: list[str], engine: str) -> Iterator[tuple[str, Line]]:
    """Try one promise after the other in so many minutes."""
    whole = sum(PARTS[name][1] for name in only or PARTS)
    for name in only or PARTS:
        part, share = PARTS[name]
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="semigda-torture-", ignore_cleanup_errors=True) as folder:
            yield name, part(Path(folder), 60 * minutes * share / whole, engine)


def table() -> list[str]:
    """For the page: the newest result of each part."""
    words, rows = {True: "kept", False: "**broken**", None: "not tried"}, []
    for name in PARTS:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            rows.append((PARTS[name][0].__doc__.rstrip("."), "", "not yet taken", "", ""))
            continue
        result = json.loads(path.read_text())
        line = Line(**result["line"])
        rows.append((line.what, line.how, line.figure, words[line.kept], result["taken"]))
    return markdown(("promise", "tried", "what came of it", "", "taken"), rows)


def main() -> int:
    """Try what is asked for, print the table, write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=WHOLE_MINUTES, help="at most so many (%(default).0f)")
    parser.add_argument("--only", nargs="*", default=[], choices=PARTS, help="these parts; the other rows stay")
    parser.add_argument("--engine", default="real", choices=ENGINES, help="what rounds and soak train with")
    arguments, kept = parser.parse_args(), True
    asked = f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name, line in run(arguments.minutes, arguments.only, arguments.engine):
        kept &= line.kept is not False
        print(f"{line.what}: {line.how}: {line.figure}", flush=True)
        taken = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, "
        taken += f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, "
        taken += f"`make torture{asked}`"
        (RESULTS / f"{name}.json").write_text(json.dumps({"taken": taken, "line": asdict(line)}))
        write_section("torture", table(), PAGE)
    print("\n".join(["", *table()]))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
