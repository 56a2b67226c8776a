"""Damaged files by the thousand through every reader: does each end in a sentence of ours, or in a correct result?

    python benchmarks/fuzz.py --count 10000

Each input is a good file with a fault made on purpose (see `fuzz_mutations`), read by a process that may take 5 s and
1 GB more than it began with. Findings are: any error but our own, a process that dies, too much time or memory, a file
written outside the folder of the input, and a file read from outside it because another one names it. Linux only.

Every input is told by a number, so that one can be had again: ``--only 1234 --keep folder``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_mutations import other_thing
from fuzz_targets import TARGETS

from napari_semigda.engine.types import EngineError

SECONDS, BYTES = 5.0, 2**30
HUNG = 20.0  # seconds without a word after which the process is ended


@dataclass
class Row:
    """What came of the inputs of one reader."""

    reader: str
    inputs: int = 0
    refused: int = 0
    """Ended in a sentence of ours; the others gave a result."""
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds
    most: int = 0  # bytes


def fuzz(count: int, seed: int = 0, readers: tuple[str, ...] = tuple(TARGETS), minutes: float = math.inf) -> list[Row]:
    """Read `count` damaged inputs.

    Parameters
    ----------
    count
        How many, shared out among the readers.
    seed
        The same one gives the same inputs.
    readers
        Names of `TARGETS`.
    minutes
        After which no further one is begun.

    Returns
    -------
    list of Row
        One for each reader.
    """
    end = time.monotonic() + 60 * minutes
    rows = {name: Row(name) for name in readers}
    numbers = range(seed * 10**6, seed * 10**6 + count)
    for number, name, said in _answers(numbers, readers):
        row = rows[name]
        row.inputs += 1
        row.refused += bool(said.get("refused"))
        row.slowest, row.most = max(row.slowest, said.get("seconds", 0)), max(row.most, said.get("bytes", 0))
        row.findings += [f"{number} {what}" for what in said.get("findings", ())]
        if time.monotonic() > end:
            break
    return list(rows.values())


def _reader_of(number: int, readers: tuple[str, ...]) -> str:
    return random.Random(number).choices(readers, [TARGETS[name].weight for name in readers])[0]


def _answers(numbers: range, readers: tuple[str, ...]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Have a process read inputs; one that dies or hangs is a finding, and the next one goes on."""
    left = list(numbers)
    while left:
        command = [sys.executable, __file__, "--serve", *readers]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            child.stdout.readline()  # ready
            while left:
                child.stdin.write(f"{left[0]}\n".encode())
                child.stdin.flush()
                ready, _, _ = select.select([child.stdout], [], [], HUNG)
                line = child.stdout.readline() if ready else b""
                number, name = left[0], _reader_of(left.pop(0), readers)
                if line:
                    yield number, name, json.loads(line)
                    continue
                child.kill()
                last = child.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
                what = f"ended the process ({child.wait()}) {last}" if ready else f"hung for {HUNG:g} s"
                yield number, name, {"findings": [what]}
                break
            child.stdin.close()


# -- the process that reads ----------------------------------------------------------------------------------------


_EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.symlink", "os.link", "os.rmdir")


class Watch:
    """Hears of every file that Python opens, makes or moves."""

    def __init__(self, outer: Path) -> None:
        self.outer = str(outer)
        self.inside = ""
        self.on = self.links = False
        self.findings: list[str] = []
        self._own = threading.local()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in _EVENTS or getattr(self._own, "busy", False):
            return
        self._own.busy = True  # what follows asks the disk, too
        try:
            written = event != "open" or _writes(arguments)
            for path in arguments[:2] if event in ("os.rename", "os.symlink", "os.link") else arguments[:1]:
                self._judge(event, path, written)
        finally:
            self._own.busy = False

    def _judge(self, event: str, path: Any, written: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.fsdecode(path)
        folder, name = os.path.split(path)  # all but opening takes a link for what it is, not for where it leads
        real = os.path.realpath(path if event == "open" else folder)
        real = real if event == "open" else f"{real}/{name}"
        if real.startswith(self.inside) or real == "/dev/null":
            return
        temporary = tempfile.gettempdir()
        if written and not real.startswith(temporary):
            self.findings.append(f"{event} outside its place: {real}")
        elif real.startswith(self.outer) and (written or not self.links):
            self.findings.append(f"{event} of its neighbour: {real}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2] if len(arguments) > 2 else 0
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


class Server:
    """Makes inputs and reads them.

    Parameters
    ----------
    readers
        Names of `TARGETS`.
    folder
        For the inputs; nothing else lies there.
    """

    def __init__(self, readers: tuple[str, ...], folder: Path) -> None:
        self._readers, self._folder = readers, folder
        secret = folder / "secret"
        secret.mkdir()
        for name in readers:
            (folder / "good" / name).mkdir(parents=True)
            TARGETS[name].build(folder / "good" / name)
            with suppress(EngineError):
                TARGETS[name].read(self._copy(name))  # libraries load here, and a good file is one that can be read
        for name in ("secret.png", "secret.tif"):
            shutil.copyfile(Path(__file__).parents[1] / "napari_semigda/sample/images/brain.tif", secret / name)
        self._watch = Watch(folder)
        limit_memory(BYTES)

    def _copy(self, name: str) -> Path:
        inner = self._folder / "input"
        shutil.rmtree(inner, ignore_errors=True)
        shutil.copytree(self._folder / "good" / name, inner, symlinks=True)
        return inner

    def make(self, number: int) -> tuple[str, Path]:
        """Input `number`: what reads it, and its folder."""
        rng = random.Random(number)
        name = _reader_of(number, self._readers)
        rng.random()
        target, inner = TARGETS[name], self._copy(name)
        path = rng.choice(sorted(path for path in inner.glob(target.victims) if path.is_file()))
        mutation = rng.choice(target.mutations)
        try:
            mutation(rng, path)
        except Exception:  # a chunk is no JSON, a tag is too long: flip something, then
            path.write_bytes(rng.randbytes(100))
        self._watch.links = mutation is other_thing  # who follows a link that somebody made is not to blame
        self._watch.inside = str(inner)
        return name, inner

    def read(self, number: int) -> dict[str, Any]:
        """What came of input `number`."""
        name, inner = self.make(number)
        self._watch.findings.clear()
        findings: list[str] = []
        refused = False
        before = _resident(reset=True)
        began = time.monotonic()
        self._watch.on = True
        try:
            TARGETS[name].read(inner)
        except EngineError as error:
            refused = True
            findings += _faults(error)
        except BaseException as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            findings.append(f"{type(error).__name__}: {str(error)[:120]} at {Path(at.filename).name}:{at.lineno}")
        self._watch.on = False
        seconds, taken = time.monotonic() - began, _resident() - before
        if seconds > SECONDS:
            findings.append(f"took {seconds:.1f} s")
        if taken > BYTES:
            findings.append(f"took {taken / 2**20:.0f} MB")
        findings += self._watch.findings
        return {"refused": refused, "seconds": seconds, "bytes": taken, "findings": findings}


def _faults(error: EngineError) -> list[str]:
    """What is wrong with a refusal: no sentence, or memory was asked for before it was known to be there."""
    faults = []
    text = str(error)
    if "\n" in text or not text.endswith((".", "closes it there first.")) or len(text) > 1500:
        faults.append(f"no sentence: {text[:100]!r}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            faults.append(f"MemoryError behind: {text[:160]}")
        cause = cause.__cause__ or cause.__context__
    return faults


def _resident(reset: bool = False) -> int:
    """Most bytes of memory since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def limit_memory(more: int) -> None:
    """Let this process have so many bytes more than it has, and let the readers believe there is no more."""
    from napari_semigda.formats import source

    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (int(line.split()[1]) * 1024 + more, resource.RLIM_INFINITY))
    source.free_memory = lambda: more // 2


def serve(readers: tuple[str, ...]) -> None:
    """Read inputs by the numbers that come in."""
    with tempfile.TemporaryDirectory(prefix="semigda-fuzz-") as folder:
        server = Server(readers, Path(folder).resolve())
        print("ready", flush=True)
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        for line in sys.stdin:
            print(json.dumps(server.read(int(line))), file=answers, flush=True)


# -- the command line ------------------------------------------------------------------------------------------------


def show(rows: list[Row]) -> None:
    """Print the table, and findings by kind."""
    print("| reader | inputs | refused in words | read | findings | slowest | most memory |")
    print("|---|---|---|---|---|---|---|")
    for row in [*rows, total(rows)]:
        read = row.inputs - row.refused - len(row.findings) if row.inputs else 0
        figures = f"{row.inputs} | {row.refused} | {max(read, 0)} | {len(row.findings)} | {row.slowest:.2f} s"
        print(f"| {row.reader} | {figures} | {row.most / 2**20:.0f} MB |")
    for row in rows:
        kinds = Counter(finding.partition(" ")[2] for finding in row.findings)
        for kind, often in kinds.most_common():
            first = next(each.partition(" ")[0] for each in row.findings if each.partition(" ")[2] == kind)
            print(f"{row.reader}: {often} x {kind} (input {first})")


def total(rows: list[Row]) -> Row:
    """All rows in one."""
    findings = [finding for row in rows for finding in row.findings]
    counts = (sum(getattr(row, name) for row in rows) for name in ("inputs", "refused"))
    return Row("all", *counts, findings, max(row.slowest for row in rows), max(row.most for row in rows))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so long")
    parser.add_argument("--readers", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--only", type=int, help="the number of one input, which is read here, with its whole error")
    parser.add_argument("--keep", type=Path, help="where the input of --only goes")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(tuple(chosen.serve))
    elif chosen.only is not None:
        with tempfile.TemporaryDirectory(prefix="semigda-fuzz-") as folder:
            name, inner = Server(tuple(chosen.readers), Path(folder).resolve()).make(chosen.only)
            if chosen.keep:
                shutil.copytree(inner, chosen.keep, symlinks=True)
            print(name)
            TARGETS[name].read(inner)
    else:
        began = time.monotonic()
        rows = fuzz(chosen.count, chosen.seed, tuple(chosen.readers), chosen.minutes)
        show(rows)
        print(f"{time.monotonic() - began:.0f} s")
        sys.exit(any(row.findings for row in rows))


if __name__ == "__main__":
    main()
