"""The project on disk that is open: reads it, and keeps it up to date without anybody waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np

from napari_semigda import __version__
from napari_semigda.classes import Classes, first_classes
from napari_semigda.engine.exchange import Standing
from napari_semigda.engine.types import EngineError
from napari_semigda.formats import KINDS, is_zarr
from napari_semigda.formats.dicom import is_one_series
from napari_semigda.log import Log, computer_log
from napari_semigda.rounds import Round
from napari_semigda.store import scan
from napari_semigda.store.files import PREVIOUS, Lock, refusal, set_aside, sweep, write_json
from napari_semigda.store.index import NAME, Index, NewerError, read_index
from napari_semigda.store.masks import MaskFiles
from napari_semigda.store.pictures import Pictures
from napari_semigda.store.rounds import from_entry, to_entry
from napari_semigda.store.stack import FileStack
from napari_semigda.store.writer import Writer

FOLDER = "semigda"
"""What is ours in a folder of images."""
LOGS = "logs"


def project_folder(path: Path) -> Path:
    """The folder of images that `path` stands for: itself, or that of its ``semigda`` or ``project.json``."""
    path = Path(path)
    if path.name == NAME:
        path = path.parent
    return path.parent if path.name == FOLDER and (path / NAME).exists() else path


def is_project(folder: Path) -> bool:
    """Whether a folder of images is a project."""
    home = Path(folder) / FOLDER
    return any((home / name).is_file() for name in (NAME, NAME + PREVIOUS))


class ProjectStore:
    """A project that is open; made by `create` or `open`.

    Methods that save return at once; a thread writes. What it cannot write is told to `on_saving`, in that thread, and
    tried again; once that goes well it is told an empty sentence. What is wrong with an image goes to `on_problem`.

    Attributes
    ----------
    folder : Path
        Holds the images, and ``semigda`` with all the rest.
    images : FileStack
        All planes of all images that are there.
    problems : list of str
        A sentence for each thing that is wrong with the project and did not keep it from opening.
    read_only : bool
        The disk takes nothing: it can be looked at, nothing is saved.
    log : Log
        Where it is noted what happens to the project; elsewhere on the computer when the disk takes nothing.
    """

    def __init__(self, folder: Path, index: Index, lock: Lock | None, problems: Iterable[str] = ()) -> None:
        self.folder, self.home = folder, folder / FOLDER
        self.problems = list(problems)
        self._on_problem: Callable[[str], object] | None = None
        self._early: list[str] = []  # what was to be said before anybody listened
        self._telling = threading.Lock()
        self.on_saving: Callable[[str], object] = lambda sentence: None
        self.read_only = lock is None
        self._lock, self._index = lock, index
        self.log = computer_log() if self.read_only else Log(self.home / LOGS)
        self.log.hide([str(folder), folder.name, *(entry.file for entry in index.images)])
        self._masks = MaskFiles(folder, self.home / "masks")
        self._entries, absent, said = scan.refresh(folder, index.images)
        self.problems += said
        before, index.images = index.images, [*self._entries, *absent]
        self.log.hide(entry.file for entry in self._entries)
        planes = []
        self._first: list[int] = []  # plane number of the first plane of each entry
        for entry in self._entries:
            self._first.append(len(planes))
            planes += scan.planes_of(folder, entry)
        if not planes:
            raise EngineError(f"{folder} holds no image that can be read: choose a folder with {KINDS}.")
        self._entry_of = np.repeat(np.arange(len(self._entries)), [len(entry.planes) for entry in self._entries])
        self.images = FileStack(planes, self._tell)
        self.pictures = Pictures(self.home / "pictures", self._place_of, self.read_only)
        self._writer = Writer(lambda problem: self.on_saving(problem))  # noqa: PLW0108 - it is set later
        if index.images != before:
            self._save_index()
        if not self.read_only:
            self._writer.put_idle(scan.check(folder, self._entries, self._checked))

    # -- opening and closing ----------------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder: Path, classes: Classes = (), scribbles: bool = False) -> ProjectStore:
        """Make a folder of images a project; masks that are in its ``semigda/masks`` are taken over.

        Raises
        ------
        EngineError
            When the folder is missing, holds no image, cannot be written, or is a project already.
        """
        folder = Path(folder).absolute()
        if not folder.is_dir():
            raise EngineError(f"{folder} is no folder: choose one with images.")
        if is_project(folder):
            try:
                read_index(folder / FOLDER)
            except NewerError:
                raise
            except EngineError:
                set_aside(folder / FOLDER / NAME, "damaged")
                set_aside(folder / FOLDER / (NAME + PREVIOUS), "damaged")
            else:
                raise EngineError(f"{folder} is a project already: choose Open project.")
        names = scan.image_names(folder)
        if is_zarr(folder) or is_one_series([folder / name for name in names]):
            raise EngineError(f"{folder} is one image (an OME-Zarr or a DICOM series): choose the folder it lies in.")
        if not names:
            raise EngineError(f"The folder {folder} holds no image: choose one with {KINDS} files.")
        home = folder / FOLDER
        try:
            home.mkdir(exist_ok=True)
            lock = Lock(home)
        except OSError as error:
            raise EngineError(refusal(home, error)) from error
        return cls._start(folder, Index(classes or first_classes(), scribbles), lock, [])

    @classmethod
    def open(cls, path: Path) -> ProjectStore:
        """Open a project, by its folder or its ``project.json``.

        Raises
        ------
        EngineError
            When there is none, it is of a newer version, open elsewhere, or damaged beyond the version before.
        """
        folder = project_folder(path).absolute()
        home = folder / FOLDER
        if not is_project(folder):
            gone = "is not there any more" if not folder.exists() else "is no project"
            raise EngineError(f"{folder} {gone}: choose Open project if it was moved, New project to make one.")
        problems = []
        try:
            lock = Lock(home)
        except OSError as error:
            lock = None
            problems.append(
                f"{folder} cannot be written to ({error.strerror or error}): what you paint there is not saved."
            )
        try:
            index, problem = read_index(home)
        except EngineError:
            if lock is not None:
                lock.release()
            raise
        return cls._start(folder, index, lock, problems + [problem] * bool(problem))

    @classmethod
    def _start(cls, folder: Path, index: Index, lock: Lock | None, problems: list[str]) -> ProjectStore:
        try:
            if lock is not None:
                for each in ("", "masks", "rounds", "pictures"):
                    sweep(folder / FOLDER / each)
            store = cls(folder, index, lock, problems)
            if lock is not None and not (folder / FOLDER / NAME).exists() and not store.flush():
                problem = store._writer.failing
                store._writer.close(1)
                raise EngineError(problem)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        store.log.event(
            "opened",
            version=__version__,
            images=len(store._entries),
            planes=len(store.images),
            rounds=len(index.rounds),
        )
        for problem in store.problems:
            store.log.problem("found", problem)
        return store

    def close(self) -> bool:
        """Write what is left and let others open the project; returns whether all is on disk."""
        written = self._writer.close()
        self.pictures.read_only = True
        if self._lock is not None:
            self.log.event("closed", all_saved=written)
            self.log.close()
            self._lock.release()
            self._lock = None
        self.read_only = True
        return written

    def flush(self) -> bool:
        """Wait until all is on disk; returns whether it is."""
        return self._writer.flush()

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Height and width of a pixel in millimetres, where all images have the same."""
        known = {entry.spacing for entry in self._entries}
        return known.pop() if len(known) == 1 else None

    def _place_of(self, plane: int) -> tuple[Path, int]:
        """The image file of a plane, and the plane's number in it."""
        number = int(self._entry_of[plane])
        return self.folder / self._entries[number].file, plane - self._first[number]

    # -- masks ------------------------------------------------------------------------------------------------------

    def read_masks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Every painted plane: its number and its mask, (H, W) uint8 in the image's own size.

        Masks that cannot be read or do not fit are passed over and named in `problems`; their files stay.
        """
        there = self._masks.names()
        for first, entry in zip(self._first, self._entries, strict=True):
            try:
                masks = self._masks.read(entry, there)
            except EngineError as error:
                self.problems.append(str(error))
                continue
            yield from ((at, mask) for at, mask in enumerate(masks, first) if mask.any())

    def save_masks(self, planes: Iterable[int], masks: Mapping[int, np.ndarray]) -> None:
        """Save the masks of the files that `planes` belong to, soon.

        Parameters
        ----------
        planes
            Whose masks changed.
        masks
            Of all painted planes by number: (H, W) whole numbers, at least as large as the image. They must not be
            written to afterwards.
        """
        if self.read_only:
            return
        for number in sorted({int(self._entry_of[plane]) for plane in planes}):
            first, entry = self._first[number], self._entries[number]
            wanted = tuple(masks.get(plane) for plane in range(first, first + len(entry.planes)))
            self._save(("masks", number), partial(self._masks.write, entry, wanted))

    # -- everything else --------------------------------------------------------------------------------------------

    @property
    def classes(self) -> Classes:
        """In the user's order."""
        return self._index.classes

    @property
    def scribbles(self) -> bool:
        """Whether what is unpainted means "not annotated"."""
        return self._index.scribbles

    def save_classes(self, classes: Classes, scribbles: bool) -> None:
        """Save the classes and the style of painting, soon."""
        if (classes, scribbles) != (self._index.classes, self._index.scribbles):
            self._index.classes, self._index.scribbles = classes, scribbles
            self._save_index()

    def marked(self, kind: str) -> frozenset[int]:
        """Numbers of the planes that are "verified", "skipped" or "empty"."""
        pairs = zip(self._first, self._entries, strict=True)
        return frozenset(first + at for first, entry in pairs for at in getattr(entry, kind) if at < len(entry.planes))

    def mark(self, kind: str, plane: int, on: bool = True) -> None:
        """Note that a plane is "verified", "skipped" or "empty", or is not."""
        number = int(self._entry_of[plane])
        marks: set[int] = getattr(self._entries[number], kind)
        (marks.add if on else marks.discard)(plane - self._first[number])
        self._save_index()
        if kind == "empty" and not self.read_only:
            self._save(("empty", number), partial(self._masks.write_emptiness, self._entries[number]))

    def new_model(self) -> Path:
        """Where the model of the next round goes: a name that no round has had."""
        folder = self.home / "rounds"
        taken = [entry.number for entry in self._index.rounds] + [
            int(path.stem[6:]) for path in folder.glob("round-*.semigda") if path.stem[6:].isdecimal()
        ]
        return folder / f"round-{max(taken, default=0) + 1}.semigda"

    def rounds(self) -> tuple[list[Round], Standing | None]:
        """Rounds whose models are there, and the one in use."""
        found, gone = [], []
        for entry in self._index.rounds:
            each = from_entry(entry, self.home / "rounds")
            (found if each.standing.model.is_file() else gone).append(each)
        if gone:
            names = ", ".join(each.standing.model.name for each in gone)
            self.problems.append(f"{names} of {self.home / 'rounds'} cannot be found: put it back, or train again.")
        in_use = [each.standing for each in found if each.standing.number == self._index.in_use]
        return found, in_use[0] if in_use else None

    def save_rounds(self, rounds: Iterable[Round], in_use: Standing | None) -> None:
        """Save rounds, soon; those whose models cannot be found stay known."""
        new = {each.standing.number: to_entry(each) for each in rounds}
        known = {entry.number: entry for entry in self._index.rounds}
        self._index.rounds = [entry for _, entry in sorted((known | new).items())]
        self._index.in_use = None if in_use is None else in_use.number
        self._save_index()

    def _save_index(self) -> None:
        if not self.read_only:
            content = self._index.to_json()
            self._save(("index",), lambda: write_json(self.home / NAME, content))

    def _save(self, key: tuple, write: Callable[[], object]) -> None:
        """Have the writing thread do it, and note how that went; what fails again and again is noted once."""

        def noted() -> None:
            began = monotonic()
            try:
                write()
            except Exception as error:
                if not self._writer.failing:
                    self.log.problem("not saved", error, kind=key[0])
                raise
            self.log.event("saved", kind=key[0], ms=round(1000 * (monotonic() - began)))

        self._writer.put(key, noted)

    @property
    def on_problem(self) -> Callable[[str], object] | None:
        """Told a sentence for what turns out to be wrong with an image, in whatever thread that is noticed."""
        return self._on_problem

    @on_problem.setter
    def on_problem(self, listener: Callable[[str], object] | None) -> None:
        with self._telling:
            self._on_problem = listener
            early, self._early = self._early, []
        for sentence in early:
            listener(sentence)

    def _tell(self, sentence: str) -> None:
        with self._telling:
            listener = self._on_problem
            if listener is None:
                self._early.append(sentence)
        if listener is not None:
            listener(sentence)

    def _checked(self, changed: list[str], updated: bool) -> None:
        """Checksums are known; called by the writing thread."""
        if changed:
            self._tell(scan.changed_sentence(changed))
        if updated:
            self._save_index()
